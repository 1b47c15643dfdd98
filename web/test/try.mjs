import {chromium} from 'playwright-core';
import {serve} from './server.mjs';
const server = await serve('build/web');
const browser = await chromium.launch({executablePath: '/usr/bin/chromium', args: ['--headless','--no-sandbox','--disable-gpu','--disable-quic','--no-first-run','--disable-background-networking','--disable-component-update','--disable-sync']});
for (let i = 0; i < 3; i++) {
const context = await browser.newContext({viewport: {width: 1000, height: 900}});
const page = await context.newPage();
page.on('console', (m) => console.log('console', m.text())); page.on('pageerror', (e) => console.log('pageerror', e));
await page.goto(server.url);
await page.waitForFunction(() => document.getElementById('first').textContent || document.querySelector('[data-state=failed]'), null, {timeout: 20000});
console.log(await page.locator('#classifier .answer').textContent(), '|', await page.locator('#classifier .times').textContent(), '|', await page.locator('#first').textContent());
if (i==2) {
await page.screenshot({path: '/tmp/c.png', fullPage: true});
await page.click('#find-tab');
await page.waitForFunction(() => document.querySelector('#detector[data-state]'), null, {timeout: 20000});
console.log(await page.locator('#detector .answer').textContent(), '|', await page.locator('#detector .times').textContent());
await page.screenshot({path: '/tmp/d.png', fullPage: true});
await page.waitForFunction(() => document.getElementById('offline').textContent);
console.log(server.requests.length, server.requests.join(' '));
}
await context.close();
}
await browser.close(); await server.close();
