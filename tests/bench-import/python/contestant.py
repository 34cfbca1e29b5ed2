"""Reads every session of a folder with one library and makes a string of it, a few times over.

Usage: contestant.py telethon|tgconvertor|opentele2 FOLDER ROUNDS. Prints the seconds of each round.
"""

import asyncio
import pathlib
import struct
import sys
import time
from base64 import urlsafe_b64encode
from ipaddress import ip_address


def telethon(files):
    from telethon.sessions import SQLiteSession, StringSession

    for file in files:
        session = SQLiteSession(str(file))
        yield StringSession.save(session)
        session.close()


def tgconvertor(files):
    from TGConvertor.sessions.tele import TeleSession

    loop = asyncio.new_event_loop()
    for file in files:
        yield loop.run_until_complete(TeleSession.from_file(file)).to_string()


def opentele2(files):
    from opentele2 import _native

    for file in files:
        row = _native.read_session_file(str(file))
        address = ip_address(row["server_address"]).packed
        packed = struct.pack(">B4sH256s", row["dc_id"], address, row["port"], row["auth_key"])
        yield "1" + urlsafe_b64encode(packed).decode()


def main(name, folder, rounds):
    read = {"telethon": telethon, "tgconvertor": tgconvertor, "opentele2": opentele2}[name]
    files = sorted(pathlib.Path(folder).iterdir())
    for _ in range(int(rounds)):
        began = time.perf_counter()
        length = sum(len(string) for string in read(files))
        took = time.perf_counter() - began
        assert length == 353 * len(files)
        print(took, flush=True)


main(*sys.argv[1:])
