"""The arithmetic of deadlines."""

from __future__ import annotations

import pytest
from usm_client.term import STOP_BEFORE, Term, backoff


def term(ttl: float, renew_after: float = 0.0, stop_before: float = STOP_BEFORE) -> Term:
    granted = Term.granted(1000.0, ttl, renew_after, stop_before)
    assert granted is not None
    return granted


def test_the_deadline_lies_before_what_was_granted_and_the_signal_before_the_deadline() -> None:
    assert term(90, 30) == Term(renew_at=1030, lost_at=1084, deadline=1089, attempt=5)


@pytest.mark.parametrize("ttl", [1, 2, 10, 11, 45, 600])
def test_short_leases_keep_their_proportions(ttl: float) -> None:
    of = term(ttl)
    assert 1000 < of.renew_at < of.lost_at < of.deadline < 1000 + ttl
    assert of.renew_at + of.attempt <= of.lost_at


@pytest.mark.parametrize("ttl", [0.0, -1.0, float("nan")])
def test_an_answer_without_time_grants_none(ttl: float) -> None:
    assert Term.granted(1000.0, ttl, 30, STOP_BEFORE) is None


def test_a_late_renewal_advice_is_not_followed() -> None:
    assert term(90, 89).renew_at == 1045


def test_a_negative_span_before_the_deadline_is_none() -> None:
    assert term(90, stop_before=-3).lost_at == term(90).deadline


def test_waits_grow_and_obey_the_service() -> None:
    assert backoff(0, None, 0.0) == 0.125
    assert backoff(0, None, 1.0) == 0.25
    assert backoff(30, None, 1.0) == 2.0
    assert backoff(0, 9.0, 0.5) == 9.0
