#!/usr/bin/env python3
"""A worker for the history of a chaos run: borrows a session, asks Telegram over real Telethon, leaves, and again.

    USM_TOKEN=… telethon_worker.py --server http://127.0.0.1:50051 --server … --tenant-id acme --app-id news --holder w1

Prints one JSON object a line, with the monotonic clock of the machine in nanoseconds as `t`:

granted         the lease is held; `remaining`, in seconds
connected       Telegram answered; `since` is when the connection was begun
asked           Telegram answered a question that was sent at `sent`
lost            the lease is over or ending; `reason`, and `drain` if the service asked for it back
closing         begins to disconnect
closed          `confirmed`: no socket is open any more; `seen`: Telegram closed its end of each too
released        the service took the lease back
refused         the service refused something, or did not answer; `reason`, `server`, `doing`
telegram_error  Telegram refused, or was not reached; `error`, `code` (0: no answer)

SIGTERM makes it leave and end. `--break ignore-deadline` takes the rule away that it disconnects when its lease is lost:
it keeps its connection open and goes on asking, so that a harness can show that it finds that.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from telethon import TelegramClient, errors
from usm_client import Client, Lease, LeaseLost, UsmError, telethon
from usm_client._calls import finish
from usm_client._gate import Gate

PATIENCE = 5.0
"""Seconds Telegram gets to answer a question."""
PAUSE = 0.3
"""Seconds between two leases, about; longer after a refusal."""
OVERSTAY = 60.0
"""Seconds a broken worker goes on after its loss."""
TELETHON = {"connection_retries": 2, "retry_delay": 0.5, "request_retries": 1, "timeout": 3}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", required=True, help="several are tried in turn")
    parser.add_argument("--tenant-id", required=True)
    parser.add_argument("--app-id", required=True)
    parser.add_argument("--holder", required=True)
    parser.add_argument("--ttl", type=float, help="seconds to ask the lease for")
    parser.add_argument("--wait", type=float, default=3.0, help="seconds to queue for the session")
    parser.add_argument("--hold", type=float, default=6.0, help="seconds for which the session is kept, about")
    parser.add_argument("--ask-every", type=float, default=0.5, metavar="SECONDS")
    parser.add_argument("--rounds", type=int, help="leases after which to end; without end unless told")
    parser.add_argument("--seed", type=int, help="draws the times")
    parser.add_argument("--api-id", type=int, help="for sessions of which the service does not know it")
    parser.add_argument("--break", dest="broken", choices=["ignore-deadline"], help="takes one of the rules away")
    options = parser.parse_args()
    options.token = os.environ.get("USM_TOKEN", "").strip()
    if not options.token:
        parser.error("set USM_TOKEN to a token with the scope `lease`")
    return options


class Worker:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.random = random.Random(options.seed)
        self.servers: Iterator[str] = itertools.cycle(options.server)
        self.server = next(self.servers)
        self.stop = asyncio.Event()

    def say(self, event: str, epoch: int | None, **more: Any) -> None:
        options = self.options
        of = {"tenant": options.tenant_id, "app": options.app_id, "holder": options.holder}
        line = {"event": event, "epoch": epoch, **of, "t": now(), **more}
        print(json.dumps(line), flush=True)

    async def run(self) -> None:
        rounds = itertools.count() if self.options.rounds is None else range(self.options.rounds)
        for _ in rounds:
            pause = PAUSE
            try:
                await self.borrow()
            except UsmError as error:
                self.say("refused", None, reason=error.reason, server=self.server, doing="acquire")
                pause = min(max(2 * PAUSE, error.retry_after or 0.0), 2.0)
                if error.reason != "SESSION_LEASED":
                    self.server = next(self.servers)
            if await self.stopped(pause * self.random.uniform(0.5, 1.5)):
                return

    async def stopped(self, timeout: float) -> bool:
        try:
            await asyncio.wait_for(self.stop.wait(), timeout)
        except asyncio.TimeoutError:
            pass
        return self.stop.is_set()

    async def borrow(self) -> None:
        """One lease from its grant to its end. Raises ``UsmError`` if there is none."""
        options = self.options
        async with Client(self.server, options.token) as client:
            borrowing = client.lease(
                options.tenant_id, options.app_id, options.holder, ttl=options.ttl, wait=options.wait
            )
            use = self.overstay if options.broken else self.use
            try:
                async with borrowing as lease:
                    self.say("granted", lease.epoch, remaining=round(lease.remaining(), 3))
                    await use(lease)
                    await self.release(lease)
            except LeaseLost:
                self.server = next(self.servers)  # said when it happened

    async def release(self, lease: Lease) -> None:
        if lease.loss is not None and lease.loss.refusal is not None and lease.loss.reason != "LEASE_DRAINING":
            return  # not ours any more
        try:
            await lease.release()
            self.say("released", lease.epoch)
        except UsmError as error:
            self.say("refused", lease.epoch, reason=error.reason, server=self.server, doing="release")
            self.server = next(self.servers)

    # As it should be

    async def use(self, lease: Lease) -> None:
        telling = asyncio.ensure_future(self.tell_loss(lease))
        try:
            since = now()
            connection = telethon.connect(lease, api_id=self.options.api_id, client_kwargs=TELETHON)
            try:
                async with connection as telegram:
                    self.say("connected", lease.epoch, since=since)
                    try:
                        await self.ask_on(telegram, lease)
                    finally:
                        self.say("closing", lease.epoch)
            except (errors.RPCError, errors.AuthKeyNotFound, OSError, asyncio.TimeoutError) as error:
                self.telegram_error(lease, error)
            finally:
                gate = connection._gate
                self.say("closed", lease.epoch, confirmed=gate.is_empty(), seen=gate.is_proved())
        finally:
            telling.cancel()

    async def tell_loss(self, lease: Lease) -> None:
        await lease.lost.wait()
        if lease.loss is not None:
            self.say("lost", lease.epoch, reason=lease.loss.reason, drain=lease.loss.drain)

    async def ask_on(self, telegram: TelegramClient, lease: Lease) -> None:
        """Asks until the time is over, the lease is lost, or the worker is to end."""
        end = time.monotonic() + self.options.hold * self.random.uniform(0.3, 1.7)
        ends = [asyncio.ensure_future(lease.lost.wait()), asyncio.ensure_future(self.stop.wait())]
        try:
            while time.monotonic() < end:
                await self.ask(telegram, lease)
                every = self.options.ask_every * self.random.uniform(0.5, 1.5)
                await asyncio.wait(ends, timeout=every, return_when=asyncio.FIRST_COMPLETED)
                if any(it.done() for it in ends):
                    return
        finally:
            for it in ends:
                it.cancel()

    async def ask(self, telegram: TelegramClient, lease: Lease) -> None:
        sent = now()
        me = await asyncio.wait_for(telegram.get_me(), PATIENCE)
        if me is None:
            raise errors.UnauthorizedError(None, "NOT_LOGGED_IN", 401)
        self.say("asked", lease.epoch, sent=sent)

    def telegram_error(self, lease: Lease, error: BaseException) -> None:
        answer = telethon._ending_answer(error) or (getattr(error, "code", None) or 0, type(error).__name__)
        self.say("telegram_error", lease.epoch, error=answer[1], code=answer[0])

    # With a rule taken away

    async def overstay(self, lease: Lease) -> None:
        """Goes on asking whatever becomes of the lease."""
        gate = Gate()  # that knows no end
        telegram = telethon._client(lease.material, self.options.api_id, dict(TELETHON), gate)
        # A loss cancels the block at the deadline; this one goes on regardless.
        _, cancelled = await finish(self.ask_regardless(telegram, lease, gate))
        if cancelled:
            raise asyncio.CancelledError
        lease.confirm_connections_closed()

    async def ask_regardless(self, telegram: TelegramClient, lease: Lease, gate: Gate) -> None:
        telling = asyncio.ensure_future(self.tell_loss(lease))
        since, end = now(), time.monotonic() + self.options.hold * self.random.uniform(0.3, 1.7)
        try:
            await telegram.connect()
            self.say("connected", lease.epoch, since=since)
            while not self.stop.is_set() and time.monotonic() < end:
                if lease.lost.is_set():
                    end = lease.deadline + OVERSTAY
                await self.ask(telegram, lease)
                await self.stopped(self.options.ask_every * self.random.uniform(0.5, 1.5))
        except (errors.RPCError, errors.AuthKeyNotFound, OSError, asyncio.TimeoutError) as error:
            self.telegram_error(lease, error)
        finally:
            telling.cancel()
            self.say("closing", lease.epoch)
            gate.shut()
            await telegram.disconnect()
            await gate.close(1)
            self.say("closed", lease.epoch, confirmed=gate.is_empty(), seen=gate.is_proved())


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


async def main(options: argparse.Namespace) -> None:
    worker = Worker(options)
    running = asyncio.ensure_future(worker.run())

    def end() -> None:
        if worker.stop.is_set():
            running.cancel()
        worker.stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        await running
    except asyncio.CancelledError:
        pass


if __name__ == "__main__":
    # What the client warns of goes to standard error, with the time.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(main(arguments()))
