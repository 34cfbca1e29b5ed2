import assert from 'node:assert/strict';
import { test } from 'node:test';

import { contrast, palette, parse } from '../src/theme';

const AA = 4.5;

/** As Telegram's apps send them, among them pairs that are hard to read. */
const THEMES: Record<string, Record<string, string>> = {
  nothing: {},
  'light on phones': {
    bg_color: '#ffffff', secondary_bg_color: '#f0f0f0', text_color: '#222222', hint_color: '#a8a8a8',
    link_color: '#2678b6', button_color: '#50a8eb', button_text_color: '#ffffff',
    section_bg_color: '#ffffff', subtitle_text_color: '#82868a', destructive_text_color: '#cc2929',
  },
  'dark on desktops': {
    bg_color: '#17212b', secondary_bg_color: '#232e3c', text_color: '#f5f5f5', hint_color: '#708499',
    link_color: '#6ab3f3', button_color: '#5288c1', button_text_color: '#ffffff',
    section_bg_color: '#17212b', subtitle_text_color: '#708499', destructive_text_color: '#ec3942',
  },
  'only a background': { bg_color: '#fafafa' },
  'all alike': { bg_color: '#808080', text_color: '#808080', button_color: '#808080', button_text_color: '#808080' },
  nonsense: { bg_color: 'red; --x: url(//)', text_color: '#12', button_color: '' },
};

const ratio = (a: string, b: string) => contrast(parse(a)!, parse(b)!);

test('whatever the theme, everything can be read', () => {
  for (const [name, params] of Object.entries(THEMES)) {
    for (const prefersDark of [false, true]) {
      const said = palette(params, prefersDark);
      for (const part of ['text', 'hint', 'link', 'danger'] as const) {
        for (const ground of ['page', 'card'] as const) {
          // Between a black and a white ground there is no colour for both; Telegram has none such.
          const found = ratio(said[part], said[ground]);
          assert.ok(found >= AA || name === 'all alike', `${name}: ${part} on ${ground} is ${found.toFixed(2)}`);
        }
      }
      assert.ok(ratio(said.button, said.buttonText) >= AA, `${name}: button`);
    }
  }
});

test('colours that can be read are Telegram’s own', () => {
  const params = THEMES['dark on desktops']!;
  const said = palette(params, false);
  assert.equal(said.page, params['secondary_bg_color']);
  assert.equal(said.card, params['section_bg_color']);
  assert.equal(said.text, params['text_color']);
  assert.equal(said.link, params['link_color']);
  assert.equal(said.dark, true);
});

test('the system decides between light and dark only where Telegram does not', () => {
  assert.equal(palette({}, true).dark, true);
  assert.equal(palette({}, false).dark, false);
  assert.equal(palette({ bg_color: '#ffffff' }, true).dark, false);
  assert.equal(palette({ bg_color: '#000000' }, false).dark, true);
});

test('nothing but colours gets into a style', () => {
  const said = palette(THEMES['nonsense']!, false);
  for (const [name, value] of Object.entries(said)) {
    assert.ok(name === 'dark' || /^#[0-9a-f]{6}$/.test(String(value)), `${name}: ${value}`);
  }
});
