import {chromium} from 'playwright-core';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

/** Start Chromium, with a new profile that is removed at the end. */
export const start = (...flags) =>
  chromium.launch({executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: [...FLAGS, ...flags]});

/** Wait until a panel has answered, or has told what is wrong. Returns what it says. */
export async function waitForAnswer(page, panel = 'classifier') {
  await page.waitForSelector(`#${panel}[data-state]`, {state: 'attached'});
  return page.locator(`#${panel} .answer`).innerText();
}
