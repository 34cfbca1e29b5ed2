// Lets real GramJS and mtcute write session strings, open ours and connect with them.
//
// Reads a JSON list of questions from standard input, each with its "verb", and prints the list of answers.

import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { MemoryStorage } from '@mtcute/core'
import { readStringSession, writeStringSession } from '@mtcute/core/utils.js'
import * as convert from '@mtcute/convert'
import { TelegramClient as MtcuteClient } from '@mtcute/node'

const require = createRequire(import.meta.url)
const { TelegramClient: GramClient } = require('telegram')
const { StringSession } = require('telegram/sessions')
const { AuthKey } = require('telegram/crypto/AuthKey')
const { ConnectionTCPFull } = require('telegram/network')
const { Logger } = require('telegram/extensions')

const API_ID = 7
const API_HASH = '0123456789abcdef0123456789abcdef'
const hex = bytes => Buffer.from(bytes).toString('hex')

async function gramjs(string) {
  const session = new StringSession(string)
  await session.load()
  return session
}

const verbs = {
  async 'gramjs write'({ dc, host, port, key }) {
    const session = new StringSession('')
    session.setDC(dc, host, port)
    const authKey = new AuthKey()
    await authKey.setKey(Buffer.from(key, 'hex'))
    session.setAuthKey(authKey)
    return { string: session.save() }
  },

  async 'gramjs open'({ string }) {
    const session = await gramjs(string)
    return {
      dc: session.dcId,
      host: session.serverAddress,
      port: session.port,
      key: hex(session.authKey.getKey()),
      string: session.save(),
    }
  },

  // GramJS connects to port 80 whatever the session says, so the sandbox's has to be put in its place.
  async 'gramjs connect'({ string, ports }) {
    class Redirected extends ConnectionTCPFull {
      constructor(options) {
        super({ ...options, ip: '127.0.0.1', port: ports[options.dcId] })
      }
    }
    const client = new GramClient(await gramjs(string), API_ID, API_HASH, {
      connection: Redirected,
      connectionRetries: 1,
      baseLogger: new Logger('none'),
    })
    await client.connect()
    const me = await client.getMe()
    const saved = client.session.save()
    await client.destroy()
    return { id: Number(me.id), string: saved }
  },

  async 'mtcute write'({ main, media, self, key }) {
    const primaryDcs = { main, media: media ?? main }
    return {
      string: writeStringSession({ version: 3, primaryDcs, self, authKey: Buffer.from(key, 'hex') }),
    }
  },

  async 'mtcute open'({ string }) {
    const { primaryDcs, self, authKey } = readStringSession(string)
    const data = { version: 3, primaryDcs, self, authKey }
    return { main: primaryDcs.main, self, key: hex(authKey), string: writeStringSession(data) }
  },

  // Without any change: mtcute goes where the string leads.
  async 'mtcute connect'({ string }) {
    const client = new MtcuteClient({
      apiId: API_ID,
      apiHash: API_HASH,
      storage: new MemoryStorage(),
      logLevel: 0,
    })
    await client.importSession(string)
    const me = await client.getMe()
    const saved = await client.exportSession()
    await client.destroy()
    return { id: me.id, string: saved }
  },

  // What @mtcute/convert sees in a string of each library.
  async 'convert read'({ pyrogram, gramjs, telethon }) {
    const seen = data => ({
      dc: data.primaryDcs.main.id,
      user: data.self?.userId ?? null,
      bot: data.self?.isBot ?? null,
      key: hex(data.authKey),
    })
    return {
      pyrogram: seen(convert.convertFromPyrogramSession(pyrogram)),
      gramjs: seen(convert.convertFromGramjsSession(gramjs)),
      telethon: seen(convert.convertFromTelethonSession(telethon)),
    }
  },

  // And what it makes of one of mtcute's.
  async 'convert write'({ string }) {
    return {
      pyrogram: convert.convertToPyrogramSession(string),
      gramjs: convert.convertToGramjsSession(string),
      telethon: convert.convertToTelethonSession(string),
      mtkruto: convert.convertToMtkrutoSession(string),
    }
  },
}

const answers = []
for (const asked of JSON.parse(readFileSync(0, 'utf8'))) answers.push(await verbs[asked.verb](asked))
// GramJS leaves timers behind.
process.stdout.write(JSON.stringify(answers), () => process.exit(0))
