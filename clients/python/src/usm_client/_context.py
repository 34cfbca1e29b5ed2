"""The block that borrows a session: acquires, keeps, stops a block that goes on after a loss, and releases.

One task owns the renewals; it ends with the block.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from types import TracebackType

import grpc
from google.protobuf.duration_pb2 import Duration
from usm.v1 import lease_service_pb2, material_pb2

from ._calls import call, finish, log, repeat
from ._keeper import Keeper
from ._stream import Room
from .errors import LeaseLost, UsmError
from .lease import CALL_TIMEOUT, Lease, Stub
from .material import Material
from .term import Term

_WAIT_MAX = 600.0


class LeaseContext:
    """Acquires on entering, releases on leaving. Made by ``Client.lease``; use it once."""

    def __init__(
        self,
        stub: Stub,
        room: Room,
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
        self._room = room
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
        if time.monotonic() >= lease._term.renew_at:
            await self._refresh(lease)
        block = asyncio.current_task()
        assert block is not None, "async with runs in a task"
        self._lease, self._block = lease, block
        # `cancelling` exists from Python 3.11 on; before, two cancellations cannot be told apart.
        self._cancelling: int = block.cancelling() if hasattr(block, "cancelling") else 0
        self._guard = asyncio.ensure_future(self._watch(lease))
        return lease

    async def _acquire(self) -> Lease:
        until = time.monotonic() + self._wait + CALL_TIMEOUT

        async def attempt() -> Lease:
            sent = time.monotonic()
            # A repetition keeps its place in the queue, but waits no longer than the caller wanted.
            _set(self._request.wait, max(0.0, min(self._wait, until - CALL_TIMEOUT - sent)))
            response: lease_service_pb2.AcquireLeaseResponse = await call(
                self._stub.AcquireLease, self._request, until - sent
            )
            granted = response.lease
            term = Term.from_lease(sent, granted, self._stop_before)
            if not granted.lease_id or term is None:
                raise UsmError("INTERNAL", "the answer grants no lease", code=grpc.StatusCode.DATA_LOSS)
            material = Material.from_message(response.material)
            return Lease(self._stub, self._room, granted, material, term, self._stop_before)

        return await repeat(until, attempt)

    async def _refresh(self, lease: Lease) -> None:
        """Renews at once: the time counts from before the call, and waiting has taken it. Nothing is connected yet."""
        try:
            await Keeper(lease).refresh()
        except UsmError as error:
            if error.ends_lease or time.monotonic() >= lease._term.lost_at:
                lease.confirm_connections_closed()
                await self._give_back(lease)
                raise
            log.warning("A renewal of %s/%s failed, another follows: %s", lease.tenant_id, lease.app_id, error)

    async def _watch(self, lease: Lease) -> None:
        """Renews; once the lease is lost, gives the block its time to stop and then stops it."""
        loss = await self._keep(lease)
        if lease._released:
            if lease._closed:
                return  # given back with nothing open: the block may go on
            loss = LeaseLost("RELEASED")
            await asyncio.sleep(max(0.0, lease._term.lost_at - time.monotonic()))
        lease._lose(loss)
        end = lease.deadline
        if loss.reason not in ("EXPIRED", "LEASE_DRAINING", "RELEASED"):
            # Somebody else may be granted the session now: only as long as closing takes.
            end = min(end, time.monotonic() + lease.deadline - lease._term.lost_at)
        await asyncio.sleep(max(0.0, end - time.monotonic()))
        self._cancelled_block = True
        self._block.cancel()

    async def _keep(self, lease: Lease) -> LeaseLost:
        try:
            return await Keeper(lease).run()
        except Exception:
            # Whatever it was: without renewals the lease ends.
            log.exception("The renewals of %s/%s ended", lease.tenant_id, lease.app_id)
            return LeaseLost("INTERNAL")

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
        await self._give_back(lease)

    async def _give_back(self, lease: Lease) -> None:
        try:
            await lease.release()
        except UsmError as error:
            name = f"{lease.tenant_id}/{lease.app_id}"
            log.warning("The lease of %s could not be released, it expires by itself: %s", name, error)


def _set(duration: Duration, seconds: float) -> None:
    duration.FromNanoseconds(int(seconds * 1e9))
