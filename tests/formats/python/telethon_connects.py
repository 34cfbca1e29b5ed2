"""Connects with a session string and prints who it is.

Usage: telethon_connects.py TELETHON_FOLDER FOLDER, which holds `session.txt` and the server's public key, `key.pem`.
"""

import asyncio
import json
import os
import sys

sys.path.insert(0, sys.argv[1])

from telethon import TelegramClient  # noqa: E402
from telethon.crypto import rsa  # noqa: E402
from telethon.sessions import StringSession  # noqa: E402


def read(name):
    with open(os.path.join(sys.argv[2], name)) as file:
        return file.read()


async def main():
    rsa.add_key(read("key.pem"), old=False)
    client = TelegramClient(StringSession(read("session.txt")), 4, "0123456789abcdef0123456789abcdef", timeout=10)
    await client.connect()
    try:
        me = await client.get_me()
        return {"id": me.id}
    finally:
        await client.disconnect()


json.dump(asyncio.run(main()), sys.stdout)
