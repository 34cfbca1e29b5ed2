"""Makes a folder of sessions with a real Telethon: so many files, each knowing so many peers.

Usage: folder.py FOLDER FILES PEERS
"""

import hashlib
import os
import sys

from telethon.crypto import AuthKey
from telethon.sessions import SQLiteSession
from telethon.tl import types


def main(folder, files, peers):
    os.makedirs(folder, exist_ok=True)
    users = [
        types.User(
            10**9 + n, access_hash=(n * 0x9E3779B97F4A7C15) % 2**62, first_name="Some", last_name=f"Body {n}",
            username=f"somebody{n}",
        )
        for n in range(int(peers))
    ]
    found = types.contacts.Found([], [], [], users)
    for n in range(int(files)):
        session = SQLiteSession(os.path.join(folder, f"app{n:06}"))
        session.set_dc(2, "149.154.167.51", 443)
        session.auth_key = AuthKey(data=b"".join(hashlib.sha512(b"%d %d" % (n, part)).digest() for part in range(4)))
        session.process_entities(found)
        session.save()
        session.close()


main(*sys.argv[1:])
