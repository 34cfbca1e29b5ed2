import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Bridge, isAppId, readLaunch } from '../src/telegram';

const INIT = 'query_id=AAF&user=%7B%22id%22%3A7%2C%22first_name%22%3A%22A%20%2B%20B%22%7D&auth_date=1&hash=ab12';
const THEME = { bg_color: '#17212b', text_color: '#f5f5f5' };
const HASH =
  `#tgWebAppData=${encodeURIComponent(INIT)}&tgWebAppVersion=8.0&tgWebAppPlatform=android` +
  `&tgWebAppThemeParams=${encodeURIComponent(JSON.stringify(THEME))}`;

test('Telegram’s signed data is taken byte by byte as it was signed', () => {
  assert.equal(readLaunch(HASH, '?app_id=news').initData, INIT);
});

test('a route of the page may stand before it', () => {
  assert.equal(readLaunch(HASH.replace('#', '#/login?'), '').initData, INIT);
});

test('the theme is read, and what is none is none', () => {
  assert.deepEqual(readLaunch(HASH, '').theme, THEME);
  for (const bad of ['', '{', '[]', 'null', '"x"', '{"bg_color":5}']) {
    assert.deepEqual(readLaunch(`#tgWebAppThemeParams=${encodeURIComponent(bad)}`, '').theme, {}, bad);
  }
});

test('outside of Telegram there is no data', () => {
  for (const hash of ['', '#', '#tgWebAppData=', '#tgWebAppData=user%3D1', '#hash=1', '#%E0%A4%A']) {
    assert.equal(readLaunch(hash, '').initData, '', hash);
  }
});

test('the app is named by the address first, then by a start parameter', () => {
  const started = `#tgWebAppData=${encodeURIComponent(`start_param=signed&${INIT}`)}`;
  assert.equal(readLaunch(started, '').appId, 'signed');
  assert.equal(readLaunch(`${started}&tgWebAppStartParam=hash`, '').appId, 'hash');
  assert.equal(readLaunch(`${started}&tgWebAppStartParam=hash`, '?tgWebAppStartParam=query').appId, 'query');
  assert.equal(readLaunch(started, '?tgWebAppStartParam=query&app_id=asked').appId, 'asked');
  assert.equal(readLaunch(HASH, '').appId, undefined);
});

test('the address may stand for an app of each user', () => {
  assert.equal(readLaunch(HASH, '?app_id=user-%7Buser_id%7D').appId, 'user-7');
  assert.equal(readLaunch('', '?app_id={user_id}').appId, undefined);
});

test('only names that the contract allows are apps', () => {
  for (const good of ['news', 'A.b_c-9', '_x', 'x'.repeat(128)]) {
    assert.ok(isAppId(good), good);
  }
  for (const bad of ['', '.hidden', '-dash', 'a b', 'ключ', 'a/b', 'x'.repeat(129)]) {
    assert.ok(!isAppId(bad), bad);
  }
});

interface FakeHost {
  parent?: unknown;
  listeners: ((event: unknown) => void)[];
  [name: string]: unknown;
}

function host(extra: Record<string, unknown> = {}): FakeHost {
  const made: FakeHost = {
    listeners: [],
    addEventListener: (_: string, listener: (event: unknown) => void) => made.listeners.push(listener),
    ...extra,
  };
  made.parent ??= made;
  return made;
}

test('an app on a phone is spoken to by its proxy and delivers by any of its ways', () => {
  const sent: [string, string][] = [];
  const fake = host({ TelegramWebviewProxy: { postEvent: (name: string, data: string) => sent.push([name, data]) } });
  const bridge = new Bridge(fake as never);
  const heard: unknown[] = [];
  bridge.on('theme_changed', (data) => heard.push(data));
  bridge.ready();
  assert.ok(bridge.inside);
  assert.deepEqual(sent[0], ['web_app_ready', '{}']);
  assert.ok(sent.some(([name]) => name === 'web_app_expand'));
  assert.ok(!sent.some(([name]) => name === 'iframe_ready'));

  const { Telegram, TelegramGameProxy, TelegramGameProxy_receiveEvent: receive } = fake as never as {
    Telegram: { WebView: { receiveEvent(name: string, data: unknown): void } };
    TelegramGameProxy: { receiveEvent(name: string, data: unknown): void };
    TelegramGameProxy_receiveEvent(name: string, data: unknown): void;
  };
  Telegram.WebView.receiveEvent('theme_changed', { n: 1 });
  TelegramGameProxy.receiveEvent('theme_changed', { n: 2 });
  receive('theme_changed', { n: 3 });
  receive('unknown', {});
  assert.deepEqual(heard, [{ n: 1 }, { n: 2 }, { n: 3 }]);
});

test('in a frame the messages of the parent count and no other', () => {
  const sent: string[] = [];
  const parent = { postMessage: (message: string) => sent.push(message) };
  const fake = host({ parent });
  const bridge = new Bridge(fake as never);
  const heard: unknown[] = [];
  bridge.on('theme_changed', (data) => heard.push(data));
  bridge.ready();
  assert.ok(bridge.inside);
  assert.equal(JSON.parse(sent[0] ?? '').eventType, 'iframe_ready');

  const data = JSON.stringify({ eventType: 'theme_changed', eventData: { n: 1 } });
  const deliver = (event: unknown) => fake.listeners.forEach((listener) => listener(event));
  deliver({ source: parent, data });
  deliver({ source: {}, data });
  deliver({ source: fake, data });
  deliver({ source: parent, data: 'not json' });
  deliver({ source: parent, data: { eventType: 'theme_changed' } });
  assert.deepEqual(heard, [{ n: 1 }]);
});

test('without an app around it the page says nothing to anybody', () => {
  const bridge = new Bridge(host() as never);
  bridge.ready();
  assert.ok(!bridge.inside);
});
