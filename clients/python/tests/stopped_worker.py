"""A worker that writes to a connection behind the gate all the time; test_telethon.py stops its process.

Arguments: address of the service, port of the data centre. Prints a line once it writes, and one when it ended.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import sys

from fake_service import TOKEN
from telethon.network.connection import ConnectionTcpFull
from usm_client import Client, LeaseLost
from usm_client._gate import Gate, gated


async def work(server: str, port: int) -> None:
    async with Client(server, TOKEN) as client, client.lease("acme", "news", "worker-7") as lease:
        gate = Gate(lease.is_over, lease.remaining)
        loggers: dict[str, logging.Logger] = collections.defaultdict(lambda: logging.getLogger("telethon"))
        connection = gated(ConnectionTcpFull, gate)("127.0.0.1", port, 2, loggers=loggers)
        await connection.connect()
        print("writes", flush=True)
        try:
            while True:
                await connection.send(b"asking " * 8)
                await asyncio.sleep(0.001)
        finally:
            gate.shut()
            await gate.close(1)


try:
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))
except (ConnectionError, LeaseLost) as error:
    print(f"ended: {error}", flush=True)
