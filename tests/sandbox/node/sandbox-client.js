// Drives a sandbox from Node, and points mtcute at it.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { MemoryStorage } from '@mtcute/core'
import { addPublicKey } from '@mtcute/core/utils.js'
import { TelegramClient } from '@mtcute/node'
import { NodeCryptoProvider } from '@mtcute/node/utils.js'

export class Sandbox {
  /** Starts the command in `USM_SANDBOX_CMD` and waits for its ready line. */
  static async start() {
    const [command, ...flags] = process.env.USM_SANDBOX_CMD.split(/\s+/)
    const sandbox = new Sandbox()
    sandbox.process = spawn(command, flags, { stdio: ['ignore', 'pipe', 'inherit'] })
    const lines = createInterface({ input: sandbox.process.stdout })
    sandbox.ready = await new Promise((resolve, reject) => {
      lines.once('line', line => resolve(JSON.parse(line)))
      sandbox.process.once('exit', () => reject(new Error('the sandbox ended before it was ready')))
      setTimeout(() => reject(new Error('the sandbox is not ready in time')), 60_000).unref()
    })
    return sandbox
  }

  stop() {
    this.process.kill('SIGTERM')
  }

  async get(path) {
    return this.#call(path)
  }

  async post(path, body) {
    return this.#call(path, { method: 'POST', body: JSON.stringify(body) })
  }

  async #call(path, options) {
    const url = `http://127.0.0.1:${this.ready.admin}${path}`
    const answer = await fetch(url, { signal: AbortSignal.timeout(10_000), ...options })
    const body = await answer.json()
    if (!answer.ok) throw new Error(`${answer.status}: ${body.error}`)
    return body
  }

  async code(phone) {
    return (await this.get('/codes')).findLast(code => code.phone === phone).code
  }

  /** An mtcute client that meets the sandbox's DC where it would meet Telegram's. */
  async mtcute(network = {}) {
    const crypto = new NodeCryptoProvider()
    await crypto.initialize?.()
    addPublicKey(crypto, this.ready.public_key)
    const dc = { ipAddress: '127.0.0.1', port: this.ready.dcs['2'], id: 2 }
    return new TelegramClient({
      apiId: 4,
      apiHash: '0123456789abcdef0123456789abcdef',
      storage: new MemoryStorage(),
      defaultDcs: { main: dc, media: dc },
      logLevel: Number(process.env.MTCUTE_LOG ?? 0),
      network,
    })
  }
}
