"""The gate that every connection of Telethon goes through.

What it decides it decides at the moment of the write or the connect, by the clock: a process that was stopped and goes
on runs whatever is ready first, and the task that was to close its sockets may come last.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

ABORT_TIMEOUT = 1.0
_SPACING = 1.0
"""Seconds between two connections to one data centre; Telethon reconnects without a pause in some failures."""
_DIRECT = object()
"""In place of a proxy: makes Telethon ask for the socket, as it does of a proxy."""


def _never() -> bool:
    return False


class Gate:
    """Every connection that Telethon opens for one lease. ``is_over`` tells whether the lease has ended."""

    on_open: Callable[[], None] | None = None
    """Called after each connection."""

    def __init__(self, is_over: Callable[[], bool] = _never) -> None:
        self._is_over = is_over
        self._shut = False
        self._opening = 0
        self._open: dict[asyncio.StreamWriter, object] = {}
        self._last: dict[object, float] = {}

    def shut(self) -> None:
        """No connection is opened and nothing is written from now on."""
        self._shut = True

    def check(self) -> None:
        """Before every write and connect. Once the lease is over: drops the connections and raises."""
        if self._shut or self._is_over():
            self._shut = True
            for writer in self._open:
                _drop(writer)
            raise ConnectionError("the lease is over")

    def is_empty(self) -> bool:
        """Whether no socket is open or about to be, and none can be any more."""
        return self._shut and not self._opening and not self._open

    async def close(self, timeout: float) -> None:
        """Closes what is open, at once. Shut the gate first."""
        until = time.monotonic() + timeout
        while self._opening and time.monotonic() < until:
            await asyncio.sleep(0.01)
        await asyncio.gather(*(self._abort(writer, until) for writer in list(self._open)))

    async def _abort(self, writer: asyncio.StreamWriter, until: float) -> None:
        _drop(writer)
        waiting = asyncio.ensure_future(writer.wait_closed())
        done, _ = await asyncio.wait({waiting}, timeout=max(0.05, until - time.monotonic()))
        if done:
            if not waiting.cancelled():
                waiting.exception()  # that it ended in an error does not matter: it ended
            self._open.pop(writer, None)
        else:
            waiting.cancel()

    async def admit(self, place: object) -> None:
        """Before a connection to a place is opened: closes an older one to it, and keeps the spacing."""
        older = [writer for writer, there in self._open.items() if there == place]
        until = time.monotonic() + ABORT_TIMEOUT
        await asyncio.gather(*(self._abort(writer, until) for writer in older))
        if any(there == place for there in self._open.values()):
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
                    self._open[connection._writer] = place
                elif connection._gated is not None:
                    connection._gated.close()
            self.check()
            if self.on_open is not None:
                self.on_open()
        finally:
            self._opening -= 1


def _drop(writer: asyncio.StreamWriter) -> None:
    """Closes a connection so that the kernel, too, forgets what it has not sent yet."""
    if (plain := writer.get_extra_info("socket")) is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


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
