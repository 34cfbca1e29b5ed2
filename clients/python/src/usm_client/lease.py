"""A lease that renews itself, tells in time when it cannot, and stops a block that goes on regardless.

The deadline is counted on this process's monotonic clock from before each call was sent. One task owns the renewals; it
ends with the block.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from types import TracebackType
from typing import Any, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration
from usm.v1 import lease_pb2, lease_service_pb2, material_pb2

from ._calls import call, finish, log, repeat
from .errors import LeaseLost, UsmError
from .material import Material
from .term import Term, backoff

_CALL_TIMEOUT = 10.0
"""Seconds an acquire gets beyond its ``wait``, and a release in all."""
_REPORT_TIMEOUT = 5.0
_WAIT_MAX = 600.0


class Stub(Protocol):
    """The calls of ``LeaseService`` that a holder makes."""

    AcquireLease: Any
    RenewLease: Any
    ReleaseLease: Any
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

    def __init__(self, stub: Stub, message: lease_pb2.Lease, material: Material, term: Term, stop_before: float) -> None:
        self.tenant_id = message.tenant_id
        self.app_id = message.app_id
        self.holder = message.holder
        self.epoch = message.epoch
        self.material = material
        self.lost = asyncio.Event()
        self.loss = None
        self._stub = stub
        self._lease_id = message.lease_id
        self._term = term
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

    async def _report(
        self, request: lease_service_pb2.ReportSessionRequest
    ) -> lease_service_pb2.ReportSessionResponse:
        request.lease_id, request.epoch, request.request_id = self._lease_id, self.epoch, str(uuid.uuid4())
        until = time.monotonic() + _REPORT_TIMEOUT

        async def attempt() -> lease_service_pb2.ReportSessionResponse:
            response: lease_service_pb2.ReportSessionResponse = await call(
                self._stub.ReportSession, request, until - time.monotonic()
            )
            return response

        return await repeat(until, attempt)

    async def _keep(self) -> None:
        """Renews whenever it is time, until the lease is over; then tells so."""
        try:
            loss = await self._renewals()
        except Exception:
            # Whatever it was: without renewals the lease ends.
            log.exception("The renewals of %s/%s ended", self.tenant_id, self.app_id)
            loss = LeaseLost("INTERNAL")
        self.loss = loss
        self.lost.set()
        log.warning("The lease of %s/%s, epoch %d: %s", self.tenant_id, self.app_id, self.epoch, loss)

    async def _renewals(self) -> LeaseLost:
        at, failures = self._term.renew_at, 0
        while True:
            term = self._term
            await asyncio.sleep(max(0.0, min(at, term.lost_at) - time.monotonic()))
            if time.monotonic() >= term.lost_at:
                return LeaseLost("EXPIRED")
            try:
                self._term = await self._renew(term)
                at, failures = self._term.renew_at, 0
            except UsmError as error:
                if error.ends_lease:
                    return LeaseLost(error.reason, error)
                log.warning("A renewal of %s/%s failed, another follows: %s", self.tenant_id, self.app_id, error)
                at = time.monotonic() + backoff(failures, error.retry_after, random.random())
                failures += 1

    async def _renew(self, term: Term) -> Term:
        request = lease_service_pb2.RenewLeaseRequest(
            lease_id=self._lease_id, epoch=self.epoch, request_id=str(uuid.uuid4())
        )
        activity, self._activity = self._activity, None
        if activity is not None:
            request.last_activity_time.FromMicroseconds(int(activity * 1e6))
        sent = time.monotonic()
        try:
            response: lease_service_pb2.RenewLeaseResponse = await call(
                self._stub.RenewLease, request, min(term.attempt, term.lost_at - sent)
            )
        except UsmError:
            self._activity = self._activity or activity
            raise
        renewed = response.lease
        new = Term.granted(sent, _seconds(renewed.ttl), _seconds(renewed.renew_after), self._stop_before)
        if renewed.epoch != self.epoch or new is None:
            raise UsmError("INTERNAL", "the answer grants no time", code=grpc.StatusCode.INTERNAL)
        return new

    async def release(self) -> None:
        """Gives the lease back, telling whether the connections are closed. Leaving the block does it by itself.

        Raises ``UsmError``, for example ``LEASE_NOT_HELD`` after the lease expired.
        """
        if self._released:
            return
        self._released = True
        request = lease_service_pb2.ReleaseLeaseRequest(
            lease_id=self._lease_id,
            epoch=self.epoch,
            connections_closed=self._closed,
            request_id=str(uuid.uuid4()),
        )
        until = time.monotonic() + _CALL_TIMEOUT

        async def attempt() -> None:
            await call(self._stub.ReleaseLease, request, until - time.monotonic())

        await repeat(until, attempt)

    def __repr__(self) -> str:
        state = f"lost: {self.loss.reason}" if self.loss else f"{self.remaining():.1f} s left"
        return f"Lease({self.tenant_id!r}, {self.app_id!r}, epoch={self.epoch}, {state})"


class LeaseContext:
    """Acquires on entering, releases on leaving. Made by ``Client.lease``; use it once."""

    def __init__(
        self,
        stub: Stub,
        *,
        tenant_id: str,
        app_id: str,
        holder: str,
        format: material_pb2.SessionFormat.ValueType,
        ttl: float | None,
        wait: float,
        stop_before: float,
    ) -> None:
        self._stub = stub
        self._stop_before = stop_before
        self._wait = min(max(wait, 0.0), _WAIT_MAX)
        # One id for every attempt: an answer that gets lost does not cost a second lease.
        self._request = lease_service_pb2.AcquireLeaseRequest(
            tenant_id=tenant_id, app_id=app_id, holder=holder, format=format, request_id=str(uuid.uuid4())
        )
        if ttl is not None:
            _set(self._request.ttl, ttl)
        self._lease: Lease | None = None
        self._cancelled_block = False

    async def __aenter__(self) -> Lease:
        if self._lease is not None:
            raise RuntimeError("a lease context is used once")
        lease = await self._acquire()
        block = asyncio.current_task()
        assert block is not None, "async with runs in a task"
        self._lease, self._block = lease, block
        # `cancelling` exists from Python 3.11 on; before, two cancellations cannot be told apart.
        self._cancelling: int = block.cancelling() if hasattr(block, "cancelling") else 0
        self._guard = asyncio.ensure_future(self._watch(lease))
        return lease

    async def _acquire(self) -> Lease:
        until = time.monotonic() + self._wait + _CALL_TIMEOUT

        async def attempt() -> Lease:
            sent = time.monotonic()
            # A repetition keeps its place in the queue, but waits no longer than the caller wanted.
            _set(self._request.wait, max(0.0, min(self._wait, until - _CALL_TIMEOUT - sent)))
            response: lease_service_pb2.AcquireLeaseResponse = await call(
                self._stub.AcquireLease, self._request, until - sent
            )
            granted = response.lease
            term = Term.granted(sent, _seconds(granted.ttl), _seconds(granted.renew_after), self._stop_before)
            if not granted.lease_id or term is None:
                raise UsmError("INTERNAL", "the answer grants no lease", code=grpc.StatusCode.DATA_LOSS)
            return Lease(self._stub, granted, Material.from_message(response.material), term, self._stop_before)

        return await repeat(until, attempt)

    async def _watch(self, lease: Lease) -> None:
        """Renews; once the lease is lost, gives the block its time to stop and then stops it."""
        await lease._keep()
        end = lease.deadline
        if lease.loss is not None and lease.loss.reason not in ("EXPIRED", "LEASE_DRAINING"):
            # Somebody else may be granted the session now: only as long as closing takes.
            end = min(end, time.monotonic() + lease.deadline - lease._term.lost_at)
        await asyncio.sleep(max(0.0, end - time.monotonic()))
        self._cancelled_block = True
        self._block.cancel()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lease = self._lease
        assert lease is not None, "left after it was entered"
        _, cancelled = await finish(self._leave(lease))
        if self._cancelled_block:
            if exc_type is not asyncio.CancelledError:
                cancelled = max(0, cancelled - 1)  # ours came only after the block's end
            others = self._block.uncancel() > self._cancelling if hasattr(self._block, "uncancel") else False
            if exc_type is asyncio.CancelledError and not others and not cancelled:
                assert lease.loss is not None, "a block is cancelled only after a loss"
                raise lease.loss from None
        if cancelled:
            raise asyncio.CancelledError

    async def _leave(self, lease: Lease) -> None:
        self._guard.cancel()
        await asyncio.wait({self._guard})
        if not lease.lost.is_set():
            lease.loss = LeaseLost("RELEASED")
            lease.lost.set()
        elif lease.loss is not None and lease.loss.refusal is not None and lease.loss.reason != "LEASE_DRAINING":
            return  # not ours any more: there is nothing to give back
        try:
            await lease.release()
        except UsmError as error:
            log.warning(
                "The lease of %s/%s could not be released, it expires by itself: %s", lease.tenant_id, lease.app_id, error
            )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _set(duration: Duration, seconds: float) -> None:
    duration.FromNanoseconds(int(seconds * 1e9))
