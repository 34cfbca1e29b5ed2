import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Outcome } from '../src/endings';
import { ENGLISH, RUSSIAN, textFor, type Text } from '../src/text';

/** Every sentence of a language, by its name. */
function sentences(text: Text): Map<string, string> {
  const found = new Map<string, string>();
  const add = (name: string, value: unknown) => {
    if (typeof value === 'string') {
      found.set(name, value);
    } else if (Array.isArray(value)) {
      value.forEach((one, n) => add(`${name}.${n}`, one));
    } else if (typeof value === 'function') {
      for (const given of name === 'passwordHint' || name === 'account' || name === 'closesIn' ? ['x'] : NUMBERS) {
        add(`${name}(${given})`, (value as (given: unknown) => string)(given));
      }
      if (name === 'passwordWait') {
        add(`${name}()`, text.passwordWait(undefined));
      }
    }
  };
  for (const [name, value] of Object.entries(text)) {
    if (name !== 'endings' && name !== 'language') {
      add(name, value);
    }
  }
  for (const outcome of Object.keys(text.endings) as Outcome[]) {
    for (const wait of [undefined, 0, 1, 61, 3600, 90_000]) {
      const said = text.endings[outcome](wait === undefined ? { outcome } : { outcome, wait });
      add(`${outcome}.${wait}.title`, said.title);
      add(`${outcome}.${wait}.body`, said.body);
    }
  }
  return found;
}

const NUMBERS = Array.from({ length: 130 }, (_, n) => n);

test('both languages say the same things', () => {
  assert.deepEqual([...sentences(RUSSIAN).keys()], [...sentences(ENGLISH).keys()]);
  assert.deepEqual(Object.keys(RUSSIAN.endings), Object.keys(ENGLISH.endings));
});

test('no sentence is empty, holds a gap or is in the other language', () => {
  for (const text of [ENGLISH, RUSSIAN]) {
    for (const [name, sentence] of sentences(text)) {
      assert.ok(sentence.trim() !== '' && sentence.trim() === sentence, `${text.language} ${name}`);
      assert.ok(!/undefined|NaN|#|\[object/.test(sentence), `${text.language} ${name}: ${sentence}`);
      assert.equal(/[а-яё]/i.test(sentence), text.language === 'ru', `${text.language} ${name}: ${sentence}`);
    }
  }
});

test('numbers bend their words', () => {
  const english = [1, 2].map((n) => ENGLISH.passwordAttempts(n));
  assert.deepEqual(english, ['1 attempt left', '2 attempts left']);
  const russian = [1, 2, 5, 11, 21, 24].map((n) => RUSSIAN.passwordAttempts(n));
  assert.deepEqual(russian, [
    'Осталась 1 попытка', 'Осталось 2 попытки', 'Осталось 5 попыток',
    'Осталось 11 попыток', 'Осталась 21 попытка', 'Осталось 24 попытки',
  ]);
});

test('a wait is told in its unit and never too short', () => {
  const said = (wait: number) => ENGLISH.endings.floodWait({ outcome: 'floodWait', wait }).body;
  assert.match(said(0.2), /Wait 1 second,/);
  assert.match(said(90), /Wait 90 seconds,/);
  assert.match(said(91), /Wait 2 minutes,/);
  assert.match(said(7000), /Wait 2 hours,/);
});

test('the browser’s language decides', () => {
  for (const language of ['ru', 'ru-RU', 'RU']) {
    assert.equal(textFor(language), RUSSIAN);
  }
  for (const language of ['en', 'de-DE', 'rue', 'uk', '']) {
    assert.equal(textFor(language), ENGLISH);
  }
});
