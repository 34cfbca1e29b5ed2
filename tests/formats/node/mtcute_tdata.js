// Lets a real @mtcute/convert write and read tdata folders.
//
// Usage: mtcute_tdata.js write|read FOLDER PASSCODE ACCOUNTS
//
// write  makes a folder with the accounts of the JSON list ACCOUNTS ({"dc", "key", "user_id"}); an empty PASSCODE is none
// read   opens a folder and prints its accounts

import { convertFromTdata, convertToTdata, DC_MAPPING_PROD, Tdata } from '@mtcute/convert'

const [verb, path, passcode, accounts] = process.argv.slice(2)
const options = { path, passcode: passcode || undefined }

async function write() {
  const sessions = JSON.parse(accounts).map(account => ({
    version: 3,
    primaryDcs: DC_MAPPING_PROD[account.dc],
    authKey: Uint8Array.from(Buffer.from(account.key, 'hex')),
    self: { userId: account.user_id, isBot: false, isPremium: false, usernames: [] },
  }))
  await convertToTdata(sessions, options)
  return { accounts: sessions.length }
}

async function read() {
  const tdata = await Tdata.open(options)
  const seen = []
  for (const index of tdata.keyData.order) {
    const session = await convertFromTdata(tdata, index)
    const { authKeys } = await tdata.readMtpAuthorization(index)
    seen.push({
      dc: session.primaryDcs.main.id,
      key: Buffer.from(session.authKey).toString('hex'),
      user_id: session.self.userId,
      keys: authKeys.length,
    })
  }
  return { accounts: seen }
}

process.stdout.write(JSON.stringify(await { write, read }[verb]()))
