#!/usr/bin/env python3
"""A worker that borrows a session, asks Telegram who it is, and gives the session back.

    export USM_SERVER=http://127.0.0.1:50051
    export USM_TOKEN=...                       # with the scope `lease`
    python telethon_worker.py --tenant-id acme --app-id news
    python telethon_worker.py --tenant-id acme --app-id news --hold 600

Prints one line of JSON once Telegram answered. With --hold it keeps the session for so long, asking Telegram now and
then; SIGTERM and Ctrl-C end that early. Whatever happens it disconnects before its deadline and then releases.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 somebody else holds the session; 4 the lease was lost;
5 Telegram does not accept the session.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys

from telethon import TelegramClient, errors
from usm_client import Client, Lease, LeaseLost, UsmError, telethon

FAILED, LEASED, LOST, UNAUTHORIZED = 1, 3, 4, 5
ASK_EVERY = 10.0
"""Seconds between two calls to Telegram while the session is held."""


class Unauthorized(Exception):
    """Telegram does not know the session as logged in."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=os.environ.get("USM_SERVER", "http://127.0.0.1:50051"))
    parser.add_argument("--tenant-id", required=True)
    parser.add_argument("--app-id", required=True)
    parser.add_argument("--holder", default=f"{socket.gethostname()}-{os.getpid()}", help="name of this worker")
    parser.add_argument("--hold", type=float, default=0.0, metavar="SECONDS", help="how long to keep the session")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="how long to queue for it")
    parser.add_argument("--ttl", type=float, metavar="SECONDS", help="time to ask the lease for")
    parser.add_argument("--api-id", type=int, help="only for sessions of which the service does not know it")
    options = parser.parse_args()
    # Never from the command line, where every user of the machine can read it.
    options.token = os.environ.get("USM_TOKEN", "").strip()
    if not options.token:
        parser.error("set USM_TOKEN to a token with the scope `lease`, for example from `usm token issue`")
    return options


async def work(options: argparse.Namespace, stop: asyncio.Event) -> None:
    async with Client(options.server, options.token) as client:
        async with client.lease(
            options.tenant_id, options.app_id, options.holder, ttl=options.ttl, wait=options.wait
        ) as lease:
            async with telethon.connect(lease, api_id=options.api_id) as telegram:
                await introduce(telegram, lease)
                await hold(telegram, lease, options.hold, stop)


async def introduce(telegram: TelegramClient, lease: Lease) -> None:
    me = await telegram.get_me()
    if me is None:
        raise Unauthorized
    answer = {
        "tenant_id": lease.tenant_id,
        "app_id": lease.app_id,
        "telegram_user_id": me.id,
        "username": me.username,
        "epoch": lease.epoch,
        "remaining_seconds": round(lease.remaining(), 1),
    }
    print(json.dumps(answer), flush=True)


async def hold(telegram: TelegramClient, lease: Lease, seconds: float, stop: asyncio.Event) -> None:
    """Works on until the time is over, somebody wants the worker to stop, or the lease is lost."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    stopped = asyncio.ensure_future(stop.wait())
    lost = asyncio.ensure_future(lease.lost.wait())
    try:
        while (left := end - loop.time()) > 0:
            await asyncio.wait({stopped, lost}, timeout=min(left, ASK_EVERY), return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return
            if lost.done() and lease.loss is not None:
                raise lease.loss
            if await telegram.get_me() is None:
                raise Unauthorized
    finally:
        stopped.cancel()
        lost.cancel()


async def run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(work(options, stop))

    def end() -> None:
        if stop.is_set():
            working.cancel()  # asked twice: not even wait for Telegram
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    await working


def main() -> int:
    options = arguments()
    try:
        asyncio.run(run(options))
    except UsmError as error:
        print(f"the service refused: {error}", file=sys.stderr)
        return LEASED if error.reason == "SESSION_LEASED" else FAILED
    except LeaseLost as error:
        print(f"{error}; the connection is closed", file=sys.stderr)
        return LOST
    except (Unauthorized, errors.UnauthorizedError, errors.AuthKeyError, errors.AuthKeyNotFound) as error:
        print(f"Telegram does not accept the session ({type(error).__name__}): log in again", file=sys.stderr)
        return UNAUTHORIZED
    except (OSError, asyncio.TimeoutError) as error:
        print(f"Telegram cannot be reached: {error or type(error).__name__}", file=sys.stderr)
        return FAILED
    except asyncio.CancelledError:
        print("stopped", file=sys.stderr)
        return FAILED
    except ValueError as error:
        print(f"wrong setting: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
