// How a login can end, and how it can fail to begin. Each has its words in `text.ts`.

import type { Refusal } from './api';
import type { Failure, Status } from './status';

export type Outcome =
  // Ends of a login.
  | 'authorized'
  | 'expired'
  | 'cancelled'
  | 'superseded'
  | 'mismatch'
  | 'passwordSpent'
  | 'floodWait'
  | 'telegramAway'
  | 'failed'
  | 'lost'
  // No login came about.
  | 'outside'
  | 'appMissing'
  | 'launchSpent'
  | 'notSetUp'
  | 'othersAccount'
  | 'crowded'
  | 'serviceAway'
  | 'refused'
  | 'unreachable';

export interface Ending {
  outcome: Outcome;
  account?: string;
  /** Seconds to wait before another try. */
  wait?: number;
}

/** Ends after which the same page may ask again: nothing was begun. */
const REPEATABLE: readonly Outcome[] = ['crowded', 'serviceAway', 'unreachable'];

export function isRepeatable({ outcome }: Ending): boolean {
  return REPEATABLE.includes(outcome);
}

/** The end that a status tells; `undefined` while the login is under way. */
export function endingOf(status: Status): Ending | undefined {
  switch (status.state) {
    case 'AUTHORIZED':
      return status.account === undefined
        ? { outcome: 'authorized' }
        : { outcome: 'authorized', account: status.account };
    case 'EXPIRED':
      return { outcome: 'expired' };
    case 'CANCELLED':
      return { outcome: 'cancelled' };
    case 'SUPERSEDED':
      return { outcome: 'superseded' };
    case 'FAILED':
      return failed(status.failure);
    default:
      return undefined;
  }
}

function failed(failure: Failure | undefined): Ending {
  const known = failure && byReason(failure.reason);
  return waiting(known ?? 'failed', failure?.retryAfter);
}

/** The end of a login that the service does not show any more; `undefined` when it says nothing of the kind. */
export function endingOfTicket(refusal: Refusal): Ending | undefined {
  if (refusal.reason === 'TICKET_SUPERSEDED') {
    return { outcome: 'superseded' };
  }
  const gone = [401, 403, 404, 410].includes(refusal.code) || refusal.reason === 'TICKET_EXPIRED';
  return gone ? { outcome: 'expired' } : undefined;
}

/** Why the service did not begin a login. */
export function endingOfRefusal(refusal: Refusal): Ending {
  const known = byReason(refusal.reason) ?? byCode(refusal.code);
  // Nobody scanned anything yet: the account of whoever opened the page is not the one that is connected.
  return waiting(known === 'mismatch' ? 'othersAccount' : known, refusal.retryAfter);
}

function byReason(reason: string): Outcome | undefined {
  switch (reason) {
    case 'ACCOUNT_MISMATCH':
      return 'mismatch';
    case 'PASSWORD_INVALID':
      return 'passwordSpent';
    case 'TELEGRAM_FLOOD_WAIT':
    case 'LOGIN_BUDGET_EXHAUSTED':
      return 'floodWait';
    case 'TELEGRAM_UNAVAILABLE':
      return 'telegramAway';
    default:
      return undefined;
  }
}

function byCode(code: number): Outcome {
  switch (code) {
    case 401:
      return 'launchSpent';
    case 403:
    case 404:
      return 'notSetUp';
    case 429:
      return 'crowded';
    case 502:
    case 503:
    case 504:
      return 'serviceAway';
    default:
      return 'refused';
  }
}

function waiting(outcome: Outcome, wait: number | undefined): Ending {
  return wait === undefined ? { outcome } : { outcome, wait };
}
