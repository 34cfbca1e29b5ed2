// Reads every session of a folder over better-sqlite3 and makes a string of it with @mtcute/convert, a few times over.
// Usage: contestant.js FOLDER ROUNDS. Prints the seconds of each round.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { serializeTelethonSession } from '@mtcute/convert'
import Database from 'better-sqlite3'

const [folder, rounds] = process.argv.slice(2)
const files = readdirSync(folder).sort()
for (let round = 0; round < Number(rounds); round++) {
  const began = performance.now()
  let length = 0
  for (const file of files) {
    const database = new Database(join(folder, file), { readonly: true })
    const row = database.prepare('select dc_id, server_address, port, auth_key from sessions').get()
    database.close()
    length += serializeTelethonSession({
      dcId: row.dc_id, ipAddress: row.server_address, ipv6: false, port: row.port, authKey: row.auth_key,
    }).length
  }
  if (length !== 353 * files.length) throw new Error('not all sessions were read')
  console.log((performance.now() - began) / 1000)
}
