// mtcute, unmodified, logs in to the sandbox by QR, phone and bot, with permanent keys alone and with temporary ones.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Sandbox } from './sandbox-client.js'

let sandbox
let number = 0

before(async () => {
  sandbox = await Sandbox.start()
})
after(() => sandbox?.stop())

async function account(members) {
  number += 1
  const user = { id: 100 + number, phone: `99966${String(number).padStart(5, '0')}`, first_name: `Test ${number}`, ...members }
  await sandbox.post('/users', user)
  return user
}

async function finish(client, user) {
  assert.equal((await client.getMe()).id, user.id)
  await client.logOut()
  await client.destroy()
}

for (const usePfs of [false, true]) {
  for (const dc of [2, 3]) {
    for (const password of [undefined, 'secret']) {
      const how = `dc ${dc}, ${password ? 'password' : 'no password'}, ${usePfs ? 'temporary' : 'permanent'} keys`

      test(`phone login: ${how}`, async () => {
        const user = await account({ dc, password })
        const client = await sandbox.mtcute({ usePfs })
        const me = await client.start({
          phone: user.phone,
          code: () => sandbox.code(user.phone),
          password,
          codeSentCallback: () => {},
        })
        assert.equal(me.id, user.id)
        await finish(client, user)
      })

      test(`QR login: ${how}`, async () => {
        const user = await account({ dc, password })
        const client = await sandbox.mtcute({ usePfs })
        const me = await client.start({
          qrCodeHandler: url => void sandbox.post('/scan', { token: url, user_id: user.id }),
          password,
        })
        assert.equal(me.id, user.id)
        await finish(client, user)
      })
    }
  }
}

test('bot login', async () => {
  const bot = await account({ phone: undefined, bot_token: '99:token' })
  const client = await sandbox.mtcute()
  const me = await client.start({ botToken: bot.bot_token })
  assert.equal(me.isBot, true)
  await finish(client, bot)
})
