"""The gate that every connection of Telethon goes through.

What it decides it decides at the moment of the write or the connect, by the clock: a process that was stopped and goes
on runs whatever is ready first, and the task that was to close its sockets may come last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

ABORT_TIMEOUT = 1.0
FAREWELL_TIMEOUT = 2.0
"""Seconds Telegram gets to close its end of a connection that is closed here."""
_MARGIN = 0.1
"""Seconds before the deadline at which a farewell that was not answered ends."""
_SPACING = 1.0
"""Seconds between two connections to one data centre; Telethon reconnects without a pause in some failures."""
_DIRECT = object()
"""In place of a proxy: makes Telethon ask for the socket, as it does of a proxy."""


def _never() -> bool:
    return False


def _always() -> float:
    return float("inf")


class Gate:
    """Every connection that Telethon opens for one lease.

    ``is_over`` tells whether the lease has ended, ``remaining`` how many seconds connections may still be open.
    """

    on_open: Callable[[], None] | None = None
    """Called after each connection."""

    def __init__(self, is_over: Callable[[], bool] = _never, remaining: Callable[[], float] = _always) -> None:
        self._is_over = is_over
        self._remaining = remaining
        self._shut = False
        self._opening = 0
        self._open: set[_Line] = set()
        self._unseen = 0
        self._last: dict[object, float] = {}

    def shut(self) -> None:
        """No connection is opened and nothing is written from now on."""
        self._shut = True

    def check(self) -> None:
        """Before every write and connect. Once the lease is over: drops the connections and raises."""
        if self._shut or self._is_over():
            self._shut = True
            for line in list(self._open):
                if self._remaining() > 0:
                    line.leave(time.monotonic() + FAREWELL_TIMEOUT)
                else:
                    line.drop()
            raise ConnectionError("the lease is over")

    def is_empty(self) -> bool:
        """Whether no socket is open or about to be, and none can be any more."""
        return self._shut and not self._opening and not self._open

    def is_proved(self) -> bool:
        """Whether, beyond that, Telegram has closed its end of every connection there was."""
        return self.is_empty() and not self._unseen

    async def close(self, timeout: float = FAREWELL_TIMEOUT) -> None:
        """Closes what is open, by a farewell of at most so many seconds. Shut the gate first."""
        until = time.monotonic() + timeout
        while self._opening and time.monotonic() < until:
            await asyncio.sleep(0.01)
        await self._close(self._open, until)

    async def _close(self, lines: set[_Line], until: float) -> None:
        if leaving := [line.leave(until) for line in lines]:
            await asyncio.wait(leaving, timeout=max(0.0, until - time.monotonic()) + ABORT_TIMEOUT)

    async def admit(self, place: object) -> None:
        """Before a connection to a place is opened: closes an older one to it, and keeps the spacing."""
        await self._close({line for line in self._open if line.place == place}, time.monotonic() + FAREWELL_TIMEOUT)
        if any(line.place == place for line in self._open):
            raise ConnectionError("an older connection to Telegram does not close")
        wait = self._last.get(place, float("-inf")) + _SPACING - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        self.check()
        self._last[place] = time.monotonic()

    async def open(self, connection: Any, opening: Any) -> None:
        """Opens a connection and remembers its socket, also if it fails midway."""
        # Behind an MTProto proxy every data centre has the address of the proxy.
        place = (connection._dc_id, connection._ip, connection._port)
        self._opening += 1
        try:
            await self.admit(place)
            connection._writer = connection._gated = None
            try:
                await opening()
            finally:
                if connection._writer is not None:
                    self._keep(place, connection._writer.get_extra_info("socket"), connection._writer)
                elif connection._gated is not None:
                    self._keep(place, connection._gated, None)
                    connection._gated.close()
            self.check()
            if self.on_open is not None:
                self.on_open()
        finally:
            self._opening -= 1

    def _keep(self, place: object, plain: Any, writer: asyncio.StreamWriter | None) -> None:
        if plain.fileno() < 0:
            return  # it broke before anything was sent
        try:
            descriptor = os.dup(plain.fileno())
        except OSError:
            self._unseen += 1
            if writer is not None:
                writer.transport.abort()
            raise
        self._open.add(_Line(self, place, descriptor, writer))

    def _ended(self, line: _Line, seen: bool) -> None:
        self._open.discard(line)
        self._unseen += not seen


class _Line:
    """One connection until both of its ends are closed.

    A second descriptor of its socket outlives the one Telethon has: closing that does not close the connection. So,
    however Telethon goes, Telegram is told of the end and heard out.
    """

    def __init__(self, gate: Gate, place: object, descriptor: int, writer: asyncio.StreamWriter | None) -> None:
        self.place = place
        self._gate = gate
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._writer = writer
        self._until: float | None = None
        """When to drop it; none before the farewell."""
        self._begun = asyncio.Event()
        self._task = asyncio.ensure_future(self._run())

    def leave(self, until: float) -> asyncio.Task[None]:
        """Begins the farewell, or shortens it. The task ends with the connection."""
        self._until = until if self._until is None else min(self._until, until)
        self._begun.set()
        return self._task

    def drop(self) -> None:
        """Closes it so that the kernel, too, forgets what it has not sent yet."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self._writer is not None:
            self._writer.transport.abort()
        self.leave(0.0)

    async def _run(self) -> None:
        seen = False
        try:
            broken = await self._left()
            seen = await self._farewell() and not broken
        finally:
            self.drop()
            self._socket.close()
            self._gate._ended(self, seen)

    async def _left(self) -> bool:
        """Until Telethon has closed its descriptor, or has to. Tells if the connection broke where it cannot be known
        whether Telegram noticed."""
        if self._writer is None:
            return False
        begun = asyncio.ensure_future(self._begun.wait())
        closed = asyncio.ensure_future(self._writer.wait_closed())
        try:
            await asyncio.wait({begun, closed}, return_when=asyncio.FIRST_COMPLETED)
            self._writer.transport.abort()  # drops what it has not passed to the kernel
            await asyncio.wait({closed}, timeout=ABORT_TIMEOUT)
            error = closed.exception() if closed.done() and not closed.cancelled() else None
        finally:
            begun.cancel()
            closed.cancel()
        told = isinstance(error, (ConnectionResetError, BrokenPipeError))
        return isinstance(error, OSError) and error.errno is not None and not told

    async def _farewell(self) -> bool:
        """Says that nothing more comes, and waits until the other side says so too. Tells whether it did."""
        self.leave(time.monotonic() + FAREWELL_TIMEOUT)
        left = self._patience()
        try:
            # Without time left it only looks: what was not sent yet is not to leave.
            if left > 0:
                self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return True  # it was never connected, or was reset
        ending = asyncio.ensure_future(self._end())
        try:
            await asyncio.wait({ending}, timeout=0)
            while not ending.done() and left > 0:
                await asyncio.wait({ending}, timeout=min(left, 0.05))
                left = self._patience()
            return ending.done() and ending.result()
        finally:
            ending.cancel()
            await asyncio.wait({ending})

    def _patience(self) -> float:
        assert self._until is not None
        return min(self._until - time.monotonic(), self._gate._remaining() - _MARGIN)

    async def _end(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            while await loop.sock_recv(self._socket, 1 << 16):
                pass
        except ConnectionResetError:
            return True
        except OSError:
            return False
        return True


class _Socket(socket.socket):
    """Asks the gate whenever bytes are to leave: also those that asyncio has kept in its buffer."""

    gate: Gate

    @classmethod
    def adopt(cls, gate: Gate, plain: socket.socket) -> _Socket:
        """The same socket behind the gate; the plain one is detached."""
        adopted = cls(plain.family, plain.type, plain.proto, plain.detach())
        adopted.setblocking(False)
        adopted.gate = gate
        return adopted

    def connect(self, *args: Any) -> None:
        self.gate.check()
        super().connect(*args)

    def send(self, *args: Any) -> int:
        self.gate.check()
        return super().send(*args)

    def sendmsg(self, *args: Any) -> int:
        self.gate.check()
        return super().sendmsg(*args)


def gated(base: type[Any], gate: Gate) -> type[Any]:
    """Telethon's connection class, with its sockets behind the gate."""

    class Gated(base):  # type: ignore[misc]
        _proxy: Any

        async def _connect(self, timeout: Any = None, ssl: Any = None) -> None:
            if not self._proxy and not ssl:
                self._proxy = _DIRECT
            await gate.open(self, lambda: super(Gated, self)._connect(timeout=timeout, ssl=ssl))

        async def _proxy_connect(self, timeout: Any = None, local_addr: Any = None) -> socket.socket:
            if self._proxy is _DIRECT:
                self._gated = _Socket.adopt(gate, socket.socket(_family(self._ip), socket.SOCK_STREAM))
                if local_addr is not None:
                    self._gated.bind(local_addr)
                connecting = asyncio.get_running_loop().sock_connect(self._gated, (self._ip, self._port))
                await asyncio.wait_for(connecting, timeout)
            else:
                plain = await super()._proxy_connect(timeout=timeout, local_addr=local_addr)
                self._gated = _Socket.adopt(gate, plain)
            return self._gated

        # Event loops that write by themselves, past the socket's methods, are stopped here.

        def _init_conn(self) -> None:
            gate.check()
            super()._init_conn()

        def _send(self, data: bytes) -> None:
            gate.check()
            super()._send(data)

    Gated.__name__ = base.__name__
    return Gated


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
