// What the service tells about a login, checked before anybody else sees it.

export type State =
  | 'STARTING'
  | 'WAITING_QR_SCAN'
  | 'WAITING_CODE'
  | 'WAITING_PASSWORD'
  | 'AUTHORIZED'
  | 'EXPIRED'
  | 'CANCELLED'
  | 'SUPERSEDED'
  | 'FAILED';

const STATES: readonly string[] = [
  'STARTING', 'WAITING_QR_SCAN', 'WAITING_CODE', 'WAITING_PASSWORD',
  'AUTHORIZED', 'EXPIRED', 'CANCELLED', 'SUPERSEDED', 'FAILED',
];

const FINAL: readonly State[] = ['AUTHORIZED', 'EXPIRED', 'CANCELLED', 'SUPERSEDED', 'FAILED'];

export interface Qr {
  /** The link that the picture shows. */
  url: string;
  /** The picture: a PNG in base64. */
  png: string;
}

export interface Failure {
  reason: string;
  /** Seconds. */
  retryAfter: number | undefined;
}

export interface Status {
  state: State;
  account: string | undefined;
  qr: Qr | undefined;
  /** Seconds until the login ends by itself. */
  expiresIn: number | undefined;
  /** Seconds until another code is drawn. */
  tokenExpiresIn: number | undefined;
  hint: string | undefined;
  attemptsLeft: number | undefined;
  failure: Failure | undefined;
}

export function isFinal(state: State): boolean {
  return FINAL.includes(state);
}

/** `undefined` for what is no status. A state of a later version counts as one that is still under way. */
export function parseStatus(value: unknown): Status | undefined {
  const fields = object(value);
  const state = fields && text(fields['state']);
  if (!fields || state === undefined) {
    return undefined;
  }
  const failure = object(fields['failure']);
  return {
    state: STATES.includes(state) ? (state as State) : 'STARTING',
    account: id(fields['telegram_user_id']),
    qr: parseQr(fields),
    expiresIn: amount(fields['expires_in']),
    tokenExpiresIn: amount(fields['token_expires_in']),
    hint: text(fields['password_hint']),
    attemptsLeft: amount(fields['attempts_left']),
    failure: failure && {
      reason: text(failure['reason']) ?? 'UNKNOWN',
      retryAfter: amount(failure['retry_after']),
    },
  };
}

/** A link becomes an address of a button, so nothing but a login link is taken for one. */
export function parseQr(fields: Record<string, unknown>): Qr | undefined {
  const url = text(fields['qr_url']);
  const png = text(fields['qr_base64']);
  const good =
    url !== undefined && /^tg:\/\/login\?token=[\w=-]+$/.test(url) &&
    png !== undefined && /^[A-Za-z0-9+/]+={0,2}$/.test(png);
  return good ? { url, png } : undefined;
}

export function object(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

/** Text that is there and not empty. */
export function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

export function amount(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined;
}

function id(value: unknown): string | undefined {
  const number = amount(value);
  return number === undefined ? text(value) : number === 0 ? undefined : String(number);
}
