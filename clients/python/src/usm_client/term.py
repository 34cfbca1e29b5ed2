"""How long a holder may go on, counted on its own clock. Pure arithmetic: reads no clock.

A span counts from *before* the call that granted it was sent, while the service counts from its commit, which is later:
so the holder always stops first, with no clock in common. All numbers are seconds; instants are ``time.monotonic()``.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from usm.v1 import lease_pb2

STOP_BEFORE = 5.0
"""Time between the signal to stop and the deadline, for closing connections; at most a third of a short lease."""
_MARGIN_MAX = 1.0
"""Kept back from the granted span for clocks that do not run equally fast; at most a twentieth of it."""
_ATTEMPT_MAX = 5.0
"""One renewal gets at most this long to be answered; at most a sixth of a short lease."""
_ATTEMPT_MIN = 0.2
_TTL_MAX = 24 * 3600.0


@dataclass(frozen=True)
class Term:
    """The instants that follow from one grant or renewal."""

    renew_at: float
    """When to renew."""
    lost_at: float
    """When to tell the worker to stop, if no renewal came through."""
    deadline: float
    """When every connection must be closed."""
    attempt: float
    """How long one attempt to renew may take."""

    @staticmethod
    def granted(sent: float, ttl: float, renew_after: float, stop_before: float) -> Term | None:
        """From the instant before the call was sent and the spans of the answer; None if it grants no time."""
        if not ttl > 0:
            return None
        ttl = min(ttl, _TTL_MAX)
        deadline = sent + ttl - min(_MARGIN_MAX, ttl / 20)
        # Half-way at the latest, whatever was advised: renewals need room for a second attempt.
        renew_after = min(renew_after, ttl / 2) if renew_after > 0 else ttl / 3
        return Term(
            renew_at=sent + renew_after,
            lost_at=deadline - min(max(stop_before, 0.0), ttl / 3),
            deadline=deadline,
            attempt=min(max(ttl / 6, _ATTEMPT_MIN), _ATTEMPT_MAX),
        )

    @staticmethod
    def from_lease(sent: float, lease: lease_pb2.Lease, stop_before: float) -> Term | None:
        """From the instant before the call was sent and its answer; None if it grants no time."""
        return Term.granted(sent, _seconds(lease.ttl), _seconds(lease.renew_after), stop_before)


def backoff(failures: int, retry_after: float | None, jitter: float) -> float:
    """The wait after so many failures: doubling from a quarter of a second to two, never shorter than asked for."""
    base = 0.25 * (1 << min(failures, 3))
    return max(base * (0.5 + jitter / 2), retry_after or 0.0)


def reopening(failures: int, jitter: float) -> float:
    """The wait before a stream that broke is opened again: doubling from half a second to half a minute.

    Longer than ``backoff``: calls renew meanwhile, and a service that stops loses all its streams at once.
    """
    return min(0.5 * (1 << min(failures, 6)), 30.0) * (0.5 + jitter / 2)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
