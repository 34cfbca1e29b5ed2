import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Refusal, Unreachable, type Api, type Ticket } from '../src/api';
import { Login, type Link, type Screen, type World } from '../src/login';
import type { Kept } from '../src/memory';
import { parseStatus, type State, type Status } from '../src/status';

const TICKET: Ticket = { id: 'ticket', accessToken: 'token' };
const QR = { url: 'tg://login?token=AA', png: 'AAAA' };

function status(state: State, fields: object = {}): Status {
  const made = parseStatus({ state, qr_url: QR.url, qr_base64: QR.png, expires_in: 600, ...fields });
  assert.ok(made);
  return made;
}

const fails = (error: Error) => () => Promise.reject(error);
const away = fails(new Unreachable('away'));

/** A service, a tab and a clock that do as a test says. What it does not say fails. */
class Fake implements World {
  screens: Screen[] = [];
  links: Link[] = [];
  kept: Kept | undefined;
  slept: number[] = [];
  time = 0;
  api: Api = {
    start: async () => ({ ticket: TICKET, qr: QR, ttl: 600 }),
    status: away,
    events: away,
    password: away,
    cancel: away,
  };

  memory = {
    recall: () => this.kept,
    keep: (kept: Kept) => void (this.kept = kept),
    forget: () => void (this.kept = undefined),
  };

  constructor(api: Partial<Api> = {}) {
    Object.assign(this.api, api);
  }

  show(screen: Screen) {
    this.screens.push(screen);
  }

  showLink(link: Link) {
    this.links.push(link);
  }

  now() {
    return this.time;
  }

  async sleep(ms: number) {
    this.slept.push(ms);
    this.time += ms;
    assert.ok(this.slept.length < 1000, 'it waits for ever');
    await Promise.resolve();
  }

  get last(): Screen | undefined {
    return this.screens[this.screens.length - 1];
  }

  get outcome(): string | undefined {
    return this.last?.kind === 'end' ? this.last.ending.outcome : undefined;
  }

  kinds() {
    return this.screens.map((screen) => screen.kind);
  }
}

/** One stream after another, each a list of what it tells. */
function streams(...told: (Status[] | Error)[]): Api['events'] {
  return async (_ticket, take) => {
    const next = told.shift() ?? new Unreachable('no more');
    if (next instanceof Error) {
      throw next;
    }
    next.forEach(take);
  };
}

test('a login is begun, followed and remembered until its end', async () => {
  const fake = new Fake({ events: streams([status('WAITING_QR_SCAN'), status('AUTHORIZED', { telegram_user_id: 7 })]) });
  const keptMidway: unknown[] = [];
  const show = fake.show.bind(fake);
  fake.show = (screen) => {
    keptMidway.push(fake.kept);
    show(screen);
  };
  await new Login(fake).run('data', 'news');
  assert.deepEqual(fake.kinds(), ['busy', 'qr', 'qr', 'end']);
  assert.deepEqual(keptMidway[1], { ticket: TICKET });
  assert.deepEqual(fake.kept, { ending: { outcome: 'authorized', account: '7' } }, 'the access token is forgotten');
});

test('a reload goes on with the same ticket and exchanges nothing again', async () => {
  const fake = new Fake({ start: fails(new Refusal(401, 'UNAUTHENTICATED', undefined, undefined)), events: streams([status('CANCELLED')]) });
  fake.kept = { ticket: TICKET };
  await new Login(fake).run('data', 'news');
  assert.equal(fake.outcome, 'cancelled');
});

test('a reload after the end tells the end again', async () => {
  const fake = new Fake();
  fake.kept = { ending: { outcome: 'mismatch' } };
  await new Login(fake).run('data', 'news');
  assert.equal(fake.outcome, 'mismatch');
});

test('a refused start is told and not remembered', async () => {
  const fake = new Fake({ start: fails(new Refusal(401, 'UNAUTHENTICATED', undefined, undefined)) });
  await new Login(fake).run('data', 'news');
  assert.equal(fake.outcome, 'launchSpent');
  assert.equal(fake.kept, undefined);
});

test('a start that nobody answers can be repeated', async () => {
  const fake = new Fake({ start: away });
  const login = new Login(fake);
  await login.run('data', 'news');
  assert.equal(fake.outcome, 'unreachable');
  const heard: boolean[] = [];
  fake.api.start = async () => ({ ticket: TICKET, qr: QR, ttl: 600 });
  fake.api.events = async (_ticket, take, signal) => {
    heard.push(signal.aborted);
    take(status('AUTHORIZED'));
  };
  await login.run('data', 'news');
  assert.equal(fake.outcome, 'authorized');
  assert.deepEqual(heard, [false], 'the second run listens afresh');
});

test('a stream that breaks is opened again, and the service is asked in between', async () => {
  let asked = 0;
  const fake = new Fake({
    events: streams([status('WAITING_QR_SCAN')], new Unreachable('cut'), [status('AUTHORIZED')]),
    status: async () => {
      asked += 1;
      return status('WAITING_QR_SCAN');
    },
  });
  await new Login(fake).run('data', 'news');
  assert.equal(fake.outcome, 'authorized');
  assert.equal(asked, 2);
});

test('where streams never come through, questions lead to the end', async () => {
  let asked = 0;
  const fake = new Fake({
    status: async () => status(++asked < 8 ? 'WAITING_QR_SCAN' : 'AUTHORIZED'),
  });
  await new Login(fake).run('data', 'news');
  assert.equal(fake.outcome, 'authorized');
  assert.ok(fake.slept.every((ms) => ms <= 2000), String(fake.slept));
});

test('a service that is away is asked ever more rarely, and given up some time after the login’s end', async () => {
  const fake = new Fake();
  await new Login(fake).run('data', 'news');
  assert.equal(fake.outcome, 'lost');
  assert.ok(fake.links.includes('broken'));
  assert.equal(Math.max(...fake.slept), 10_000);
  assert.ok(fake.time > 600_000 && fake.time < 800_000, String(fake.time));
});

test('a resumed login that nobody tells of is given up too', async () => {
  const fake = new Fake();
  fake.kept = { ticket: TICKET };
  await new Login(fake).run('data', 'news');
  assert.equal(fake.outcome, 'lost');
});

test('a ticket that is gone has run out', async () => {
  const answers: [number, string, string][] = [
    [401, 'UNAUTHENTICATED', 'expired'],
    [404, 'TICKET_NOT_FOUND', 'expired'],
    [409, 'TICKET_EXPIRED', 'expired'],
    [409, 'TICKET_SUPERSEDED', 'superseded'],
  ];
  for (const [code, reason, outcome] of answers) {
    const fake = new Fake({ events: fails(new Refusal(code, reason, undefined, undefined)) });
    await new Login(fake).run('data', 'news');
    assert.equal(fake.outcome, outcome, reason);
  }
});

test('a crowded service is no end', async () => {
  const fake = new Fake({
    events: fails(new Refusal(429, 'RATE_LIMITED', 1, undefined)),
    status: async () => status('SUPERSEDED'),
  });
  await new Login(fake).run('data', 'news');
  assert.equal(fake.outcome, 'superseded');
});

test('the time of a code is kept over redraws and never longer than told', async () => {
  const fake = new Fake({
    events: streams([
      status('WAITING_QR_SCAN', { token_expires_in: 30 }),
      status('WAITING_QR_SCAN', { token_expires_in: 12 }),
      status('WAITING_QR_SCAN', { qr_url: 'tg://login?token=BB' }),
      status('EXPIRED'),
    ]),
  });
  await new Login(fake).run('data', 'news');
  const tokens = fake.screens.map((screen) => (screen.kind === 'qr' ? screen.token : undefined));
  assert.deepEqual(tokens.slice(2, 5), [{ at: 30_000, span: 30_000 }, { at: 12_000, span: 30_000 }, undefined]);
});

/** A login that waits for a password until `finish` is called. */
function waiting(api: Partial<Api>): { fake: Fake; login: Login; finish: () => void; run: Promise<void> } {
  let finish = () => undefined as void;
  const fake = new Fake({
    events: (_ticket, take) => {
      take(status('WAITING_PASSWORD', { password_hint: 'cat', attempts_left: 5 }));
      return new Promise((done) => {
        finish = () => {
          take(status('CANCELLED'));
          done();
        };
      });
    },
    ...api,
  });
  const login = new Login(fake);
  const run = login.run('data', 'news');
  return { fake, login, finish: () => finish(), run };
}

const turn = () => new Promise<void>((done) => setTimeout(done, 0));

test('a wrong password is told with the attempts that are left, a right one ends it', async () => {
  const { fake, login, run, finish } = waiting({
    password: async (_ticket, password) => {
      if (password === 'right') {
        return status('AUTHORIZED');
      }
      throw new Refusal(400, 'PASSWORD_INVALID', undefined, 4);
    },
  });
  await turn();
  const wrong = login.submit('wrong');
  assert.deepEqual([fake.last?.kind === 'password' && fake.last.sending], [true]);
  await wrong;
  assert.ok(fake.last?.kind === 'password');
  assert.deepEqual([fake.last.problem, fake.last.attemptsLeft, fake.last.hint, fake.last.sending], [{ kind: 'wrong' }, 4, 'cat', false]);
  await login.submit('right');
  assert.equal(fake.outcome, 'authorized');
  finish();
  await run;
  assert.equal(fake.outcome, 'authorized', 'what comes later changes nothing');
});

test('an empty password is not sent, and one at a time', async () => {
  let sent = 0;
  const { fake, login, run, finish } = waiting({
    password: async () => {
      sent += 1;
      await turn();
      throw new Refusal(429, 'RATE_LIMITED', 9, undefined);
    },
  });
  await turn();
  await login.submit('');
  assert.deepEqual(fake.last?.kind === 'password' && fake.last.problem, { kind: 'empty' });
  await Promise.all([login.submit('x'), login.submit('x')]);
  assert.equal(sent, 1);
  assert.deepEqual(fake.last?.kind === 'password' && fake.last.problem, { kind: 'wait', wait: 9 });
  finish();
  await run;
});

test('a password that did not get through can be sent again', async () => {
  const { fake, login, run, finish } = waiting({});
  await turn();
  await login.submit('x');
  assert.deepEqual(fake.last?.kind === 'password' && fake.last.problem, { kind: 'notSent' });
  finish();
  await run;
});

test('the last wrong password ends in words of its own', async () => {
  const failed = status('FAILED', { failure: { reason: 'PASSWORD_INVALID' } });
  const { fake, login, run, finish } = waiting({
    password: fails(new Refusal(400, 'PASSWORD_INVALID', undefined, 0)),
    status: async () => failed,
  });
  await turn();
  await login.submit('x');
  assert.equal(fake.outcome, 'passwordSpent');
  finish();
  await run;
});

test('cancelling ends it, and shows what is so when the answer is lost', async () => {
  const first = waiting({ cancel: async () => status('CANCELLED') });
  await turn();
  await first.login.cancel();
  assert.equal(first.fake.outcome, 'cancelled');
  first.finish();
  await first.run;

  const second = waiting({ status: async () => status('AUTHORIZED') });
  await turn();
  await second.login.cancel();
  assert.equal(second.fake.outcome, 'authorized');
  second.finish();
  await second.run;
});
