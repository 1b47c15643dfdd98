// Takes pictures of the page, to look at: node test/picture.mjs FOLDER
import {mkdir} from 'node:fs/promises';
import {join} from 'node:path';

import {start, waitForAnswer} from './browser.mjs';
import {serve} from './server.mjs';

const [folder] = process.argv.slice(2);
await mkdir(folder, {recursive: true});
const server = await serve(new URL('../../build/web', import.meta.url).pathname);
const browser = await start();
for (const [name, options] of Object.entries({
  phone: {viewport: {width: 360, height: 780}, deviceScaleFactor: 2},
  desktop: {viewport: {width: 1000, height: 720}},
  dark: {viewport: {width: 1000, height: 720}, colorScheme: 'dark'},
})) {
  const context = await browser.newContext({...options, serviceWorkers: 'block'});
  const page = await context.newPage();
  await page.goto(server.url);
  await waitForAnswer(page);
  await page.locator('#classifier .samples button').nth(3).hover();
  await page.screenshot({path: join(folder, `${name}.png`), fullPage: true});
  await page.click('#find-tab');
  await waitForAnswer(page, 'detector');
  await page.screenshot({path: join(folder, `${name}-detector.png`), fullPage: true});
  await page.click('#name-tab');
  await page.setInputFiles('#classifier input', {name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('a')});
  await page.waitForSelector('#classifier[data-state=failed]');
  await page.focus('#classifier input');
  await page.screenshot({path: join(folder, `${name}-problem.png`), fullPage: true});
  await context.close();
}
await browser.close();
await server.close();
