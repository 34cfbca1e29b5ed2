// What survives a reload of the page, in this tab only: Telegram's data is exchanged once.

import type { Ticket } from './api';
import type { Ending } from './endings';
import { object, text } from './status';

export type Kept = { ticket: Ticket } | { ending: Ending };

export interface Memory {
  recall(): Kept | undefined;
  keep(kept: Kept): void;
  forget(): void;
}

/** Keyed by a hash of what Telegram said, so that another opening of the page does not meet it. */
export async function memoryFor(initData: string): Promise<Memory> {
  // Without a secure origin there is no hash; without storage, such as in a frame that may not have it, no memory.
  if (!globalThis.crypto?.subtle) {
    return NOTHING;
  }
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(initData));
  const key = `usm:${Array.from(new Uint8Array(hash, 0, 16), (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
  return {
    recall: () => quietly(() => parseKept(sessionStorage.getItem(key))),
    keep: (kept) => quietly(() => sessionStorage.setItem(key, JSON.stringify(kept))),
    forget: () => quietly(() => sessionStorage.removeItem(key)),
  };
}

const NOTHING: Memory = { recall: () => undefined, keep: () => undefined, forget: () => undefined };

export function parseKept(written: string | null): Kept | undefined {
  const kept = object(JSON.parse(written ?? 'null'));
  const ticket = object(kept?.['ticket']);
  const [id, accessToken] = [text(ticket?.['id']), text(ticket?.['accessToken'])];
  if (id !== undefined && accessToken !== undefined) {
    return { ticket: { id, accessToken } };
  }
  const ending = object(kept?.['ending']);
  return ending && text(ending['outcome']) ? { ending: ending as unknown as Ending } : undefined;
}

function quietly<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
