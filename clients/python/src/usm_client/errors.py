"""What a call can end with. No error ever shows a token, a lease id or key material."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "usm"
"""Domain of the ``google.rpc.ErrorInfo`` that carries a reason of this service."""

_RETRY_AFTER_MAX = 24 * 3600.0
_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}
_LEASE_ENDED = {"LEASE_NOT_HELD", "LEASE_EPOCH_STALE", "LEASE_DRAINING", "SESSION_NOT_FOUND"}


class UsmError(Exception):
    """The service refused, or a call got no answer."""

    reason: str
    """A name of ``usm.v1.ErrorReason`` without ``ERROR_REASON_``, for example ``SESSION_LEASED``. The name of the gRPC
    code if the service did not say a reason, as when it was not reached. Expect names this version does not know."""
    message: str
    """Explanation for people."""
    code: grpc.StatusCode
    retry_after: float | None
    """Seconds after which to ask again, if the service says so."""
    metadata: Mapping[str, str]
    """Further facts such as ``attempts_left``."""
    violations: tuple[tuple[str, str], ...]
    """Fields of the request that are wrong, each with what is wrong."""

    def __init__(
        self,
        reason: str,
        message: str = "",
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.code = code
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})
        self.violations = violations

    @classmethod
    def from_rpc(cls, error: grpc.aio.AioRpcError) -> UsmError:
        """From the error of a call, with the ``google.rpc`` details that travel with it."""
        code = error.code()
        reason = code.name
        retry_after: float | None = None
        metadata: dict[str, str] = {}
        violations: list[tuple[str, str]] = []
        for detail in _details(error):
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
                if info.domain == DOMAIN:
                    reason, metadata = info.reason, dict(info.metadata)
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo()
                detail.Unpack(retry)
                delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
                retry_after = min(max(delay, 0.0), _RETRY_AFTER_MAX)
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                request = error_details_pb2.BadRequest()
                detail.Unpack(request)
                violations += [(field.field, field.description) for field in request.field_violations]
        return cls(
            reason,
            error.details() or "",
            code=code,
            retry_after=retry_after,
            metadata=metadata,
            violations=tuple(violations),
        )

    @classmethod
    def timeout(cls) -> UsmError:
        """No answer in time."""
        return cls("DEADLINE_EXCEEDED", "no answer in time", code=grpc.StatusCode.DEADLINE_EXCEEDED)

    @property
    def transient(self) -> bool:
        """Whether the service may not have got the call, or was unable to answer it just now."""
        return self.code in _TRANSIENT

    @property
    def ends_lease(self) -> bool:
        """Whether the answer says that the lease of the call is not held any more or will not be renewed.

        By the reason, else by the code: a reason of a later version must not keep a holder going.
        """
        ending = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)
        return self.reason in _LEASE_ENDED or self.code in ending

    def __str__(self) -> str:
        text = f"{self.reason}: {self.message}" if self.message else self.reason
        for field, description in self.violations:
            text += f"; {field}: {description}"
        if self.retry_after is not None:
            text += f" (retry after {self.retry_after:.1f} s)"
        return text

    def __repr__(self) -> str:
        return f"UsmError({self})"


class LeaseLost(Exception):
    """A lease is over while it was in use: every connection with its material must be closed.

    ``reason`` is ``EXPIRED`` if no renewal came through in time, else the service's reason, for example
    ``LEASE_EPOCH_STALE``; ``refusal`` is the service's answer, if it was one. With ``LEASE_DRAINING``, ``drain`` may
    tell why the service wants the session back: ``EVICTED``, ``LOGIN``, ``REVOKED``, or a name of a later version.
    """

    def __init__(self, reason: str, refusal: UsmError | None = None, drain: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refusal = refusal
        self.drain = drain

    def __str__(self) -> str:
        why = f" ({self.drain})" if self.drain else ""
        return f"the lease is lost: {self.refusal or self.reason}{why}"


def _details(error: grpc.aio.AioRpcError) -> list[Any]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []
