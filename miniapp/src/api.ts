// The service's HTTP interface. Each call ends: by an answer, a refusal, or its own limit.

import { EventReader } from './sse';
import { amount, object, parseQr, parseStatus, text, type Qr, type Status } from './status';

/** A login that was begun, and what proves that it is ours. */
export interface Ticket {
  id: string;
  accessToken: string;
}

export interface Begun {
  ticket: Ticket;
  qr: Qr | undefined;
  /** Seconds until the login ends by itself. */
  ttl: number | undefined;
}

/** The service answered no. */
export class Refusal extends Error {
  constructor(
    readonly code: number,
    readonly reason: string,
    /** Seconds. */
    readonly retryAfter: number | undefined,
    readonly attemptsLeft: number | undefined,
  ) {
    super(`${code} ${reason}`);
  }
}

/** No answer, or one that is not the service's. */
export class Unreachable extends Error {}

export interface Api {
  start(initData: string, appId: string): Promise<Begun>;
  status(ticket: Ticket): Promise<Status>;
  /** Ends when the service ends the stream or `signal` says so. */
  events(ticket: Ticket, take: (status: Status) => void, signal: AbortSignal): Promise<void>;
  password(ticket: Ticket, password: string): Promise<Status>;
  cancel(ticket: Ticket): Promise<Status | undefined>;
}

const MS = 1000;
/** A little more than the service takes at most: without Telegram, and where it waits for Telegram. */
const ANSWER_LIMIT = 22 * MS;
const TELEGRAM_LIMIT = 65 * MS;
/** The stream begins with the status. Some proxies hold it back: then there are questions instead. */
const FIRST_EVENT_LIMIT = 8 * MS;
/** A stream that is silent for longer, without even a heartbeat, is dead. */
const SILENCE_LIMIT = 40 * MS;

/** `base` is where the routes lie, with a slash at its end. */
export function httpApi(base: string): Api {
  const bearer = (ticket: Ticket) => `Bearer ${ticket.accessToken}`;
  const named = (ticket: Ticket) => `ticket=${encodeURIComponent(ticket.id)}`;

  return {
    async start(initData, appId) {
      const answer = await post(`${base}start`, `tma ${initData}`, { app_id: appId }, TELEGRAM_LIMIT);
      const fields = object(answer);
      const [id, accessToken] = [text(fields?.['ticket']), text(fields?.['access_token'])];
      if (!fields || id === undefined || accessToken === undefined) {
        throw new Unreachable('not the answer of the service');
      }
      return { ticket: { id, accessToken }, qr: parseQr(fields), ttl: amount(fields['ttl']) };
    },

    async status(ticket) {
      return known(await ask(`${base}status?${named(ticket)}`, bearer(ticket), {}, ANSWER_LIMIT));
    },

    async events(ticket, take, signal) {
      const headers = { authorization: bearer(ticket), accept: 'text/event-stream' };
      await listen(`${base}events?${named(ticket)}`, headers, take, signal);
    },

    async password(ticket, password) {
      const body = { ticket: ticket.id, password };
      return known(await post(`${base}password`, bearer(ticket), body, TELEGRAM_LIMIT));
    },

    async cancel(ticket) {
      return parseStatus(await post(`${base}cancel`, bearer(ticket), { ticket: ticket.id }, ANSWER_LIMIT));
    },
  };
}

function known(answer: unknown): Status {
  const status = parseStatus(answer);
  if (!status) {
    throw new Unreachable('not the answer of the service');
  }
  return status;
}

function post(address: string, authorization: string, body: unknown, limit: number): Promise<unknown> {
  const headers = { 'content-type': 'application/json' };
  return ask(address, authorization, { method: 'POST', headers, body: JSON.stringify(body) }, limit);
}

async function ask(address: string, authorization: string, init: RequestInit, limit: number): Promise<unknown> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), limit);
  try {
    const headers = { ...init.headers, authorization };
    const response = await fetch(address, { ...init, headers, ...ALWAYS, signal: abort.signal });
    if (!response.ok) {
      throw await refusal(response);
    }
    return await response.json();
  } catch (error) {
    throw told(error);
  } finally {
    clearTimeout(timer);
  }
}

const ALWAYS: RequestInit = { cache: 'no-store', credentials: 'omit', redirect: 'error', referrerPolicy: 'no-referrer' };

async function listen(
  address: string,
  headers: Record<string, string>,
  take: (status: Status) => void,
  signal: AbortSignal,
): Promise<void> {
  const abort = new AbortController();
  const stop = () => abort.abort();
  signal.addEventListener('abort', stop);
  let timer = setTimeout(stop, FIRST_EVENT_LIMIT);
  let heard = false;
  const reader = new EventReader((data) => {
    const status = parseStatus(JSON.parse(data));
    if (status) {
      heard = true;
      take(status);
    }
  });
  try {
    const response = await fetch(address, { headers, ...ALWAYS, signal: abort.signal });
    if (!response.ok) {
      throw await refusal(response);
    }
    if (!response.body || !response.headers.get('content-type')?.startsWith('text/event-stream')) {
      throw new Unreachable('not an event stream');
    }
    const pieces = response.body.getReader();
    for (let next = await pieces.read(); !next.done; next = await pieces.read()) {
      reader.push(next.value);
      if (heard) {
        clearTimeout(timer);
        timer = setTimeout(stop, SILENCE_LIMIT);
      }
    }
  } catch (error) {
    throw told(error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    abort.abort();
  }
}

async function refusal(response: Response): Promise<Refusal> {
  const body: unknown = await response.json().catch(() => undefined);
  const error = object(object(body)?.['error']);
  const header = Number.parseFloat(response.headers.get('retry-after') ?? '');
  return new Refusal(
    response.status,
    text(error?.['reason']) ?? 'UNKNOWN',
    amount(error?.['retry_after']) ?? amount(header),
    amount(error?.['attempts_left']),
  );
}

function told(error: unknown): Error {
  return error instanceof Refusal || error instanceof Unreachable
    ? error
    : new Unreachable(error instanceof Error ? error.message : 'no answer');
}
