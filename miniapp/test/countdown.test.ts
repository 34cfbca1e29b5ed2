import assert from 'node:assert/strict';
import { test } from 'node:test';

import { clock, deadlineIn, secondsLeft, shareLeft, spokenSeconds } from '../src/countdown';

test('seconds count down to nothing and stay there', () => {
  const deadline = deadlineIn(3, 1000);
  const seen = [1000, 1001, 2000, 3999.9, 4000, 9000].map((now) => secondsLeft(deadline, now));
  assert.deepEqual(seen, [3, 3, 2, 1, 0, 0]);
});

test('the bar is full at first, empty at the end, and never beyond', () => {
  const deadline = deadlineIn(10, 0);
  assert.deepEqual([-5, 0, 5000, 10_000, 20_000].map((now) => shareLeft(deadline, now)), [1, 1, 0.5, 0, 0]);
  assert.equal(shareLeft(deadlineIn(0, 0), 0), 0);
});

test('a wait that was joined midway keeps its whole length', () => {
  assert.equal(shareLeft(deadlineIn(10, 0, 30_000), 0), 1 / 3);
  assert.equal(shareLeft(deadlineIn(40, 0, 30_000), 0), 1);
});

test('the clock reads as one', () => {
  assert.deepEqual([0, 5, 65, 600, 3600, 3725].map(clock), ['0:00', '0:05', '1:05', '10:00', '1:00:00', '1:02:05']);
});

test('a screen reader is told in steps, and of nothing left only when nothing is left', () => {
  assert.deepEqual([30, 29, 21, 20, 1, 0].map((n) => spokenSeconds(n)), [30, 30, 30, 20, 10, 0]);
});
