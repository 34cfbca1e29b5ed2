// A real `usm serve --sandbox` in a folder of its own, set up for one bot, and the phones of the sandbox.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { BOT } from './init-data.js';

const START_LIMIT = 60_000;
const STOP_LIMIT = 10_000;

/** The service and its sandbox, for these apps. `env` is added to its environment. */
export async function startServer({ env = {}, apps = ['*'] } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'usm-miniapp-'));
  const file = async (name, text) => {
    const path = join(folder, name);
    await writeFile(path, text, { mode: 0o600 });
    return path;
  };
  const child = spawn(bin(), ['serve', '--sandbox', '--listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0'], {
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      TMPDIR: folder,
      USM_DATA_DIR: join(folder, 'data'),
      USM_MINIAPP_TENANTS: await file('tenants.toml', `[bots.${BOT.id}]\ntenant = "acme"\napp_ids = ${JSON.stringify(apps)}\n`),
      USM_MINIAPP_BOT_TOKENS: await file('tokens', `${BOT.token}\n`),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (piece) => (log += piece));
  const ended = new Promise((done) => child.once('exit', done));
  // Also when a run is broken off.
  process.once('exit', () => child.kill('SIGKILL'));
  const stop = async (signal = 'SIGTERM') => {
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT);
    await ended;
    clearTimeout(timer);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const { origin, admin } = await within(START_LIMIT, addresses(child, ended));
    return { origin, stop, log: () => log, phone: phoneAt(admin) };
  } catch (error) {
    await stop();
    throw new Error(`${error.message}; the end of its log:\n${log.slice(-4000)}`);
  }
}

function bin() {
  if (!process.env.USM_BIN) {
    throw new Error('USM_BIN must name the program');
  }
  return process.env.USM_BIN;
}

/** The sandbox prints a line of JSON, the service one that says where it is. */
async function addresses(child, ended) {
  const lines = createInterface({ input: child.stdout });
  void ended.then(() => lines.close());
  let admin;
  for await (const line of lines) {
    if (line.startsWith('{')) {
      admin = `http://127.0.0.1:${JSON.parse(line).admin}`;
    }
    const origin = /serves (http:\/\/[\d.:]+)/.exec(line)?.[1];
    if (origin && admin) {
      return { origin, admin };
    }
  }
  throw new Error('the service ended at its start');
}

/** The sandbox's own interface: what people and phones do. */
function phoneAt(admin) {
  const call = async (path, body) => {
    const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
    const answer = await fetch(`${admin}${path}`, { ...init, signal: AbortSignal.timeout(10_000) });
    const text = await answer.text();
    if (!answer.ok) {
      throw new Error(`${path}: ${answer.status} ${text}`);
    }
    return JSON.parse(text);
  };
  return {
    register: (user) => call('/users', user),
    scan: (link, user) => call('/scan', { token: link, user_id: user }),
    configure: (settings) => call('/config', settings),
    keys: () => call('/keys'),
    fail: (fault) => call('/fault', fault),
  };
}

async function within(limit, promise) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`the service was not ready after ${limit} ms`)), limit);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
