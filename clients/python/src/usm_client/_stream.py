"""One call of ``HoldLease``: what is said and heard over it, with waits that end. Knows nothing of a lease's time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from usm.v1 import lease_service_pb2

from .errors import UsmError

STREAMS_MAX = 100
"""Streams of one client at once. A service takes a few hundred calls a connection: what renews and gives back needs
room beside the streams, or it would wait for one of them to end. Further leases are kept by calls."""
_CLOSE_TIMEOUT = 1.0


class Room:
    """How many more streams a client may open."""

    def __init__(self, most: int = STREAMS_MAX) -> None:
        self._left = most

    def enter(self) -> bool:
        """Takes a place, if there is one."""
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    def leave(self) -> None:
        """Gives the place back."""
        self._left += 1


class Stream:
    """An open call. Close it, whatever happened."""

    def __init__(self, hold: Any) -> None:
        """Raises ``UsmError``."""
        self._requests: asyncio.Queue[lease_service_pb2.HoldLeaseRequest | None] = asyncio.Queue()
        try:
            self._call = hold(self._sending())
        except Exception as error:  # the channel was closed
            raise UsmError("CANCELLED", "the client is closed", code=grpc.StatusCode.CANCELLED) from error
        self._reading: asyncio.Task[lease_service_pb2.HoldLeaseResponse | None] | None = None

    def attach(self, lease_id: str, epoch: int) -> None:
        """Says which lease it is about. The first message."""
        attach = lease_service_pb2.HoldLeaseAttach(lease_id=lease_id, epoch=epoch)
        self._requests.put_nowait(lease_service_pb2.HoldLeaseRequest(attach=attach))

    def beat(self, number: int, activity: float | None) -> None:
        """The holder is alive; ``activity`` is when Telegram last answered it, by the calendar."""
        beat = lease_service_pb2.HoldLeaseBeat(beat=number)
        if activity is not None:
            beat.last_activity_time.FromMicroseconds(int(activity * 1e6))
        self._requests.put_nowait(lease_service_pb2.HoldLeaseRequest(beat=beat))

    async def receive(self, timeout: float) -> lease_service_pb2.HoldLeaseResponse | None:
        """The next message; None if none came in time. Raises ``UsmError`` when the stream ended.

        Cancellation-safe: a message that was not returned is returned by the next call.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        await asyncio.wait({self._reading}, timeout=max(0.0, timeout))
        if not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        if reading.cancelled():  # not by us: the channel was closed meanwhile
            raise UsmError("CANCELLED", "the connection was closed", code=grpc.StatusCode.CANCELLED)
        try:
            message = reading.result()
        except grpc.aio.AioRpcError as error:
            raise UsmError.from_rpc(error) from None
        except grpc.aio.UsageError:
            raise UsmError("CANCELLED", "the client is closed", code=grpc.StatusCode.CANCELLED) from None
        except Exception as error:  # of the caller's own function for the token, for example
            raise UsmError("UNKNOWN", f"the stream failed: {type(error).__name__}") from error
        if message is None:
            raise UsmError("UNAVAILABLE", "the stream ended", code=grpc.StatusCode.UNAVAILABLE)
        return message

    async def _read(self) -> lease_service_pb2.HoldLeaseResponse | None:
        message = await self._call.read()
        return None if message is grpc.aio.EOF else message

    async def _sending(self) -> AsyncIterator[lease_service_pb2.HoldLeaseRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def close(self) -> None:
        """Ends the call and everything that runs for it."""
        self._call.cancel()
        self._requests.put_nowait(None)
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading}, timeout=_CLOSE_TIMEOUT)
            if self._reading.done() and not self._reading.cancelled():
                self._reading.exception()  # that it ended in an error does not matter: it ended
