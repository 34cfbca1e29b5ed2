"""Keeps a lease: by beats over a stream, and by calls whenever there is no stream.

A stream that breaks costs nothing: the holder's own deadline alone decides. Only an answered beat or call moves it, and
only from the instant before that beat or call was sent.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from typing import TYPE_CHECKING

import grpc
from usm.v1 import lease_pb2, lease_service_pb2

from ._calls import call, log
from ._stream import Stream
from .errors import LeaseLost, UsmError
from .material import enum_name
from .term import Term, backoff, reopening

if TYPE_CHECKING:
    from .lease import Lease

_ENDING = {"LEASE_NOT_HELD", "LEASE_EPOCH_STALE", "LEASE_DRAINING"}
"""Reasons that end a lease when a stream ends with one. Anything else only ended the stream: the next call tells."""
_NEVER = float("inf")


class Keeper:
    """Renews one lease until it is over. Reads and moves the lease's term; nobody else does."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._retry_at = 0.0
        """Before then no call is repeated."""
        self._calls_failed = 0
        self._reopen_at = 0.0
        """Before then no stream is opened."""
        self._streams_failed = 0

    async def run(self) -> LeaseLost:
        """Renews whenever it is time. Returns once the lease is over, telling why."""
        while not self._lease._released:
            now, term = time.monotonic(), self._lease._term
            due = max(term.renew_at, self._retry_at)
            loss: LeaseLost | None = None
            if now >= term.lost_at:
                return LeaseLost("EXPIRED")
            if now >= due:
                loss = await self._renew(term)
            elif now >= self._reopen_at and now < term.renew_at:
                loss = await self._hold()
            else:
                # An overdue renewal comes before another try of the stream.
                opening = self._reopen_at if now < term.renew_at else _NEVER
                await asyncio.sleep(min(due, opening, term.lost_at) - now)
            if loss is not None:
                return loss
        return LeaseLost("RELEASED")

    # By calls

    async def refresh(self) -> None:
        """Renews once, by a call, a lease that is not used yet: even if its time seems over. Raises ``UsmError``."""
        self._extended(await self._call(self._lease._term.attempt))

    async def _renew(self, term: Term) -> LeaseLost | None:
        try:
            renewed = await self._call(min(term.attempt, term.lost_at - time.monotonic()))
        except UsmError as error:
            if error.ends_lease:
                return LeaseLost(error.reason, error)
            lease = self._lease
            log.warning("A renewal of %s/%s failed, another follows: %s", lease.tenant_id, lease.app_id, error)
            self._retry_at = time.monotonic() + backoff(self._calls_failed, error.retry_after, random.random())
            self._calls_failed += 1
            return None
        if time.monotonic() >= term.lost_at:  # the process slept: an answer read too late revives nothing
            return LeaseLost("EXPIRED")
        self._extended(renewed)
        return None

    async def _call(self, timeout: float) -> Term:
        lease = self._lease
        request = lease_service_pb2.RenewLeaseRequest(
            lease_id=lease._lease_id, epoch=lease.epoch, request_id=str(uuid.uuid4())
        )
        activity = lease._take_activity()
        if activity is not None:
            request.last_activity_time.FromMicroseconds(int(activity * 1e6))
        sent = time.monotonic()
        try:
            response: lease_service_pb2.RenewLeaseResponse = await call(lease._stub.RenewLease, request, timeout)
        except UsmError:
            lease._return_activity(activity)
            raise
        return self._granted(sent, response.lease)

    def _granted(self, sent: float, answer: lease_pb2.Lease) -> Term:
        lease = self._lease
        term = Term.from_lease(sent, answer, lease._stop_before)
        if answer.epoch != lease.epoch or term is None:
            raise UsmError("INTERNAL", "the answer grants no time", code=grpc.StatusCode.INTERNAL)
        return term

    def _extended(self, term: Term) -> None:
        self._lease._term = term
        self._lease._extended.set()
        self._retry_at, self._calls_failed = 0.0, 0

    # By a stream

    async def _hold(self) -> LeaseLost | None:
        """Attaches to the service and beats, until the stream or the lease is over."""
        room = self._lease._room
        if not room.enter():
            self._reopen_later(None)
            return None
        try:
            return await self._beats()
        except UsmError as error:
            lease = self._lease
            if error.reason in _ENDING:
                return LeaseLost(error.reason, error)
            if error.code is grpc.StatusCode.UNIMPLEMENTED:
                log.debug("The service holds no streams: %s/%s is renewed by calls", lease.tenant_id, lease.app_id)
                self._reopen_at = _NEVER
            else:
                log.info("The stream of %s/%s ended, calls go on: %s", lease.tenant_id, lease.app_id, error)
                self._reopen_later(error.retry_after)
            return None
        finally:
            room.leave()

    async def _beats(self) -> LeaseLost | None:
        stream = Stream(self._lease._stub.HoldLease)
        try:
            return await _Beats(self, stream).follow()
        finally:
            await stream.close()

    def _reopen_later(self, retry_after: float | None) -> None:
        wait = max(reopening(self._streams_failed, random.random()), retry_after or 0.0)
        self._reopen_at = time.monotonic() + wait
        self._streams_failed += 1


class _Beats:
    """What goes over one stream: each beat waits for its answer before the next is sent."""

    def __init__(self, keeper: Keeper, stream: Stream) -> None:
        self._keeper = keeper
        self._lease = keeper._lease
        self._stream = stream
        self._beat = 0
        """Number of the last beat; 0 is the attachment."""
        self._sent = 0.0
        self._unanswered = False
        self._activity: float | None = None

    async def follow(self) -> LeaseLost | None:
        """Returns a loss; None if the lease was released. Raises ``UsmError`` if the stream is to be left."""
        try:
            self._sent, self._unanswered = time.monotonic(), True
            self._stream.attach(self._lease._lease_id, self._lease.epoch)
            while not self._lease._released:
                term = self._lease._term
                if not self._unanswered and time.monotonic() >= term.renew_at:
                    self._send_beat()
                until = min(self._sent + term.attempt if self._unanswered else term.renew_at, term.lost_at)
                message = await self._stream.receive(until - time.monotonic())
                # First of all: the process may have slept, and an answer read too late revives nothing.
                if time.monotonic() >= term.lost_at:
                    return LeaseLost("EXPIRED")
                if message is not None and (loss := self._heard(message)) is not None:
                    return loss
                if self._unanswered and time.monotonic() >= until:
                    raise UsmError.timeout()
            return None
        finally:
            self._lease._return_activity(self._activity)

    def _send_beat(self) -> None:
        self._activity = self._lease._take_activity()
        self._beat += 1
        self._sent, self._unanswered = time.monotonic(), True
        self._stream.beat(self._beat, self._activity)

    def _heard(self, message: lease_service_pb2.HoldLeaseResponse) -> LeaseLost | None:
        step = message.WhichOneof("step")
        if step == "renewed" and self._unanswered and message.renewed.beat == self._beat:
            self._keeper._extended(self._keeper._granted(self._sent, message.lease))
            self._unanswered, self._activity = False, None
            if self._beat:
                self._keeper._streams_failed = 0
        elif step == "draining":
            return self._draining(message.draining.reason)
        elif step == "lost":
            return _lost(message.lost.reason)
        return None  # steps of later versions and answers to nothing extend nothing

    def _draining(self, number: int) -> LeaseLost:
        if number == lease_service_pb2.LEASE_DRAIN_REASON_SHUTDOWN:
            raise UsmError("UNAVAILABLE", "the replica stops", code=grpc.StatusCode.UNAVAILABLE)
        drain = enum_name(lease_service_pb2.LeaseDrainReason.DESCRIPTOR, number, "LEASE_DRAIN_REASON_")
        return LeaseLost("LEASE_DRAINING", drain=drain)


def _lost(number: int) -> LeaseLost:
    """As the refusal that a call would have got."""
    stale = number == lease_service_pb2.LEASE_LOSS_REASON_EPOCH_STALE
    told = enum_name(lease_service_pb2.LeaseLossReason.DESCRIPTOR, number, "LEASE_LOSS_REASON_")
    refusal = UsmError(
        "LEASE_EPOCH_STALE" if stale else "LEASE_NOT_HELD",
        f"the service ended the lease: {told}",
        code=grpc.StatusCode.ABORTED if stale else grpc.StatusCode.FAILED_PRECONDITION,
        metadata={"loss": told},
    )
    return LeaseLost(refusal.reason, refusal)
