"""Has Telegram close the connection at the lease's deadline.

A process that is stopped keeps its sockets and can close none, and Telegram may count an open one as a second user of
the authorization. ``ping_delay_disconnect`` asks the server to close the connection after so many seconds unless another
such ping comes (https://core.telegram.org/mtproto/service_messages), whatever became of the process. Telethon's own
pings are of another kind and do not undo it.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from telethon import TelegramClient
from telethon.network.requeststate import RequestState
from telethon.tl.functions import PingDelayDisconnectRequest

from .lease import Lease

_RETRY = 0.05
"""Seconds until another try while Telethon is not ready to send."""


class Limit:
    """Sends a ping with the time that is left, after each renewal and on each new connection."""

    def __init__(self, lease: Lease, client: TelegramClient) -> None:
        self._lease = lease
        self._client = client
        self._news = lease._extended
        """Set by each renewal, and by ``connected``."""

    def connected(self) -> None:
        """A connection was opened: nothing is known there of earlier pings. Nothing is sent on it before the ping."""
        sender, delay = self._client._sender, int(self._lease.remaining())
        if not sender.is_connected() and delay >= 1:
            # It takes no request of ours yet, but what it queues now is the first that it sends.
            state = RequestState(PingDelayDisconnectRequest(random.getrandbits(63), delay))
            state.future.add_done_callback(_forget)
            sender._send_queue.append(state)
        self._news.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._news.clear()
            if self._send():
                await self._news.wait()
            else:
                await asyncio.sleep(_RETRY)

    def _send(self) -> bool:
        # Rounded down: rather a moment too early than too late. Long before that the lease is renewed or lost.
        delay = int(self._lease.remaining())
        if delay < 1:
            return True  # what is open is being closed
        # Those to other data centres, for files, hear of it from the next renewal on.
        for _, sender in self._client._borrowed_senders.values():
            _ping(sender, delay)
        return _ping(self._client._sender, delay)


def _ping(sender: Any, delay: int) -> bool:
    try:
        pong = sender.send(PingDelayDisconnectRequest(random.getrandbits(63), delay))
    except ConnectionError:
        return False
    pong.add_done_callback(_forget)
    return True


def _forget(pong: asyncio.Future[Any]) -> None:
    if not pong.cancelled():
        pong.exception()  # that the connection ended is told elsewhere
