"""A lease that renews itself and tells in time when it cannot.

The deadline is counted on this process's monotonic clock from before each call or beat was sent.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable
from typing import Any, Protocol

from usm.v1 import lease_pb2, lease_service_pb2, session_pb2

from ._calls import call, log, repeat
from ._stream import Room
from .errors import LeaseLost
from .material import Material, format_number
from .term import Term

CALL_TIMEOUT = 10.0
"""Seconds an acquire gets beyond its ``wait``, and a release and a save in all."""
_REPORT_TIMEOUT = 5.0


class Stub(Protocol):
    """The calls of ``LeaseService`` that a holder makes."""

    AcquireLease: Any
    RenewLease: Any
    ReleaseLease: Any
    HoldLease: Any
    SaveSession: Any
    ReportSession: Any


class Lease:
    """A session lent to this process. Made by ``Client.lease``."""

    tenant_id: str
    app_id: str
    holder: str
    epoch: int
    """Fencing number of the lease."""
    material: Material
    """What to connect with. Keep it in memory only, and drop it with the lease."""
    lost: asyncio.Event
    """Set when every connection must be closed, ``stop_before`` seconds before the deadline at the latest."""
    loss: LeaseLost | None
    """Why the lease is over, once ``lost`` is set."""

    def __init__(
        self,
        stub: Stub,
        room: Room,
        message: lease_pb2.Lease,
        material: Material,
        term: Term,
        stop_before: float,
    ) -> None:
        self.tenant_id = message.tenant_id
        self.app_id = message.app_id
        self.holder = message.holder
        self.epoch = message.epoch
        self.material = material
        self.lost = asyncio.Event()
        self.loss = None
        self._stub = stub
        self._room = room
        self._lease_id = message.lease_id
        self._term = term
        self._extended = asyncio.Event()
        """Set by each renewal, for whoever clears it."""
        self._stop_before = stop_before
        self._activity: float | None = None
        self._closed = False
        self._released = False

    @property
    def deadline(self) -> float:
        """The instant of ``time.monotonic()`` at which every connection must be closed. Renewals move it."""
        return self._term.deadline

    def remaining(self) -> float:
        """Seconds left until the deadline, not below 0."""
        return max(0.0, self._term.deadline - time.monotonic())

    def is_over(self) -> bool:
        """Whether nothing may be sent to Telegram any more.

        Asks the clock: true as soon as the deadline has passed, also in a process that was stopped meanwhile and has
        not come round to setting ``lost``. Ask before every write to a socket.
        """
        return self.lost.is_set() or time.monotonic() >= self._term.deadline

    def note_activity(self) -> None:
        """Telegram answered just now: the next renewal tells the service, which spares a probe."""
        self._activity = time.time()

    def expect_connections(self) -> None:
        """A connection with the material is about to be opened: takes an earlier confirmation back."""
        self._closed = False

    def confirm_connections_closed(self) -> None:
        """The holder's word that no connection with the material is open: a release frees the session at once."""
        self._closed = True

    async def report_alive(self, telegram_user_id: int = 0, username: str = "") -> None:
        """Tells the service that Telegram accepted the session, and for which account. Raises ``UsmError``."""
        proof = lease_service_pb2.ProofOfLife(telegram_user_id=telegram_user_id, username=username)
        await self._report(lease_service_pb2.ReportSessionRequest(proof_of_life=proof))
        self.note_activity()

    async def report_error(self, code: int, message: str, *, method: str = "", dc_id: int = 0) -> bool:
        """Tells the service what Telegram answered, for example 406 and ``AUTH_KEY_DUPLICATED``.

        Returns whether the holder may go on. Raises ``UsmError``.
        """
        error = lease_service_pb2.TelegramError(
            code=code, message=message[:128], dc_id=dc_id, method=method[:128]
        )
        response = await self._report(lease_service_pb2.ReportSessionRequest(error=error))
        return response.advice == lease_service_pb2.HOLDER_ADVICE_CONTINUE

    async def save(
        self,
        data: bytes | str | None = None,
        *,
        format: str | None = None,
        dc_id: int = 0,
        dc_keys: Iterable[lease_service_pb2.DcKey] = (),
        update_state: lease_service_pb2.UpdateState | None = None,
        timeout: float = CALL_TIMEOUT,
    ) -> session_pb2.Session:
        """Writes back what changed in the material while it was held. Returns the session after the change.

        Either the whole session as ``data``, in ``format`` (that of the material unless told otherwise), or its parts:
        ``dc_id`` is a new home data centre, ``dc_keys`` are keys to add or replace, ``update_state`` is the position in
        the stream of updates. What is not given stays. Raises ``UsmError``, for example ``LEASE_EPOCH_STALE`` or
        ``MATERIAL_INVALID``.
        """
        request = lease_service_pb2.SaveSessionRequest(dc_id=dc_id, dc_keys=dc_keys, update_state=update_state)
        if data is not None:
            request.data = data.encode("ascii") if isinstance(data, str) else data
            request.format = format_number(format or self.material.format)
        response: lease_service_pb2.SaveSessionResponse = await self._tell(self._stub.SaveSession, request, timeout)
        return response.session

    async def _report(
        self, request: lease_service_pb2.ReportSessionRequest
    ) -> lease_service_pb2.ReportSessionResponse:
        response: lease_service_pb2.ReportSessionResponse = await self._tell(
            self._stub.ReportSession, request, _REPORT_TIMEOUT
        )
        return response

    async def _tell(self, method: Any, request: Any, timeout: float) -> Any:
        """Calls a method that is safe to repeat with the lease's id and epoch."""
        request.lease_id, request.epoch, request.request_id = self._lease_id, self.epoch, str(uuid.uuid4())
        until = time.monotonic() + timeout

        async def attempt() -> Any:
            return await call(method, request, until - time.monotonic())

        return await repeat(until, attempt)

    def _take_activity(self) -> float | None:
        """What the next renewal tells the service."""
        activity, self._activity = self._activity, None
        return activity

    def _return_activity(self, activity: float | None) -> None:
        """The renewal got no answer: the next one tells it, unless there is newer."""
        self._activity = self._activity or activity

    def _lose(self, loss: LeaseLost) -> None:
        self.loss = loss
        self.lost.set()
        log.warning("The lease of %s/%s, epoch %d: %s", self.tenant_id, self.app_id, self.epoch, loss)

    async def release(self) -> None:
        """Gives the lease back, telling whether the connections are closed. Leaving the block does it by itself.

        Raises ``UsmError``, for example ``LEASE_NOT_HELD`` after the lease expired.
        """
        if self._released:
            return
        self._released = True
        request = lease_service_pb2.ReleaseLeaseRequest(connections_closed=self._closed)
        await self._tell(self._stub.ReleaseLease, request, CALL_TIMEOUT)

    def __repr__(self) -> str:
        state = f"lost: {self.loss.reason}" if self.loss else f"{self.remaining():.1f} s left"
        return f"Lease({self.tenant_id!r}, {self.app_id!r}, epoch={self.epoch}, {state})"
