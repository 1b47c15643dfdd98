// Times the page as it is, and with another runtime or network: node test/measure.mjs int8.onnx ../benchmarks/web.csv
import {mkdtemp, readFile, rm, writeFile} from 'node:fs/promises';
import {cpus, tmpdir} from 'node:os';
import {join} from 'node:path';

import {start, waitForAnswer} from './browser.mjs';
import {serve} from './server.mjs';

const [int8, csv] = process.argv.slice(2);
if (!csv) {
  console.error('Two files are needed, int8.onnx to read and a CSV to write: node test/measure.mjs int8.onnx ../benchmarks/web.csv');
  process.exit(2);
}
const ROUNDS = 7;
const PAGE = new URL('../../build/web', import.meta.url).pathname;
const RUNTIME = new URL('../node_modules/onnxruntime-web', import.meta.url).pathname;
const BUNDLE = '/ort/ort.wasm.bundle.min.mjs';
const BINARY = '/ort/ort-wasm-simd-threaded.wasm';

const folder = await mkdtemp(join(tmpdir(), 'measure-'));
const webgpu = join(folder, 'network.js');
await writeFile(webgpu, (await readFile(join(PAGE, 'network.js'), 'utf8')).replace("['wasm']", "['webgpu']"));
const larger = {
  [BUNDLE]: join(RUNTIME, 'dist/ort.webgpu.bundle.min.mjs'),
  [BINARY]: join(RUNTIME, 'dist/ort-wasm-simd-threaded.asyncify.wasm'),
};
const networks = {
  'float32, WebAssembly': {},
  'int8, WebAssembly': {'/classifier.onnx': int8},
  'float32, WebAssembly of the WebGPU build': larger,
  'float32, WebGPU in software (SwiftShader)': {...larger, '/network.js': webgpu},
};

const browser = await start('--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan');
const {version} = JSON.parse(await readFile(join(RUNTIME, 'package.json'), 'utf8'));
const about = [browser.version(), version, cpus()[0].model];
const rows = [['network', 'round', 'first_answer_ms', 'loading_ms', 'first_run_ms', 'later_run_ms', 'chromium', 'onnxruntime_web', 'machine']];
for (let round = 1; round <= ROUNDS; round++) {
  for (const [name, instead] of Object.entries(networks)) { // in turns, so that a busy machine is so for all
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
      return answers.map(({running}) => running).sort((a, b) => a - b)[25];
    });
    const [loaded, , ran] = [...once.matchAll(/([\d.]+) ms/g)].map((match) => match[1]);
    rows.push([name, round, Math.round(1000 * first.match(/[\d.]+/)[0]), loaded, ran, later.toFixed(2), ...about]);
    console.log(...rows.at(-1).slice(0, 6), answer.split('\n')[0]);
    await context.close();
    await server.close();
  }
}
await browser.close();
await rm(folder, {recursive: true});
const quote = (value) => (/[",]/.test(value) ? `"${value}"` : value);
await writeFile(csv, rows.map((row) => `${row.map(quote).join()}\n`).join(''));
