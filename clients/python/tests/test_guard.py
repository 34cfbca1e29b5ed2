"""What the guard of a lease does when the service answers late, wrongly or not at all. Leases here live for 3 s."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from fake_service import EPOCH, MATERIAL, SECRETS, SILENCE, TOKEN, Answer, FakeService, refusal, until
from usm_client import Client, LeaseLost, UsmError
from usm_client._context import LeaseContext

TTL = 3.0


def lease(client: Client, **kwargs: float) -> LeaseContext:
    return client.lease("acme", "news", "worker-7", **kwargs)  # type: ignore[arg-type]


async def lost_after(lost: asyncio.Event, since: float) -> float:
    await asyncio.wait_for(lost.wait(), 20)
    return time.monotonic() - since


async def test_a_lease_is_renewed_as_long_as_its_block_runs(service: FakeService) -> None:
    async with Client(service.url, lambda: TOKEN) as client, lease(client) as held:
        assert (held.epoch, held.material.data, held.material.api_id) == (EPOCH, MATERIAL, 1)
        held.note_activity()
        await until(lambda: len(service.calls["renew"]) >= 5)
        assert not held.lost.is_set() and 0 < held.remaining() <= TTL
    calls = service.calls["acquire"] + service.calls["renew"] + service.calls["release"]
    assert {call.metadata["authorization"] for call in calls} == {f"Bearer {TOKEN}"}
    first, second = service.calls["renew"][:2]
    assert first.at - service.calls["acquire"][0].at >= TTL / 3 - 0.05
    assert first.request.HasField("last_activity_time") and not second.request.HasField("last_activity_time")


async def test_the_deadline_counts_from_before_the_call_was_sent(service: FakeService) -> None:
    service.answers("acquire", Answer(ttl=90, delay=0.8))
    async with Client(service.url, TOKEN) as client:
        before = time.monotonic()
        async with lease(client) as held:
            assert time.monotonic() - before >= 0.8
            assert abs(held.deadline - before - 89) < 0.4


async def test_silence_of_the_service_ends_the_lease_before_its_time(service: FakeService) -> None:
    service.answers("renew", *[SILENCE] * 50)
    async with Client(service.url, TOKEN) as client:
        before = time.monotonic()
        async with lease(client) as held:
            took = await lost_after(held.lost, before)
            assert took < TTL * 0.75 and held.remaining() > TTL * 0.2, "time is left to close the connections"
            assert held.loss is not None and held.loss.reason == "EXPIRED"
            assert len(service.calls["renew"]) >= 2, "it kept trying"
            held.confirm_connections_closed()
    assert service.calls["release"][0].request.connections_closed


async def test_a_block_that_does_not_stop_is_cancelled_at_the_deadline(service: FakeService) -> None:
    service.answers("renew", *[SILENCE] * 50)
    async with Client(service.url, TOKEN) as client:
        before = time.monotonic()
        with pytest.raises(LeaseLost) as caught:
            async with lease(client):
                await asyncio.sleep(60)
        assert caught.value.reason == "EXPIRED"
        assert TTL * 0.7 < time.monotonic() - before < TTL * 2
    task = asyncio.current_task()
    assert task is not None and not (hasattr(task, "cancelling") and task.cancelling())
    assert not service.calls["release"][0].request.connections_closed


async def test_a_refusal_ends_the_lease_at_once_and_nothing_is_given_back(service: FakeService) -> None:
    for code, reason in (
        ("ABORTED", "LEASE_EPOCH_STALE"),
        ("FAILED_PRECONDITION", "LEASE_NOT_HELD"),
        ("FAILED_PRECONDITION", "A_REASON_OF_TOMORROW"),
    ):
        service.calls.clear()
        service.answers("acquire", Answer(ttl=6))
        service.answers("renew", refusal(code, reason))
        async with Client(service.url, TOKEN) as client:
            before = time.monotonic()
            with pytest.raises(LeaseLost) as caught:
                async with lease(client, stop_before=0.5) as held:
                    assert await lost_after(held.lost, before) < 3
                    await asyncio.sleep(60)
            assert caught.value.reason == reason and caught.value.refusal is not None
            assert time.monotonic() - before < 5, "no longer than closing takes"
        assert len(service.calls["renew"]) == 1 and not service.calls["release"]


async def test_an_evicted_holder_stops_and_gives_the_lease_back(service: FakeService) -> None:
    service.answers("renew", refusal("FAILED_PRECONDITION", "LEASE_DRAINING"))
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await asyncio.wait_for(held.lost.wait(), 5)
        assert held.loss is not None and held.loss.reason == "LEASE_DRAINING"
        held.confirm_connections_closed()
    assert service.calls["release"][0].request.connections_closed


async def test_a_service_that_comes_back_in_time_costs_nothing(service: FakeService) -> None:
    # Long enough that two pauses of the channel between attempts find room before the loss.
    service.ttl = 12.0
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await service.stop()
        await until(lambda: time.monotonic() > held._term.renew_at + 0.3)
        await service.start()
        await until(lambda: len(service.calls["renew"]) >= 1)
        first = held.deadline
        await until(lambda: held.deadline > first or held.lost.is_set())
        assert not held.lost.is_set()


async def test_refusals_that_pass_do_not_end_the_lease(service: FakeService) -> None:
    service.ttl = 9.0
    service.answers(
        "renew",
        refusal("UNAUTHENTICATED", "UNAUTHENTICATED"),
        refusal("ABORTED", "STORE_CONFLICT"),
        Answer(ttl=0),
    )
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["renew"]) >= 5 or held.lost.is_set())
        assert not held.lost.is_set()


async def test_a_renewal_that_grants_less_shortens_the_deadline(service: FakeService) -> None:
    service.answers("acquire", Answer(ttl=6))
    service.answers("renew", Answer(ttl=1.5), *[SILENCE] * 50)
    async with Client(service.url, TOKEN) as client:
        before = time.monotonic()
        async with lease(client) as held:
            assert await lost_after(held.lost, before) < 3.6


async def test_a_lost_answer_is_asked_for_again_under_the_same_request_id(service: FakeService) -> None:
    service.answers("acquire", refusal("UNAVAILABLE", ""), Answer(ttl=60))
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        first, second = service.calls["acquire"]
        assert first.request.request_id == second.request.request_id != ""
        assert abs(held.deadline - second.at - 59) < 0.5, "counted from the second call"


async def test_a_lost_answer_to_a_release_is_asked_for_again(service: FakeService) -> None:
    service.answers("release", refusal("UNAVAILABLE", ""))
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        held.confirm_connections_closed()
    first, second = service.calls["release"]
    assert first.request == second.request and first.request.connections_closed


async def test_a_lease_that_was_long_waited_for_is_renewed_before_it_is_used(service: FakeService) -> None:
    service.answers("acquire", Answer(delay=TTL + 0.5))
    async with Client(service.url, TOKEN) as client, lease(client, wait=10) as held:
        assert len(service.calls["renew"]) == 1 and held.remaining() > TTL * 0.8 and not held.lost.is_set()


async def test_a_lease_whose_time_went_by_in_the_queue_is_given_back(service: FakeService) -> None:
    service.answers("acquire", Answer(delay=TTL + 0.5))
    service.answers("renew", refusal("UNAVAILABLE", "STORE_UNAVAILABLE"))
    async with Client(service.url, TOKEN) as client:
        with pytest.raises(UsmError, match="STORE_UNAVAILABLE"):
            async with lease(client, wait=10):
                pytest.fail("there is no time left")
    assert service.calls["release"][0].request.connections_closed


async def test_nobody_there_is_an_error_in_seconds() -> None:
    async with Client("http://127.0.0.1:1", TOKEN) as client:
        before = time.monotonic()
        with pytest.raises(UsmError) as caught:
            async with lease(client):
                pass
        assert caught.value.reason == "UNAVAILABLE" and time.monotonic() - before < 8


async def test_a_release_after_the_service_is_gone_does_not_hide_the_blocks_error(service: FakeService) -> None:
    service.ttl = 60
    async with Client(service.url, TOKEN) as client:
        with pytest.raises(ZeroDivisionError):
            async with lease(client):
                await service.stop()
                _ = 1 / 0
    await service.start()


async def test_a_cancelled_worker_releases_and_stays_cancelled(service: FakeService) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with Client(service.url, TOKEN) as client, lease(client):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.wait_for(entered.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(service.calls["release"]) == 1


async def test_a_cancellation_during_the_release_waits_for_it(service: FakeService) -> None:
    service.answers("release", Answer(delay=0.5))

    async def work() -> None:
        async with Client(service.url, TOKEN) as client, lease(client):
            pass

    task = asyncio.create_task(work())
    await until(lambda: len(service.calls["release"]) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(service.calls["release"]) == 1, "one release, and it was answered"


async def test_renewals_end_with_the_block(service: FakeService) -> None:
    async with Client(service.url, TOKEN) as client:
        async with lease(client) as held:
            pass
        renewals = len(service.calls["renew"])
        assert held.lost.is_set(), "whoever still waits is told"
        end = time.monotonic() + 1.0
        await until(lambda: time.monotonic() > end)
        assert len(service.calls["renew"]) == renewals


async def test_what_was_asked_for_is_sent(service: FakeService) -> None:
    async with Client(service.url, TOKEN) as client:
        async with client.lease("acme", "news", "worker-7", format="RAW", ttl=45, wait=7):
            pass
        with pytest.raises(ValueError, match="unknown session format"):
            client.lease("acme", "news", "worker-7", format="TELEPATHY")
    request = service.calls["acquire"][0].request
    assert (request.tenant_id, request.app_id, request.holder) == ("acme", "news", "worker-7")
    assert (request.ttl.seconds, request.format) == (45, 9)
    assert 6.9 < request.wait.seconds + request.wait.nanos / 1e9 <= 7


async def test_a_report_carries_the_lease_and_tells_whether_to_go_on(service: FakeService) -> None:
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        assert not await held.report_error(406, "AUTH_KEY_DUPLICATED")
        await held.report_alive(42)
    error, alive = (call.request for call in service.calls["report"])
    assert (error.epoch, error.error.code, error.error.message) == (EPOCH, 406, "AUTH_KEY_DUPLICATED")
    assert alive.proof_of_life.telegram_user_id == 42


async def test_nothing_that_is_printed_shows_a_secret(
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service.answers("renew", refusal("UNAVAILABLE", ""), refusal("ABORTED", "LEASE_EPOCH_STALE"))
    async with Client(service.url, TOKEN) as client:
        context = lease(client)
        async with context as held:
            await asyncio.wait_for(held.lost.wait(), 10)
            text = f"{client!r} {held!r} {context!r} {held.material!r} {held.loss!r} {held.loss}"
    text += "\n".join(record.getMessage() for record in caplog.records)
    assert "LEASE_EPOCH_STALE" in text and "worker-7" not in repr(client)
    assert not any(secret in text for secret in SECRETS), text
