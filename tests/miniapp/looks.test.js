// How the page looks and reads, at every size and in both themes. Pictures go to USM_SCREENSHOTS, never into git.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';

import { launch, open, SIZES } from './browser.js';
import { initData, THEMES } from './init-data.js';
import { startServer } from './server.js';

let server;
let browser;
before(async () => {
  server = await startServer();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

let users = 600_000;
const WRONG_PASSWORD = /status of 400 .*\(\/api\/qr\/password\)$/;

/** `#rrggbb` as a browser computes it. */
const computed = (colour) =>
  `rgb(${[1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16)).join(', ')})`;

for (const theme of Object.keys(THEMES)) {
  for (const size of Object.keys(SIZES)) {
    for (const language of ['en-US', 'ru-RU']) {
      const name = `${theme}-${size}-${language.slice(0, 2)}`;
      test(`fits, reads and has names: ${name}`, async () => {
        const user = (users += 1);
        await server.phone.register({
          id: user, phone: `99966${user}`, first_name: 'Ada', password: 'correct horse',
          hint: 'a mount; awordthatislongerthanmostscreensarewideandcannotbebrokenanywhere',
        });
        const ada = await open(browser, server.origin, { size, theme, language, app: name, data: initData(user) });
        const look = async (screen) => {
          await ada.isAccessible();
          await ada.fits();
          await ada.picture(`${name}-${screen}`);
        };
        await ada.code.waitFor();
        await ada.page.locator('.next').filter({ hasText: /\d/ }).waitFor();
        assert.equal(
          await ada.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor),
          computed(THEMES[theme].secondary_bg_color));
        const link = await ada.seen();
        assert.equal(link, await ada.link(), 'the code can be read');
        await look('1-code');

        await server.phone.scan(link, user);
        await ada.field.fill('wrong');
        await ada.field.press('Enter');
        await ada.page.locator('[role=alert]').filter({ hasText: /\S/ }).waitFor();
        await look('2-password');

        await ada.field.fill('correct horse');
        await ada.field.press('Enter');
        await ada.ending('authorized');
        await look('3-end');
        await ada.leave(WRONG_PASSWORD);
      });
    }
  }
}

test('without Telegram’s theme the system’s is followed', async () => {
  const ada = await open(browser, server.origin, {});
  await ada.ending('outside');
  for (const theme of ['dark', 'light']) {
    await ada.page.emulateMedia({ colorScheme: theme });
    await ada.page.waitForFunction((wanted) => document.documentElement.style.colorScheme === wanted, theme);
    await ada.isAccessible();
  }
  await ada.leave();
});

test('the app around it is told of, changes the theme and is closed by the button', async () => {
  const ada = await open(browser, server.origin, {
    theme: 'light',
    before: (page) => page.addInitScript(() => {
      globalThis.told = [];
      globalThis.TelegramWebviewProxy = { postEvent: (name, data) => globalThis.told.push([name, JSON.parse(data)]) };
    }),
  });
  await ada.ending('outside');
  const told = async () => (await ada.page.evaluate(() => globalThis.told)).map(([name]) => name);
  assert.ok((await told()).includes('web_app_ready') && (await told()).includes('web_app_expand'));
  await ada.page.evaluate((theme) => globalThis.Telegram.WebView.receiveEvent('theme_changed', { theme_params: theme }), THEMES.dark);
  assert.equal(
    await ada.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor),
    computed(THEMES.dark.secondary_bg_color));
  await ada.page.getByRole('button', { name: 'Close' }).click();
  assert.ok((await told()).includes('web_app_close'));
  await ada.leave();
});

test('motion stops for those who do not want it', async () => {
  const ada = await open(browser, server.origin, {});
  await ada.page.emulateMedia({ reducedMotion: 'reduce' });
  await ada.ending('outside');
  assert.equal(await ada.page.locator('.screen').evaluate((one) => getComputedStyle(one).animationName), 'none');
  await ada.leave();
});

test('the page asks for nothing that its policy refuses, and other sites cannot frame it', async () => {
  const answer = await fetch(`${server.origin}/miniapp/`);
  const policy = answer.headers.get('content-security-policy');
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /frame-ancestors https:\/\/web\.telegram\.org https:\/\/\*\.telegram\.org 'self'/);

  const elsewhere = createServer((_, answering) => {
    answering.setHeader('content-type', 'text/html');
    answering.end(`<iframe src="${server.origin}/miniapp/"></iframe>`);
  });
  await new Promise((listening) => elsewhere.listen(0, '127.0.0.1', listening));
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    const refused = page.waitForEvent('console', {
      predicate: (message) => /frame-ancestors/.test(message.text()), timeout: 20_000,
    });
    await page.goto(`http://127.0.0.1:${elsewhere.address().port}/`);
    await refused;
  } finally {
    await context.close();
    elsewhere.close();
  }
});
