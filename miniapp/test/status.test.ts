import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Refusal } from '../src/api';
import { endingOf, endingOfRefusal } from '../src/endings';
import { parseKept } from '../src/memory';
import { isFinal, parseStatus, type Status } from '../src/status';

const WAITING = {
  state: 'WAITING_QR_SCAN', telegram_user_id: null, requires_password: false, qr_url: 'tg://login?token=AQ-_w',
  qr_base64: 'iVBORw0KGgo=', expires_in: 600, token_expires_in: 29.5, password_hint: null, attempts_left: null,
  failure: null,
};

const parsed = (fields: object): Status => {
  const status = parseStatus({ ...WAITING, ...fields });
  assert.ok(status);
  return status;
};

test('a status is read whole', () => {
  const status = parsed({});
  assert.deepEqual(status.qr, { url: 'tg://login?token=AQ-_w', png: 'iVBORw0KGgo=' });
  assert.deepEqual([status.expiresIn, status.tokenExpiresIn, status.hint], [600, 29.5, undefined]);
});

test('a link that is no login link and a picture that is none are not shown', () => {
  for (const qr_url of ['javascript:alert(1)', 'https://example.org', 'tg://resolve?domain=x', 'tg://login?token=a&b', '']) {
    assert.equal(parsed({ qr_url }).qr, undefined, qr_url);
  }
  for (const qr_base64 of ['<svg>', 'a"b', '', null, 5]) {
    assert.equal(parsed({ qr_base64 }).qr, undefined, String(qr_base64));
  }
});

test('what is no status is none', () => {
  for (const value of [null, 5, 'AUTHORIZED', [], {}, { state: 5 }]) {
    assert.equal(parseStatus(value), undefined);
  }
});

test('a state of a later version counts as under way', () => {
  const status = parsed({ state: 'WAITING_PASSKEY' });
  assert.equal(isFinal(status.state), false);
  assert.equal(endingOf(status), undefined);
});

test('each end has its outcome', () => {
  const failure = (reason: string, retry_after?: number) => ({ state: 'FAILED', failure: { reason, retry_after } });
  const outcomes: [object, object][] = [
    [{ state: 'AUTHORIZED', telegram_user_id: 4242 }, { outcome: 'authorized', account: '4242' }],
    [{ state: 'AUTHORIZED', telegram_user_id: 0 }, { outcome: 'authorized' }],
    [{ state: 'EXPIRED' }, { outcome: 'expired' }],
    [{ state: 'CANCELLED' }, { outcome: 'cancelled' }],
    [{ state: 'SUPERSEDED' }, { outcome: 'superseded' }],
    [failure('ACCOUNT_MISMATCH'), { outcome: 'mismatch' }],
    [failure('PASSWORD_INVALID'), { outcome: 'passwordSpent' }],
    [failure('TELEGRAM_FLOOD_WAIT', 300), { outcome: 'floodWait', wait: 300 }],
    [failure('LOGIN_BUDGET_EXHAUSTED', 60), { outcome: 'floodWait', wait: 60 }],
    [failure('TELEGRAM_UNAVAILABLE'), { outcome: 'telegramAway' }],
    [failure('SOMETHING_NEW'), { outcome: 'failed' }],
    [{ state: 'FAILED' }, { outcome: 'failed' }],
    [{ state: 'WAITING_PASSWORD' }, {}],
  ];
  for (const [fields, ending] of outcomes) {
    assert.deepEqual(endingOf(parsed(fields)) ?? {}, ending, JSON.stringify(fields));
  }
});

test('each refusal has its outcome, by its reason and else by its code', () => {
  const outcomes: [number, string, string][] = [
    [401, 'UNAUTHENTICATED', 'launchSpent'],
    [404, 'SESSION_NOT_FOUND', 'notSetUp'],
    [403, 'PERMISSION_DENIED', 'notSetUp'],
    [409, 'ACCOUNT_MISMATCH', 'othersAccount'],
    [409, 'SESSION_WRONG_STATE', 'refused'],
    [429, 'TELEGRAM_FLOOD_WAIT', 'floodWait'],
    [429, 'RATE_LIMITED', 'crowded'],
    [503, 'TELEGRAM_UNAVAILABLE', 'telegramAway'],
    [503, 'STORE_UNAVAILABLE', 'serviceAway'],
    [502, 'UNKNOWN', 'serviceAway'],
    [400, 'INVALID', 'refused'],
  ];
  for (const [code, reason, outcome] of outcomes) {
    const ending = endingOfRefusal(new Refusal(code, reason, 9, undefined));
    assert.deepEqual(ending, { outcome, wait: 9 }, `${code} ${reason}`);
  }
});

test('what a tab kept is read only if it is whole', () => {
  const ticket = { ticket: { id: 't', accessToken: 'a' } };
  assert.deepEqual(parseKept(JSON.stringify(ticket)), ticket);
  assert.deepEqual(parseKept('{"ending":{"outcome":"expired"}}'), { ending: { outcome: 'expired' } });
  for (const bad of [null, '{}', '[]', '{"ticket":{"id":"t"}}', '{"ticket":{"id":"","accessToken":"a"}}', '{"ending":{}}']) {
    assert.equal(parseKept(bad), undefined, String(bad));
  }
});
