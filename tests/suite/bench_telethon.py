"""What others would do: one process with a Telethon client for each pending QR login.

Reads numbers from standard input and answers each, on standard output, when so many logins are pending. The first
line it reads is the sandbox's. Ends when standard input does.
"""

import asyncio
import json
import logging
import pathlib
import sys
import types

import telethon  # noqa: F401  (so that the first row holds it)

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "sandbox" / "python"))
from sandbox_client import telethon_client  # noqa: E402

AT_ONCE = 20
LOGIN_SECONDS = 3600


async def pend(sandbox, kept):
    # Patience for a thousand neighbours that reconnect at the same time.
    client = telethon_client(sandbox, timeout=60, connection_retries=None, request_retries=20, retry_delay=1)
    await client.connect()
    code = await client.qr_login()
    kept.append((client, asyncio.create_task(code.wait(LOGIN_SECONDS))))


async def main():
    # Each reconnection would be a line.
    logging.disable()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    ready = json.loads(await lines.readline())
    dcs = {int(dc): port for dc, port in ready["dcs"].items()}
    sandbox = types.SimpleNamespace(dcs=dcs, public_key=ready["public_key"])
    kept = []
    room = asyncio.Semaphore(AT_ONCE)

    async def in_turn():
        async with room:
            await pend(sandbox, kept)

    while line := await lines.readline():
        await asyncio.gather(*(in_turn() for _ in range(int(line) - len(kept))))
        print(len(kept), flush=True)


asyncio.run(main())
