// Times the page as it is, and with another runtime or network: node test/measure.mjs [int8.onnx]
import {readFile, writeFile, mkdtemp, rm} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

import {start, waitForAnswer} from './browser.mjs';
import {serve} from './server.mjs';

const ROUNDS = 7;
const PAGE = new URL('../../build/web', import.meta.url).pathname;
const RUNTIME = new URL('../node_modules/onnxruntime-web/dist', import.meta.url).pathname;
const BUNDLE = '/ort/ort.wasm.bundle.min.mjs';
const BINARY = '/ort/ort-wasm-simd-threaded.wasm';

const folder = await mkdtemp(join(tmpdir(), 'measure-'));
const webgpu = join(folder, 'network.js');
await writeFile(webgpu, (await readFile(join(PAGE, 'network.js'), 'utf8')).replace("['wasm']", "['webgpu']"));
const larger = {[BUNDLE]: join(RUNTIME, 'ort.webgpu.bundle.min.mjs'), [BINARY]: join(RUNTIME, 'ort-wasm-simd-threaded.asyncify.wasm')};
const variants = {
  'float32, wasm': {},
  ...process.argv[2] && {'int8, wasm': {'/classifier.onnx': process.argv[2]}},
  'float32, wasm of the WebGPU build': larger,
  'float32, WebGPU in software': {...larger, '/network.js': webgpu},
};

const browser = await start('--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan');
const times = {};
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, instead] of Object.entries(variants)) { // in turns, so that a busy machine is so for all
    const server = await serve(PAGE, instead);
    const context = await browser.newContext({serviceWorkers: 'block'});
    context.setDefaultTimeout(120_000); // WebGPU in software is slow
    const page = await context.newPage();
    await page.goto(server.url);
    const answer = await waitForAnswer(page);
    const first = await page.locator('#first').innerText();
    const once = await page.locator('#classifier .times').innerText();
    const later = await page.evaluate(async () => {
      const [{classify}, {loadNetwork}, {decode}] = await Promise.all(
        ['classifier', 'network', 'image'].map((module) => import(`${location.href}${module}.js`)));
      const bitmap = await decode(await (await fetch('photographs/cat.jpg')).blob(), 'cat');
      const network = await loadNetwork('classifier');
      const answers = [];
      for (let i = 0; i < 50; i++) answers.push(await classify(network, bitmap));
      const median = (what) => answers.map((one) => one[what]).sort((a, b) => a - b)[25];
      return [median('preparing'), median('running')];
    }).catch((error) => [NaN, error.message]);
    const [loaded, , ran] = [...once.matchAll(/([\d.]+) ms/g)].map((match) => Number(match[1]));
    (times[name] ??= []).push({answer, first: 1000 * Number(first.match(/[\d.]+/)?.[0]), loaded, ran, prepares: later[0], runs: later[1]});
    await context.close();
    await server.close();
  }
}
await browser.close();
await rm(folder, {recursive: true});
console.log(`medians of ${ROUNDS} rounds, in ms`);
console.table(Object.fromEntries(Object.entries(times).map(([name, rounds]) => {
  const median = (key) => Number(rounds.map((one) => one[key]).sort((a, b) => a - b)[ROUNDS >> 1]?.toFixed?.(1));
  return [name, {
    'first answer': median('first'), loading: median('loaded'), 'first run': median('ran'), 'later runs': median('runs'),
    'later preparing': median('prepares'), answer: rounds[0].answer.slice(0, 40),
  }];
})));
