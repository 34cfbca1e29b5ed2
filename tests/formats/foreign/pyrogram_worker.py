"""Lets a real Pyrogram, or a library that came of it, write sessions, open ours and connect with them.

Usage: pyrogram_worker.py MODULE, with the library first on PYTHONPATH. Reads a JSON list of questions from standard
input, each with its "verb", and prints the list of answers.

write    {"folder", "fields"}: makes `written.session` as the library does; tells its string
open     {"folder"} or {"string"}: tells the fields the library sees, and the string it makes of them
connect  the same, and {"ports": {dc: port}}: starts a client that meets the sandbox; tells who it is
"""

import asyncio
import importlib
import json
import sys

MODULE = sys.argv[1]
# Older ones ask for a loop while they are imported.
asyncio.set_event_loop(asyncio.new_event_loop())
library = importlib.import_module(MODULE)
FIELDS = ("dc_id", "api_id", "test_mode", "auth_key", "user_id", "is_bot")


def client(asked, name):
    options = {"api_id": 7, "api_hash": "0123456789abcdef0123456789abcdef", "no_updates": True}
    if "string" in asked:
        return library.Client(name, session_string=asked["string"], in_memory=True, **options)
    return library.Client(name, workdir=asked["folder"], **options)


async def write(asked):
    made = client(asked, "written")
    storage = made.storage
    await storage.open()
    fields = {**asked["fields"], "auth_key": bytes.fromhex(asked["fields"]["auth_key"])}
    for name in FIELDS:
        await getattr(storage, name)(fields[name])
    peer = (42, -5, "user", "ann", "123")
    # Kurigram keeps user names elsewhere.
    has_usernames = hasattr(storage, "set_update_state")
    await storage.update_peers([peer[:3] + peer[4:] if has_usernames else peer])
    if has_usernames:
        from pyrogram.storage.storage import UpdateState

        await storage.set_update_state([UpdateState(0, 1, 2, 3, 4), UpdateState(-1001234, 7, None, 9, None)])
    await storage.save()
    string = await storage.export_session_string()
    await storage.close()
    return {"string": string}


async def open_session(asked):
    made = client(asked, "ours")
    await made.storage.open()
    seen = {name: await getattr(made.storage, name)() for name in FIELDS}
    seen["auth_key"] = seen["auth_key"].hex()
    seen = {**seen, "test_mode": bool(seen["test_mode"]), "is_bot": bool(seen["is_bot"])}
    if "folder" in asked:
        seen["peers"] = len(await peers(made.storage.conn))
    string = await made.storage.export_session_string()
    await made.storage.close()
    return {"fields": seen, "string": string}


async def peers(connection):
    rows = connection.execute("select id from peers")
    # Hydrogram's is asynchronous.
    return (await (await rows).fetchall()) if hasattr(rows, "__await__") else rows.fetchall()


async def connect(asked):
    ports = {int(dc): port for dc, port in asked["ports"].items()}
    made = client(asked, "ours")
    if hasattr(made, "connection_factory"):
        from pyrogram.connection import Connection

        class Redirected(Connection):
            def __init__(self, dc_id, server_address, port, **rest):
                super().__init__(dc_id, "127.0.0.1", ports[dc_id], **rest)

        made.connection_factory = Redirected
    else:
        connection = importlib.import_module(MODULE + ".connection.connection")
        connection.DataCenter = lambda dc_id, *_: ("127.0.0.1", ports[dc_id])
    assert await made.connect(), "the library does not take the session for one that is logged in"
    me = await made.get_me()
    string = await made.export_session_string()
    await made.disconnect()
    return {"id": me.id, "string": string}


async def main():
    verbs = {"write": write, "open": open_session, "connect": connect}
    return [await asyncio.wait_for(verbs[asked["verb"]](asked), 30) for asked in json.load(sys.stdin)]


json.dump(asyncio.get_event_loop().run_until_complete(main()), sys.stdout)
