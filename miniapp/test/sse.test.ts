import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EventReader } from '../src/sse';

function read(pieces: Uint8Array[]): string[] {
  const told: string[] = [];
  const reader = new EventReader((data) => told.push(data));
  pieces.forEach((piece) => reader.push(piece));
  return told;
}

const bytes = (text: string) => new TextEncoder().encode(text);

/** The same sequence in every run. */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
}

const STREAM =
  ': welcome\n\ndata: {"state":"STARTING"}\n\n: \n\nevent: status\r\nid: 7\r\ndata: {"hint":"Ключ 🔑"}\r\n\r\n' +
  'data:no space\rdata:  two spaces\r\rdata\n\nretry: 5\n\ndata: cut off';
const EVENTS = ['{"state":"STARTING"}', '{"hint":"Ключ 🔑"}', 'no space\n two spaces', ''];

test('events are read from one piece, comments and unknown fields are not', () => {
  assert.deepEqual(read([bytes(STREAM)]), EVENTS);
});

test('a stream may be cut at every place', () => {
  const whole = bytes(STREAM);
  for (let at = 0; at <= whole.length; at += 1) {
    assert.deepEqual(read([whole.slice(0, at), whole.slice(at)]), EVENTS, `cut at ${at}`);
  }
  assert.deepEqual(read(Array.from(whole, (byte) => Uint8Array.of(byte))), EVENTS);
});

test('a stream may be cut anywhere into any number of pieces', () => {
  const whole = bytes(STREAM);
  for (let seed = 1; seed <= 500; seed += 1) {
    const roll = dice(seed);
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < whole.length; ) {
      const length = roll(12);
      pieces.push(whole.slice(at, at + length));
      at += length;
    }
    assert.deepEqual(read(pieces), EVENTS, `seed ${seed}`);
  }
});

test('every line ending means the same', () => {
  for (const end of ['\n', '\r', '\r\n']) {
    const stream = ['data: a', 'data: b', '', ': beat', '', 'data: c', '', ''].join(end);
    assert.deepEqual(read([bytes(stream)]), ['a\nb', 'c'], JSON.stringify(end));
  }
});

test('an event without end is refused before it fills the memory', () => {
  const reader = new EventReader(() => undefined);
  const piece = bytes(`data: ${'x'.repeat(99_000)}\n`);
  assert.throws(() => {
    for (let n = 0; n < 20; n += 1) {
      reader.push(piece);
    }
  }, /too long/);
});

test('many heartbeats are no long event', () => {
  const reader = new EventReader(() => undefined);
  const beat = bytes(`: ${'x'.repeat(50_000)}\n\n`);
  for (let n = 0; n < 100; n += 1) {
    reader.push(beat);
  }
});
