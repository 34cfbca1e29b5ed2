// One login, from Telegram's signed data to its end. Knows the service and the memory, nothing of the page's looks.

import { Refusal, type Api, type Ticket } from './api';
import { deadlineIn, type Deadline } from './countdown';
import { endingOf, endingOfRefusal, endingOfTicket, type Ending } from './endings';
import type { Memory } from './memory';
import type { Qr, Status } from './status';

export type Screen =
  | { kind: 'busy' }
  | { kind: 'qr'; qr: Qr; token: Deadline | undefined; login: Deadline | undefined }
  | {
      kind: 'password';
      hint: string | undefined;
      attemptsLeft: number | undefined;
      login: Deadline | undefined;
      problem: Problem | undefined;
      sending: boolean;
    }
  | { kind: 'code'; login: Deadline | undefined }
  | { kind: 'end'; ending: Ending };

/** Why a password was not taken. */
export type Problem = { kind: 'wrong' } | { kind: 'empty' } | { kind: 'notSent' } | { kind: 'wait'; wait: number | undefined };

/** Whether the service is heard. */
export type Link = 'good' | 'broken';

/** What the login needs from its surroundings. */
export interface World {
  api: Api;
  memory: Memory;
  show(screen: Screen): void;
  showLink(link: Link): void;
  now(): number;
  /** Ends early when `signal` says so. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** Streams that fail in a row before the service is asked instead, and how often it is asked until the next stream. */
const STREAM_FAILURES_MAX = 2;
const QUESTIONS_PER_STREAM = 10;
const QUESTION_PAUSE = 2_000;
const PAUSE_MIN = 500;
const PAUSE_MAX = 10_000;
/** How long after its end a login that is not heard of is waited for. */
const GRACE = 60_000;
/** Taken for the life of a login that a reload resumes and nobody tells of. */
const LIFE = 600_000;

export class Login {
  private ticket: Ticket | undefined;
  private last: Status | undefined;
  private deadline: Deadline | undefined;
  private token: Deadline | undefined;
  private problem: Problem | undefined;
  private sending = false;
  private over = false;
  /** Aborted to look anew at once, and replaced. */
  private rest = new AbortController();

  constructor(private readonly world: World) {}

  /** Goes on with the login of this tab, or begins one. Returns when it is over. */
  async run(initData: string, appId: string): Promise<void> {
    this.over = false;
    this.rest = new AbortController();
    this.world.show({ kind: 'busy' });
    const kept = this.world.memory.recall();
    if (kept && 'ending' in kept) {
      this.end(kept.ending);
    } else if (kept) {
      this.ticket = kept.ticket;
      await this.follow(kept.ticket);
    } else {
      await this.begin(initData, appId);
    }
  }

  /** The page was out of sight or out of the net: what it knows may be old. */
  refresh(): void {
    this.rest.abort();
    this.rest = new AbortController();
  }

  async submit(password: string): Promise<void> {
    const ticket = this.ticket;
    if (!ticket || this.sending) {
      return;
    }
    if (password === '') {
      this.complain({ kind: 'empty' });
      return;
    }
    this.sending = true;
    this.complain(undefined);
    try {
      const status = await this.world.api.password(ticket, password);
      this.sending = false;
      this.take(status);
    } catch (error) {
      this.sending = false;
      await this.refused(ticket, error);
    }
  }

  async cancel(): Promise<void> {
    const ticket = this.ticket;
    if (!ticket || this.over) {
      return;
    }
    try {
      const status = await this.world.api.cancel(ticket);
      this.take(status ?? (await this.world.api.status(ticket)));
    } catch (error) {
      if (!this.over) {
        await this.ask(ticket);
      }
    }
  }

  private async begin(initData: string, appId: string): Promise<void> {
    try {
      const { ticket, qr, ttl } = await this.world.api.start(initData, appId);
      this.ticket = ticket;
      this.world.memory.keep({ ticket });
      this.take({ ...UNKNOWN, state: qr ? 'WAITING_QR_SCAN' : 'STARTING', qr, expiresIn: ttl });
      await this.follow(ticket);
    } catch (error) {
      // Nothing was begun, so nothing is remembered.
      this.end(error instanceof Refusal ? endingOfRefusal(error) : { outcome: 'unreachable' }, 'forget');
    }
  }

  /** Listens, and asks where listening does not work, until the login is over. */
  private async follow(ticket: Ticket): Promise<void> {
    let failures = 0;
    const began = this.world.now();
    while (!this.over) {
      const heard = await this.listen(ticket);
      failures = heard ? 0 : failures + 1;
      const questions = failures >= STREAM_FAILURES_MAX ? QUESTIONS_PER_STREAM : 1;
      let pause = PAUSE_MIN;
      for (let n = 0; n < questions && !this.over; n += 1) {
        await this.world.sleep(pause, this.rest.signal);
        if (this.over) {
          return;
        }
        const answered = await this.ask(ticket);
        pause = answered ? QUESTION_PAUSE : Math.min(PAUSE_MAX, pause * 2);
      }
      if (!this.over && this.world.now() > (this.deadline?.at ?? began + LIFE) + GRACE) {
        this.end({ outcome: 'lost' });
      }
    }
  }

  /** Whether the stream told anything. */
  private async listen(ticket: Ticket): Promise<boolean> {
    let heard = false;
    const { signal } = this.rest;
    try {
      await this.world.api.events(
        ticket,
        (status) => {
          heard = true;
          this.take(status);
        },
        signal,
      );
    } catch (error) {
      this.lookAt(error);
      if (!heard && !this.over && !signal.aborted) {
        this.world.showLink('broken');
      }
    }
    return heard || signal.aborted;
  }

  /** Whether the service answered. */
  private async ask(ticket: Ticket): Promise<boolean> {
    try {
      this.take(await this.world.api.status(ticket));
      return true;
    } catch (error) {
      this.lookAt(error);
      if (!this.over) {
        this.world.showLink('broken');
      }
      return false;
    }
  }

  /** A ticket that the service does not know any more has run out. */
  private lookAt(error: unknown): void {
    const ending = error instanceof Refusal ? endingOfTicket(error) : undefined;
    if (ending && !this.over) {
      this.end(ending);
    }
  }

  private async refused(ticket: Ticket, error: unknown): Promise<void> {
    if (this.over) {
      return;
    }
    if (!(error instanceof Refusal)) {
      this.complain({ kind: 'notSent' });
      return;
    }
    if (error.reason === 'PASSWORD_INVALID' && error.attemptsLeft !== 0) {
      if (this.last && error.attemptsLeft !== undefined) {
        this.last = { ...this.last, attemptsLeft: error.attemptsLeft };
      }
      this.complain({ kind: 'wrong' });
      return;
    }
    if (error.code === 429 || error.code === 503) {
      this.complain({ kind: 'wait', wait: error.retryAfter });
      return;
    }
    // The login went on without it; its state has the words.
    this.complain({ kind: 'notSent' });
    await this.ask(ticket);
  }

  private complain(problem: Problem | undefined): void {
    this.problem = problem;
    if (this.last) {
      this.draw(this.last);
    }
  }

  private take(status: Status): void {
    if (this.over) {
      return;
    }
    this.world.showLink('good');
    const now = this.world.now();
    if (status.expiresIn !== undefined) {
      this.deadline = deadlineIn(status.expiresIn, now, this.deadline?.span);
    }
    if (status.tokenExpiresIn !== undefined) {
      this.token = deadlineIn(status.tokenExpiresIn, now, this.token?.span);
    } else if (status.qr?.url !== this.last?.qr?.url) {
      this.token = undefined;
    }
    this.last = status;
    const ending = endingOf(status);
    if (ending) {
      this.end(ending);
    } else {
      this.draw(status);
    }
  }

  private draw(status: Status): void {
    if (this.over) {
      return;
    }
    const { deadline: login, token, problem, sending } = this;
    if (status.state === 'WAITING_QR_SCAN' && status.qr) {
      this.world.show({ kind: 'qr', qr: status.qr, token, login });
    } else if (status.state === 'WAITING_PASSWORD') {
      const { hint, attemptsLeft } = status;
      this.world.show({ kind: 'password', hint, attemptsLeft, login, problem, sending });
    } else if (status.state === 'WAITING_CODE') {
      this.world.show({ kind: 'code', login });
    } else {
      this.world.show({ kind: 'busy' });
    }
  }

  private end(ending: Ending, memory: 'keep' | 'forget' = 'keep'): void {
    this.over = true;
    this.ticket = undefined;
    // The end takes the place of the access token: a reload tells it again.
    if (memory === 'keep') {
      this.world.memory.keep({ ending });
    } else {
      this.world.memory.forget();
    }
    this.world.showLink('good');
    this.world.show({ kind: 'end', ending });
    this.rest.abort();
  }
}

const UNKNOWN: Omit<Status, 'state'> = {
  account: undefined,
  qr: undefined,
  expiresIn: undefined,
  tokenExpiresIn: undefined,
  hint: undefined,
  attemptsLeft: undefined,
  failure: undefined,
};
