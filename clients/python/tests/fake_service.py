"""A stand-in for the service: answers a holder's calls as a test tells it, and records them.

It keeps no state and proves nothing about the service: it exists for faults that a real server does not produce on
demand. What the real one does is tested in test_real_server.py.
"""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from usm.v1 import lease_pb2, lease_service_pb2, lease_service_pb2_grpc, material_pb2, session_pb2

TOKEN = "token-that-nobody-may-see"
LEASE_ID = "lease-id-that-nobody-may-see"
MATERIAL = b"material-that-nobody-may-see"
PASSWORD = "proxy-password-that-nobody-may-see"
SECRETS = (TOKEN, LEASE_ID, MATERIAL.decode(), PASSWORD)
EPOCH = 7


@dataclass
class Answer:
    """What the fake does with one call: after ``delay`` grants ``ttl`` seconds, or refuses, or stays silent."""

    ttl: float = 3.0
    delay: float = 0.0
    refuse: tuple[str, str] | None = None
    retry_after: float | None = None
    silent: bool = False


def refusal(code: str, reason: str, retry_after: float | None = None) -> Answer:
    return Answer(refuse=(code, reason), retry_after=retry_after)


SILENCE = Answer(silent=True)


@dataclass
class Call:
    at: float
    request: Any
    metadata: dict[str, Any]


@dataclass
class FakeStream:
    """One call of HoldLease, as a script of a test sees it."""

    service: FakeService
    requests: Any
    context: Any

    async def next(self) -> lease_service_pb2.HoldLeaseRequest:
        """What the holder says next; ends the script when it says nothing more."""
        request: lease_service_pb2.HoldLeaseRequest = await anext(self.requests)
        self.service.calls[request.WhichOneof("step") or ""].append(Call(time.monotonic(), request, {}))
        return request

    async def renewed(self, beat: int, ttl: float | None = None, epoch: int = EPOCH) -> None:
        lease = granted(self.service.ttl if ttl is None else ttl, epoch)
        await self._send(lease=lease, renewed=lease_service_pb2.Renewed(beat=beat))

    async def draining(self, reason: str, deadline: float = 1.0) -> None:
        """An empty reason is one of a later version."""
        number: Any = lease_service_pb2.LeaseDrainReason.Value(f"LEASE_DRAIN_REASON_{reason}") if reason else 99
        await self._send(draining=lease_service_pb2.Draining(reason=number, deadline=duration(deadline)))

    async def lost(self, reason: str) -> None:
        number = lease_service_pb2.LeaseLossReason.Value(f"LEASE_LOSS_REASON_{reason}")
        await self._send(lost=lease_service_pb2.Lost(reason=number))

    async def refuse(self, code: str, reason: str) -> None:
        await refuse(self.context, code, reason, None)

    async def answer(self, beats: int = 1 << 30) -> None:
        """Answers the attachment and so many beats."""
        for _ in range(beats + 1):
            request = await self.next()
            await self.renewed(request.beat.beat)

    async def silence(self) -> None:
        while True:
            await self.next()

    async def _send(self, **step: Any) -> None:
        await self.context.write(lease_service_pb2.HoldLeaseResponse(**step))


Script = Callable[[FakeStream], Awaitable[None]]


async def unimplemented(stream: FakeStream) -> None:
    """As a service of an earlier version."""
    await stream.context.abort(grpc.StatusCode.UNIMPLEMENTED, "not served")


@dataclass
class FakeService(lease_service_pb2_grpc.LeaseServiceServicer):
    ttl: float = 3.0
    data: bytes = MATERIAL
    api_id: int = 1
    device: material_pb2.Device = field(default_factory=material_pb2.Device)
    calls: dict[str, list[Call]] = field(default_factory=lambda: collections.defaultdict(list))
    script: dict[str, list[Answer]] = field(default_factory=lambda: collections.defaultdict(list))
    streams: list[Script] = field(default_factory=list)
    """What the next calls of HoldLease do; every further one does ``stream``."""
    stream: Script = unimplemented
    port: int = 0

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        lease_service_pb2_grpc.add_LeaseServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(grace=0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self, method: str, *answers: Answer) -> None:
        """Answers the next calls of a method in this order; every further one is granted."""
        self.script[method] += answers

    async def _answer(self, method: str, request: Any, context: Any) -> lease_pb2.Lease:
        metadata = {key: value for key, value in context.invocation_metadata()}
        self.calls[method].append(Call(time.monotonic(), request, metadata))
        answer = self.script[method].pop(0) if self.script[method] else Answer(ttl=self.ttl)
        if answer.silent:
            await asyncio.Event().wait()
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.refuse:
            await refuse(context, *answer.refuse, answer.retry_after)
        return granted(answer.ttl)

    async def AcquireLease(self, request: Any, context: Any) -> lease_service_pb2.AcquireLeaseResponse:
        lease = await self._answer("acquire", request, context)
        proxy = material_pb2.Proxy(
            kind=material_pb2.PROXY_KIND_SOCKS5, host="127.0.0.1", port=1, username="u", password=PASSWORD
        )
        material = material_pb2.SessionMaterial(
            format=request.format, data=self.data, api_id=self.api_id, device=self.device, dc_id=2
        )
        if self.data == MATERIAL:
            material.proxy.CopyFrom(proxy)
        return lease_service_pb2.AcquireLeaseResponse(lease=lease, material=material)

    async def RenewLease(self, request: Any, context: Any) -> lease_service_pb2.RenewLeaseResponse:
        return lease_service_pb2.RenewLeaseResponse(lease=await self._answer("renew", request, context))

    async def ReleaseLease(self, request: Any, context: Any) -> lease_service_pb2.ReleaseLeaseResponse:
        return lease_service_pb2.ReleaseLeaseResponse(lease=await self._answer("release", request, context))

    async def HoldLease(self, requests: Any, context: Any) -> None:
        metadata = {key: value for key, value in context.invocation_metadata()}
        self.calls["hold"].append(Call(time.monotonic(), None, metadata))
        script = self.streams.pop(0) if self.streams else self.stream
        try:
            await script(FakeStream(self, requests, context))
        except StopAsyncIteration:
            self.calls["hung up"].append(Call(time.monotonic(), None, {}))

    async def SaveSession(self, request: Any, context: Any) -> lease_service_pb2.SaveSessionResponse:
        await self._answer("save", request, context)
        return lease_service_pb2.SaveSessionResponse(session=session_pb2.Session(app_id="news"))

    async def ReportSession(self, request: Any, context: Any) -> lease_service_pb2.ReportSessionResponse:
        await self._answer("report", request, context)
        return lease_service_pb2.ReportSessionResponse(advice=lease_service_pb2.HOLDER_ADVICE_STOP)


def granted(ttl: float, epoch: int = EPOCH) -> lease_pb2.Lease:
    return lease_pb2.Lease(
        lease_id=LEASE_ID,
        tenant_id="acme",
        app_id="news",
        holder="worker-7",
        epoch=epoch,
        ttl=duration(ttl),
        renew_after=duration(ttl / 3),
        state=lease_pb2.LEASE_STATE_HELD,
    )


async def refuse(context: Any, code: str, reason: str, retry_after: float | None) -> None:
    """Ends the call as the service does: with google.rpc details."""
    status = status_pb2.Status(code=getattr(code_pb2, code), message="the fake refuses")
    info = error_details_pb2.ErrorInfo(domain="usm", reason=reason, metadata={"holder": "worker-8"})
    status.details.add().Pack(info)
    if retry_after is not None:
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration(retry_after)))
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(getattr(grpc.StatusCode, code), status.message, details)


def duration(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(int(seconds * 1e9))
    return message


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Waits for a state."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "the state was not reached in time"
        await asyncio.sleep(0.01)
