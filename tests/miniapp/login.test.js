// The page in a real browser against a real service: what people do, and what they are told.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { launch, open } from './browser.js';
import { initData } from './init-data.js';
import { startServer } from './server.js';

const WRONG_PASSWORD = /^error: Failed to load resource: .*status of 400 .*\(\/api\/qr\/password\)$/;
const REFUSED_START = /^error: Failed to load resource: .*status of 4\d\d .*\(\/api\/qr\/start\)$/;

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

let users = 500_000;
let apps = 0;

/** A new person, who opens the page for an app of their own. */
async function visit({ password, hint, ...how } = {}) {
  const user = (users += 1);
  await server.phone.register({ id: user, phone: `99966${user}`, first_name: 'Ada', ...(password && { password, hint }) });
  const app = how.app ?? `app-${(apps += 1)}`;
  const data = how.data ?? initData(user);
  const seen = await open(browser, server.origin, { ...how, app, data });
  return Object.assign(seen, { user, app, data });
}

const loggedIn = async (user) => (await server.phone.keys()).filter((key) => key.user === user).length;

test('a code that is read from the screen and scanned signs in', async () => {
  const ada = await visit();
  await ada.code.waitFor();
  const link = await ada.seen();
  assert.match(link, /^tg:\/\/login\?token=/);
  assert.equal(link, await ada.link(), 'the button leads where the code leads');
  await server.phone.scan(link, ada.user);
  const words = await ada.ending('authorized');
  assert.match(words, /You are signed in/);
  assert.match(words, new RegExp(`Account ${ada.user}`));
  assert.equal(await loggedIn(ada.user), 1);
  await ada.leave();
});

test('the code draws itself anew, with a countdown, and the new one works', async () => {
  await server.phone.configure({ qr_ttl: 6 });
  try {
    const ada = await visit({ theme: 'dark' });
    const left = async () => Number(/New code in (\d+) s/.exec(await ada.page.locator('.next').innerText())?.[1]);
    await ada.page.getByText(/New code in \d+ s/).waitFor();
    const first = { link: await ada.link(), left: await left() };
    assert.ok(first.left > 0 && first.left <= 6, String(first.left));
    assert.equal(await ada.seen(), first.link);

    const bar = ada.page.getByRole('progressbar', { name: 'Time left for this code' });
    assert.equal(await bar.getAttribute('aria-valuenow'), '10', 'screen readers are told in steps');
    await ada.page.waitForFunction((from) => !document.querySelector('.next').textContent.includes(` ${from} `), first.left);
    assert.ok((await left()) < first.left);

    await ada.page.waitForFunction((old) => document.querySelector('a.main')?.href !== old, first.link);
    await ada.page.getByText(/New code in \d+ s/).waitFor();
    const second = await ada.seen();
    assert.notEqual(second, first.link);
    assert.equal(second, await ada.link());
    await server.phone.scan(second, ada.user);
    await ada.ending('authorized');
    await ada.leave();
  } finally {
    await server.phone.configure({ qr_ttl: 30 });
  }
});

test('a password is asked for with its hint; a wrong one costs an attempt, the right one signs in', async () => {
  const ada = await visit({ password: 'correct horse', hint: 'a mount' });
  await ada.code.waitFor();
  await server.phone.scan(await ada.link(), ada.user);
  await ada.field.waitFor();
  assert.ok(await ada.field.evaluate((field) => field === document.activeElement), 'one can type at once');
  assert.deepEqual(
    await ada.field.evaluate((field) => [field.type, field.autocomplete]), ['password', 'current-password']);
  await ada.page.getByText('Hint: a mount').waitFor();
  await ada.page.getByText('5 attempts left').waitFor();

  await ada.page.getByRole('button', { name: 'Continue' }).click();
  await ada.page.getByRole('alert').getByText('Enter the password.').waitFor();

  await ada.field.fill('wrong');
  await ada.page.getByRole('button', { name: 'Show the password' }).click();
  assert.equal(await ada.field.getAttribute('type'), 'text');
  await ada.page.getByRole('button', { name: 'Hide the password' }).click();
  assert.equal(await ada.field.getAttribute('type'), 'password');
  await ada.page.getByRole('button', { name: 'Continue' }).click();
  await ada.page.getByRole('alert').getByText('That password is wrong. Try again.').waitFor();
  await ada.page.getByText('4 attempts left').waitFor();
  assert.ok(await ada.field.evaluate((field) => field === document.activeElement), 'one can type again at once');

  await ada.field.fill('correct horse');
  await ada.page.getByRole('button', { name: 'Continue' }).click();
  await ada.ending('authorized');
  await ada.leave(WRONG_PASSWORD);
});

test('when no attempts are left it says so', async () => {
  const ada = await visit({ password: 'correct horse', hint: 'a mount' });
  await ada.code.waitFor();
  await server.phone.scan(await ada.link(), ada.user);
  for (let left = 5; left > 0; left -= 1) {
    await ada.page.getByText(`${left} attempt${left === 1 ? '' : 's'} left`).waitFor();
    await ada.field.fill(`wrong ${left}`);
    await ada.field.press('Enter');
  }
  assert.match(await ada.ending('passwordSpent'), /Too many wrong passwords/);
  assert.equal(await loggedIn(ada.user), 0);
  await ada.leave(WRONG_PASSWORD);
});

test('another account that scans is turned away in words', async () => {
  const ada = await visit();
  await server.phone.register({ id: 700_001, phone: '9996700001', first_name: 'Eve' });
  await ada.code.waitFor();
  await server.phone.scan(await ada.link(), 700_001);
  const words = await ada.ending('mismatch');
  assert.match(words, /That is a different account/);
  assert.match(words, /open it again from the bot/);
  await ada.leave();
});

test('cancelling ends it and leaves nothing', async () => {
  const ada = await visit();
  await ada.code.waitFor();
  await ada.page.getByRole('button', { name: 'Cancel' }).click();
  assert.match(await ada.ending('cancelled'), /The login was cancelled/);
  assert.equal(await loggedIn(ada.user), 0);
  await ada.leave();
});

test('a login that is begun anew elsewhere tells the older page', async () => {
  const ada = await visit();
  await ada.code.waitFor();
  const again = await open(browser, server.origin, { app: ada.app, data: initData(ada.user) });
  await again.code.waitFor();
  assert.match(await ada.ending('superseded'), /A newer login took over/);
  await again.leave();
  await ada.leave();
});

test('a login that takes too long ends in words', async () => {
  const hurried = await startServer({ env: { QR_TICKET_TTL: '4' }, apps: ['news'] });
  try {
    await hurried.phone.register({ id: 800_001, phone: '9996800001', first_name: 'Ada' });
    const ada = await open(browser, hurried.origin, { app: 'news', data: initData(800_001) });
    await ada.page.getByText(/This login closes in 0:0\d/).waitFor();
    assert.match(await ada.ending('expired'), /The time is up/);
    await ada.page.reload();
    await ada.ending('expired');
    await ada.leave();

    const unwanted = await open(browser, hurried.origin, { app: 'other', data: initData(800_001) });
    assert.match(await unwanted.ending('notSetUp'), /This is not set up for you/);
    await unwanted.leave(REFUSED_START);
  } finally {
    await hurried.stop();
  }
});

test('an app that belongs to another account says so', async () => {
  const ada = await visit();
  await ada.code.waitFor();
  await server.phone.scan(await ada.link(), ada.user);
  await ada.ending('authorized');
  await ada.leave();
  const eve = await visit({ app: ada.app });
  assert.match(await eve.ending('othersAccount'), /Another account is connected/);
  await eve.leave(REFUSED_START);
});

test('a pause that Telegram asks for is told with its length', async () => {
  // A service of its own: until the pause is over nobody begins there.
  const paused = await startServer();
  await paused.phone.fail({ method: 'auth.exportLoginToken', count: 1, error: 'FLOOD_WAIT_300' });
  const refused = async (id, length) => {
    const ada = await open(browser, paused.origin, { app: `app-${id}`, data: initData(id) });
    assert.match(await ada.ending('floodWait'), length);
    await ada.leave(REFUSED_START);
  };
  await refused(800_003, /Wait 5 minutes/);
  await refused(800_004, /Wait [45] minutes/);
  await paused.stop();
});

test('a service that goes away is waited for, and people are told', async () => {
  const short = await startServer();
  const ada = await open(browser, short.origin, { app: 'news', data: initData(800_002) });
  await ada.code.waitFor();
  await short.stop('SIGKILL');
  await ada.page.getByRole('status').getByText('No connection to the service. Trying again…').waitFor();
  assert.ok(await ada.code.isVisible());
  await ada.leave(/^error: Failed to load resource: net::ERR_/);
});

test('it speaks Russian to those whose browser does', async () => {
  const ada = await visit({ language: 'ru-RU', password: 'correct horse', hint: 'лошадь' });
  await ada.code.waitFor();
  await ada.page.getByRole('heading', { name: 'Подключите аккаунт Telegram' }).waitFor();
  assert.equal(await ada.page.locator('html').getAttribute('lang'), 'ru');
  await ada.page.getByText(/Новый код через \d+ с/).waitFor();
  await server.phone.scan(await ada.link(), ada.user);
  await ada.page.getByText('Подсказка: лошадь').waitFor();
  await ada.page.getByText('Осталось 5 попыток').waitFor();
  await ada.field.fill('wrong');
  await ada.field.press('Enter');
  await ada.page.getByText('Осталось 4 попытки').waitFor();
  await ada.field.fill('correct horse');
  await ada.field.press('Enter');
  assert.match(await ada.ending('authorized'), /Вы вошли/);
  await ada.leave(WRONG_PASSWORD);
});

test('the keyboard is enough', async () => {
  const ada = await visit({ password: 'correct horse', hint: 'a mount' });
  const { keyboard } = ada.page;
  const focused = () => ada.page.evaluate(() => {
    const { activeElement: one } = document;
    const { outlineStyle } = getComputedStyle(one);
    return { name: one.getAttribute('aria-label') ?? one.textContent, tag: one.tagName, marked: outlineStyle !== 'none' };
  });
  await ada.code.waitFor();
  await keyboard.press('Tab');
  assert.deepEqual(await focused(), { name: 'Open in Telegram', tag: 'A', marked: true });
  await keyboard.press('Tab');
  assert.deepEqual(await focused(), { name: 'Cancel', tag: 'BUTTON', marked: true });

  await server.phone.scan(await ada.link(), ada.user);
  await ada.field.waitFor();
  assert.equal((await focused()).tag, 'INPUT');
  await keyboard.type('wrong');
  await keyboard.press('Enter');
  await ada.page.getByText('4 attempts left').waitFor();
  assert.equal((await focused()).tag, 'INPUT');
  await keyboard.press('Tab');
  assert.deepEqual(await focused(), { name: 'Show the password', tag: 'BUTTON', marked: true });
  await keyboard.press('Tab');
  assert.deepEqual(await focused(), { name: 'Continue', tag: 'BUTTON', marked: true });
  await keyboard.press('Shift+Tab');
  await keyboard.press('Shift+Tab');
  await keyboard.type('correct horse');
  await keyboard.press('Enter');
  await ada.ending('authorized');
  assert.equal((await focused()).tag, 'H1', 'a screen reader goes on at the words of the end');
  await ada.leave(WRONG_PASSWORD);
});

test('a reload goes on with the same login', async () => {
  const ada = await visit();
  await ada.code.waitFor();
  const link = await ada.link();
  await ada.page.reload();
  await ada.code.waitFor();
  assert.equal(await ada.link(), link);
  await server.phone.scan(link, ada.user);
  await ada.ending('authorized');
  const kept = await ada.page.evaluate(() => JSON.stringify({ ...sessionStorage }));
  assert.ok(!kept.includes('accessToken'), kept);
  await ada.page.reload();
  await ada.ending('authorized');
  await ada.leave();
});

test('what Telegram signed is good for one opening', async () => {
  const ada = await visit();
  await ada.code.waitFor();
  const copy = await open(browser, server.origin, { app: ada.app, data: ada.data });
  assert.match(await copy.ending('launchSpent'), /This page was opened too long ago/);
  await copy.leave(REFUSED_START);
  await server.phone.scan(await ada.link(), ada.user);
  await ada.ending('authorized');
  await ada.leave();
});

test('what cannot begin says why', async () => {
  const stale = await open(browser, server.origin, { app: 'news', data: initData(1, { age: 3600 }) });
  assert.match(await stale.ending('launchSpent'), /open it again from the bot/);
  await stale.leave(REFUSED_START);

  const forged = await open(browser, server.origin, { app: 'news', data: initData(1, { bot: { id: 4242, token: '4242:other' } }) });
  await forged.ending('launchSpent');
  await forged.leave(REFUSED_START);

  const outside = await open(browser, server.origin, {});
  assert.match(await outside.ending('outside'), /Open this page in Telegram/);
  await outside.leave();

  const nameless = await open(browser, server.origin, { data: initData(1) });
  assert.match(await nameless.ending('appMissing'), /This link is incomplete/);
  await nameless.leave();
});

test('the bot may name the app by its start parameter', async () => {
  const user = (users += 1);
  await server.phone.register({ id: user, phone: `99966${user}`, first_name: 'Ada' });
  const ada = await open(browser, server.origin, { data: initData(user, { start_param: 'started' }) });
  await ada.code.waitFor();
  await ada.leave();
});

test('one address leads each user to an app of their own', async () => {
  const user = (users += 1);
  const own = await startServer({ apps: ['user-{user_id}'] });
  try {
    const ada = await open(browser, own.origin, { app: 'user-{user_id}', data: initData(user) });
    await ada.code.waitFor();
    await ada.leave();
    const eve = await open(browser, own.origin, { app: `user-${user}`, data: initData(user + 1) });
    await eve.ending('notSetUp');
    await eve.leave(REFUSED_START);
  } finally {
    await own.stop();
  }
});

test('where no stream comes through, it asks', async () => {
  const ada = await visit({ before: (page) => page.route('**/api/qr/events?*', (route) => route.abort()) });
  await ada.code.waitFor();
  await server.phone.scan(await ada.link(), ada.user);
  await ada.ending('authorized');
  await ada.leave(/^error: Failed to load resource: net::ERR_FAILED \(\/api\/qr\/events\)$/);
});

test('without a network it says so, and goes on by itself', async () => {
  const ada = await visit();
  await ada.code.waitFor();
  await ada.context.setOffline(true);
  await ada.page.getByText('You are offline.').waitFor();
  await ada.context.setOffline(false);
  await ada.page.getByText('You are offline.').waitFor({ state: 'hidden' });
  await server.phone.scan(await ada.link(), ada.user);
  await ada.ending('authorized');
  await ada.leave(/net::ERR_INTERNET_DISCONNECTED/);
});
