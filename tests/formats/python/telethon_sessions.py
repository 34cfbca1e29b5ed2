"""Lets a real Telethon write session files and open ours, without connecting.

Usage: telethon_sessions.py TELETHON_FOLDER write|read FOLDER

write  makes `written.session`, `ipv4.txt`, `ipv6.txt`, `signed_out.session`; prints what is in them
read   opens `ours.session` and `ours.txt`, prints what it sees, then works with the file as a client would
"""

import asyncio
import datetime
import hashlib
import json
import os
import sys

sys.path.insert(0, sys.argv[1])

from telethon import TelegramClient, __version__  # noqa: E402
from telethon.crypto import AuthKey  # noqa: E402
from telethon.sessions import SQLiteSession, StringSession  # noqa: E402
from telethon.tl import types  # noqa: E402

USER = 6_123_456_789
KEY = b"".join(hashlib.sha512(b"telethon %d" % n).digest() for n in range(4))
STATE = {"pts": 11, "qts": 12, "date": 1_700_000_123, "seq": 13}


def state(numbers):
    date = datetime.datetime.fromtimestamp(numbers["date"], tz=datetime.timezone.utc)
    return types.updates.State(numbers["pts"], numbers["qts"], date, numbers["seq"], unread_count=0)


def save_own_id(session):
    """As a client does on disconnecting, since 1.28."""

    async def save():
        client = TelegramClient(session, 1, "unused")
        client._mb_entity_cache.set_self_user(USER, False, 5)
        await client._save_states_and_entities()

    asyncio.run(save())


def write(folder):
    session = SQLiteSession(os.path.join(folder, "written"))
    session.set_dc(4, "149.154.167.91", 443)
    session.auth_key = AuthKey(data=KEY)
    user_id = None
    if hasattr(TelegramClient, "_save_states_and_entities"):
        save_own_id(session)
        user_id = USER
    session.set_update_state(0, state(STATE))
    # Of a channel, with the local time in fractions, which SQLite keeps as REAL.
    session.set_update_state(1234, types.updates.State(7, 0, datetime.datetime.now(), 0, unread_count=0))
    session.process_entities(
        types.contacts.ResolvedPeer(types.PeerUser(42), [], [types.User(42, access_hash=-9, first_name="Ann",
                                                                       username="Ann")])
    )
    session.save()
    session.close()
    SQLiteSession(os.path.join(folder, "signed_out")).close()
    strings = {}
    for name, host in [("ipv4", "149.154.167.91"), ("ipv6", "2001:67c:4e8:f004::a")]:
        string = StringSession()
        string.set_dc(4, host, 443)
        string.auth_key = AuthKey(data=KEY)
        with open(os.path.join(folder, name + ".txt"), "w") as file:
            file.write(string.save() + "\n")
        strings[name] = host
    return {"version": __version__, "key": KEY.hex(), "dc": 4, "user_id": user_id, "state": STATE}


def seen(session):
    return {
        "dc": session.dc_id,
        "host": session.server_address,
        "port": session.port,
        "key": session.auth_key.key.hex(),
        "takeout_id": session.takeout_id,
    }


def read(folder):
    session = SQLiteSession(os.path.join(folder, "ours"))
    file = seen(session)
    try:
        file["user_id"] = session.get_input_entity(0).access_hash
    except ValueError:
        file["user_id"] = None
    found = session.get_update_state(0)
    file["state"] = found and {
        "pts": found.pts, "qts": found.qts, "date": int(found.date.timestamp()), "seq": found.seq
    }
    if hasattr(session, "get_update_states"):
        file["channels"] = {str(key): state.pts for key, state in session.get_update_states() if key}
    # A client that takes the session over, goes on and saves.
    session.set_dc(session.dc_id, session.server_address, session.port)
    session.set_update_state(0, state({**STATE, "pts": 99}))
    session.save()
    session.close()
    with open(os.path.join(folder, "ours.txt")) as text:
        content = text.read()
    string = StringSession(content)
    return {"version": __version__, "file": file, "string": seen(string), "same_string": string.save() == content}


json.dump({"write": write, "read": read}[sys.argv[2]](sys.argv[3]), sys.stdout)
