"""Lets a real opentele2 write and read tdata folders.

Usage: opentele2_tdata.py PACKAGES_FOLDER write|read FOLDER PASSCODE ACCOUNTS

write  makes a folder with the accounts of the JSON list ACCOUNTS ({"dc", "key", "user_id"}); an empty PASSCODE is none.
       It goes the way of its users: a Telethon session, `FromTelethon`, `SaveTData`.
read   opens a folder, prints its accounts, then saves it again in `FOLDER-again` as a program that goes on with it
"""

import asyncio
import json
import logging
import sys

sys.path.insert(0, sys.argv[1])

from opentele2 import td, tl  # noqa: E402
from opentele2.api import API, UseCurrentSession  # noqa: E402
from telethon.crypto import AuthKey  # noqa: E402
from telethon.sessions import MemorySession  # noqa: E402

logging.disable(logging.CRITICAL)


async def client(account):
    session = MemorySession()
    session.set_dc(account["dc"], "149.154.167.91", 443)
    session.auth_key = AuthKey(data=bytes.fromhex(account["key"]))
    made = tl.TelegramClient(session, api=API.TelegramDesktop)
    made._mb_entity_cache.set_self_user(account["user_id"], False, 0)
    return made


async def write(folder, passcode, accounts):
    desktop = await td.TDesktop.FromTelethon(await client(accounts[0]), flag=UseCurrentSession)
    for account in accounts[1:]:
        await td.Account.FromTelethon(await client(account), flag=UseCurrentSession, owner=desktop)
    desktop.SaveTData(folder, passcode or None)
    return {"accounts": len(desktop.accounts)}


async def read(folder, passcode, _):
    desktop = td.TDesktop(folder, passcode=passcode or None)
    seen = [
        {"dc": int(account.MainDcId), "key": account.authKey.key.hex(), "user_id": account.UserId,
         "keys": len(account._Account__mtpKeys)}
        for account in desktop.accounts
    ]
    again = folder + "-again"
    desktop.SaveTData(again, passcode or None)
    assert len(td.TDesktop(again, passcode=passcode or None).accounts) == len(seen)
    return {"accounts": seen}


verb, folder, passcode, accounts = sys.argv[2:6]
answer = asyncio.run({"write": write, "read": read}[verb](folder, passcode, json.loads(accounts)))
json.dump(answer, sys.stdout)
