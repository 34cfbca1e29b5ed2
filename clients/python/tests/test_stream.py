"""What the guard of a lease does with a stream: beats, pushes, silence and breaks. Leases here live for 3 s."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from fake_service import SECRETS, SILENCE, TOKEN, Answer, FakeService, FakeStream, refusal, until
from usm.v1 import lease_service_pb2
from usm_client import Client, LeaseLost
from usm_client._context import LeaseContext
from usm_client._stream import Room
from usm_client.term import reopening

TTL = 3.0


def lease(client: Client, **kwargs: float) -> LeaseContext:
    return client.lease("acme", "news", "worker-7", **kwargs)  # type: ignore[arg-type]


async def answers(stream: FakeStream) -> None:
    await stream.answer()


async def silence(stream: FakeStream) -> None:
    await stream.silence()


async def attaches_only(stream: FakeStream) -> None:
    await stream.answer(beats=0)
    await stream.silence()


async def test_beats_renew_a_lease_and_no_call_does(service: FakeService) -> None:
    service.stream = answers
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["attach"]) == 1)
        held.note_activity()
        await until(lambda: len(service.calls["beat"]) >= 3)
        assert not held.lost.is_set() and 0 < held.remaining() <= TTL
    assert len(service.calls["hold"]) == 1 and not service.calls["renew"]
    assert service.calls["hold"][0].metadata["authorization"] == f"Bearer {TOKEN}"
    beats = [call.request.beat for call in service.calls["beat"]]
    assert [beat.beat for beat in beats] == [1, 2, 3]
    assert [beat.HasField("last_activity_time") for beat in beats] == [True, False, False]
    assert len(service.calls["release"]) == 1
    await until(lambda: len(service.calls["hung up"]) == 1)


async def test_the_deadline_counts_from_before_what_is_answered_was_sent(service: FakeService) -> None:
    async def slowly(stream: FakeStream) -> None:
        await stream.next()
        await asyncio.sleep(0.4)
        await stream.renewed(0, ttl=30)
        await stream.silence()

    service.stream = slowly
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: held.remaining() > TTL)
        attached = service.calls["attach"][0].at
        assert attached - 0.5 < held.deadline - 29 <= attached


async def test_answers_to_nothing_extend_nothing(service: FakeService) -> None:
    async def babbles(stream: FakeStream) -> None:
        await stream.answer(beats=0)
        for beat in (0, 1, 7, -1):
            await stream.renewed(beat, ttl=600)
        beat = await stream.next()
        await stream.renewed(beat.beat.beat - 1, ttl=600)
        await stream.renewed(beat.beat.beat + 1, ttl=600)
        await stream.silence()

    service.streams, service.stream = [babbles], silence
    service.answers("renew", *[SILENCE] * 50)
    async with Client(service.url, TOKEN) as client:
        before = time.monotonic()
        async with lease(client) as held:
            await asyncio.wait_for(held.lost.wait(), 10)
            assert time.monotonic() - before < TTL
            assert held.loss is not None and held.loss.reason == "EXPIRED"


async def test_a_beat_that_is_not_answered_is_made_up_for_by_a_call_at_once(service: FakeService) -> None:
    service.streams, service.stream = [attaches_only], answers
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["beat"]) == 1)
        held.note_activity()
        await until(lambda: len(service.calls["renew"]) == 1)
        waited = service.calls["renew"][0].at - service.calls["beat"][0].at
        assert waited < TTL / 6 + 0.3
        await until(lambda: len(service.calls["attach"]) == 2)
        await until(lambda: len(service.calls["beat"]) >= 2)
        assert not held.lost.is_set() and service.calls["beat"][1].request.beat.beat == 1


async def test_what_an_unanswered_beat_told_is_told_again(service: FakeService) -> None:
    service.streams, service.stream = [attaches_only], answers
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        held.note_activity()
        await until(lambda: len(service.calls["renew"]) == 1)
    beat, renewal = service.calls["beat"][0].request.beat, service.calls["renew"][0].request
    assert beat.HasField("last_activity_time") and beat.last_activity_time == renewal.last_activity_time


async def test_silence_from_the_start_leaves_time_for_calls(service: FakeService) -> None:
    service.stream = silence
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["renew"]) >= 3)
        assert not held.lost.is_set()
        assert len(service.calls["attach"]) >= 2, "it kept trying"
    first, second = service.calls["attach"][:2]
    assert second.at - first.at > TTL / 6, "not without a pause"


async def test_silence_of_everything_ends_the_lease_before_its_time(service: FakeService) -> None:
    service.streams, service.stream = [attaches_only], silence
    service.answers("renew", *[SILENCE] * 50)
    async with Client(service.url, TOKEN) as client:
        with pytest.raises(LeaseLost) as caught:
            async with lease(client) as held:
                await asyncio.wait_for(held.lost.wait(), 10)
                assert held.remaining() > TTL * 0.2, "time is left to close the connections"
                await asyncio.sleep(60)
        assert caught.value.reason == "EXPIRED" and service.calls["renew"]
    assert len(service.calls["release"]) == 1


async def test_a_process_that_did_not_run_beyond_its_time_knows_by_the_clock(service: FakeService) -> None:
    service.stream = answers
    async with Client(service.url, TOKEN) as client:
        with pytest.raises(LeaseLost) as caught:
            async with lease(client) as held:
                await until(lambda: len(service.calls["beat"]) == 1)
                time.sleep(TTL)  # nothing else runs meanwhile, as after SIGSTOP
                assert held.is_over() and not held.lost.is_set()
                await asyncio.sleep(60)
        assert caught.value.reason == "EXPIRED"
        assert len(service.calls["beat"]) == 1 and not service.calls["renew"], "an answer too late revives nothing"


@pytest.mark.parametrize("code", ["UNAVAILABLE", "FAILED_PRECONDITION", "OK"])
async def test_a_stream_that_ends_is_opened_again_and_costs_nothing(service: FakeService, code: str) -> None:
    async def ends(stream: FakeStream) -> None:
        await stream.answer(beats=0)
        if code != "OK":
            await stream.refuse(code, "A_REASON_OF_TOMORROW")

    service.streams, service.stream = [ends, ends], answers
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["attach"]) == 3)
        assert not held.lost.is_set()
    first, second, third = service.calls["attach"]
    assert second.at - first.at > 0.2 and third.at - second.at > 0.4, "the pauses grow"


async def test_a_service_without_streams_is_asked_once(service: FakeService) -> None:
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["renew"]) >= 3)
        assert len(service.calls["hold"]) == 1 and not held.lost.is_set()


async def test_more_leases_than_streams_are_kept_by_calls(service: FakeService) -> None:
    service.stream = answers
    async with Client(service.url, TOKEN) as client:
        client._room = Room(1)
        async with lease(client) as first:
            await until(lambda: len(service.calls["attach"]) == 1)
            async with lease(client) as second:
                await until(lambda: len(service.calls["renew"]) >= 1)
                assert len(service.calls["hold"]) == 1 and not (first.lost.is_set() or second.lost.is_set())
        async with lease(client):
            await until(lambda: len(service.calls["hold"]) == 2)


async def test_a_client_that_was_closed_ends_its_leases_in_time(service: FakeService) -> None:
    service.stream = answers
    client = Client(service.url, TOKEN)
    async with lease(client) as held:
        await until(lambda: len(service.calls["attach"]) == 1)
        await client.close()
        await asyncio.wait_for(held.lost.wait(), 10)
        assert held.loss is not None and held.loss.reason == "EXPIRED" and held.remaining() > 0


@pytest.mark.parametrize("reason", ["LEASE_NOT_HELD", "LEASE_EPOCH_STALE"])
async def test_a_stream_that_is_refused_for_the_lease_ends_it(service: FakeService, reason: str) -> None:
    async def refuses(stream: FakeStream) -> None:
        await stream.next()
        await stream.refuse("FAILED_PRECONDITION", reason)

    service.stream = refuses
    async with Client(service.url, TOKEN) as client:
        with pytest.raises(LeaseLost) as caught:
            async with lease(client):
                await asyncio.sleep(60)
    assert caught.value.reason == reason and caught.value.refusal is not None
    assert not service.calls["renew"] and not service.calls["release"]


@pytest.mark.parametrize("reason", ["EVICTED", "LOGIN", "REVOKED", "UNSPECIFIED", ""])
async def test_a_holder_that_is_to_stop_hears_it_at_once(service: FakeService, reason: str) -> None:
    async def drains(stream: FakeStream) -> None:
        await stream.answer(beats=0)
        await stream.draining(reason)
        await stream.silence()

    service.ttl, service.stream = 60.0, drains
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        before = time.monotonic()
        await asyncio.wait_for(held.lost.wait(), 5)
        assert time.monotonic() - before < 1
        assert held.loss is not None and held.loss.reason == "LEASE_DRAINING"
        assert held.loss.drain == (reason or "99") and str(held.loss).endswith(f"({reason or '99'})")
        assert held.remaining() > 50, "the time to stop in stays as it was"
        held.confirm_connections_closed()
    assert service.calls["release"][0].request.connections_closed


async def test_a_drained_block_that_goes_on_is_cancelled_at_its_deadline(service: FakeService) -> None:
    async def drains(stream: FakeStream) -> None:
        await stream.answer(beats=0)
        await stream.draining("EVICTED")
        await stream.silence()

    service.stream = drains
    async with Client(service.url, TOKEN) as client:
        with pytest.raises(LeaseLost) as caught:
            async with lease(client) as held:
                await asyncio.sleep(60)
        assert caught.value.drain == "EVICTED" and abs(held.remaining()) < 0.1
        assert time.monotonic() - held.deadline < 1
    assert len(service.calls["release"]) == 1 and not service.calls["renew"]


async def test_a_replica_that_stops_loses_nobody(service: FakeService) -> None:
    async def stops(stream: FakeStream) -> None:
        await stream.answer(beats=1)
        await stream.draining("SHUTDOWN")
        await stream.silence()

    service.streams, service.stream = [stops], answers
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["attach"]) == 2)
        await until(lambda: len(service.calls["beat"]) >= 2)
        assert not held.lost.is_set() and len(service.calls["hung up"]) == 1


async def test_a_service_that_stops_and_comes_back_costs_nothing(service: FakeService) -> None:
    # Long enough that two pauses of the channel between attempts find room before the loss.
    service.ttl, service.stream = 12.0, answers
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["attach"]) == 1)
        await service.stop()
        await until(lambda: time.monotonic() > held._term.renew_at + 0.3)
        await service.start()
        await until(lambda: len(service.calls["attach"]) >= 2)
        assert service.calls["renew"] and not held.lost.is_set()


@pytest.mark.parametrize(
    ("told", "reason"),
    [("EXPIRED", "LEASE_NOT_HELD"), ("REVOKED", "LEASE_NOT_HELD"), ("EPOCH_STALE", "LEASE_EPOCH_STALE")],
)
async def test_a_loss_that_is_told_is_a_loss(service: FakeService, told: str, reason: str) -> None:
    async def loses(stream: FakeStream) -> None:
        await stream.answer(beats=0)
        await stream.lost(told)

    service.ttl, service.stream = 6.0, loses
    async with Client(service.url, TOKEN) as client:
        before = time.monotonic()
        with pytest.raises(LeaseLost) as caught:
            async with lease(client, stop_before=0.5) as held:
                await asyncio.wait_for(held.lost.wait(), 2)
                await asyncio.sleep(60)
        assert time.monotonic() - before < 2, "no longer than closing takes"
        assert caught.value.reason == reason and caught.value.refusal is not None
        assert caught.value.refusal.metadata["loss"] == told
    assert not service.calls["release"]


async def test_a_lease_that_was_given_back_is_not_lost(service: FakeService) -> None:
    async def follows(stream: FakeStream) -> None:
        await stream.answer(beats=0)
        await until(lambda: len(service.calls["release"]) == 1)
        await stream.lost("RELEASED")

    service.stream = follows
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["attach"]) == 1)
        held.confirm_connections_closed()
        await held.release()
        end = held.deadline + 0.3
        await until(lambda: time.monotonic() > end)
        assert not held.lost.is_set() and not service.calls["beat"]
    assert held.lost.is_set() and len(service.calls["release"]) == 1


async def test_an_answer_of_another_epoch_or_without_time_extends_nothing(service: FakeService) -> None:
    async def confuses(stream: FakeStream) -> None:
        await stream.next()
        await stream.renewed(0, ttl=600, epoch=8)
        await stream.silence()

    async def grants_nothing(stream: FakeStream) -> None:
        await stream.next()
        await stream.renewed(0, ttl=0)
        await stream.silence()

    service.streams, service.stream = [confuses, grants_nothing], answers
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["attach"]) == 3)
        assert held.remaining() <= TTL and not held.lost.is_set()


async def test_a_renewal_that_is_due_goes_before_a_new_stream(service: FakeService) -> None:
    async def breaks(stream: FakeStream) -> None:
        await stream.answer(beats=0)
        await stream.next()

    service.stream = breaks
    service.answers("renew", refusal("UNAVAILABLE", ""), Answer(ttl=TTL))
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await until(lambda: len(service.calls["attach"]) == 2)
        assert not held.lost.is_set()
    assert len([call for call in service.calls["renew"] if call.at < service.calls["attach"][1].at]) == 2


async def test_nothing_runs_on_after_the_block(service: FakeService) -> None:
    service.stream = answers
    async with Client(service.url, TOKEN) as client:
        before = asyncio.all_tasks()
        async with lease(client):
            await until(lambda: len(service.calls["attach"]) == 1)
        await until(lambda: len(service.calls["hung up"]) == 1)
        names = [task.get_coro() for task in asyncio.all_tasks() - before]
        assert not [coro for coro in names if "usm_client" in str(coro) or "request_iterator" in str(coro)]
        beats = len(service.calls["beat"])
        end = time.monotonic() + 1.2
        await until(lambda: time.monotonic() > end)
        assert len(service.calls["beat"]) == beats


async def test_a_cancelled_worker_leaves_the_stream_and_releases(service: FakeService) -> None:
    service.stream = answers

    async def work() -> None:
        async with Client(service.url, TOKEN) as client, lease(client):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await until(lambda: len(service.calls["attach"]) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(service.calls["release"]) == 1
    await until(lambda: len(service.calls["hung up"]) == 1)


async def test_a_token_that_cannot_be_had_breaks_a_stream_only(service: FakeService) -> None:
    service.stream = answers
    failing = False

    def token() -> str:
        if failing and not service.calls["renew"]:
            service.calls["asked"].append(service.calls["attach"][0])
            if len(service.calls["asked"]) == 1:
                raise RuntimeError("no token now")
        return TOKEN

    async def breaks(stream: FakeStream) -> None:
        nonlocal failing
        await stream.answer(beats=0)
        failing = True

    service.streams = [breaks]
    async with Client(service.url, token) as client, lease(client) as held:
        await until(lambda: len(service.calls["attach"]) == 2)
        assert service.calls["asked"] and not held.lost.is_set()


async def test_a_save_carries_the_lease_and_is_repeated_under_one_request_id(service: FakeService) -> None:
    service.answers("save", refusal("UNAVAILABLE", ""))
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        assert (await held.save("a string")).app_id == "news"
        await held.save(b"raw", format="RAW")
        key = lease_service_pb2.DcKey(dc_id=4, auth_key=bytes(256))
        await held.save(dc_id=4, dc_keys=[key], update_state=lease_service_pb2.UpdateState(pts=5))
    first, again, raw, parts = (call.request for call in service.calls["save"])
    assert first == again and first.request_id and (first.data, first.format) == (b"a string", 1)
    assert (raw.data, raw.format, raw.epoch) == (b"raw", 9, held.epoch)
    assert (parts.dc_id, parts.dc_keys[0].dc_id, parts.update_state.pts) == (4, 4, 5)
    assert not parts.data and not parts.format and not raw.HasField("update_state")


async def test_nothing_that_is_printed_of_a_stream_shows_a_secret(
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    async def stale(stream: FakeStream) -> None:
        await stream.next()
        await stream.refuse("ABORTED", "LEASE_EPOCH_STALE")

    caplog.set_level(logging.DEBUG)
    service.streams, service.stream = [attaches_only], stale
    async with Client(service.url, TOKEN) as client, lease(client) as held:
        await asyncio.wait_for(held.lost.wait(), 10)
        text = f"{held!r} {held.loss!r} {held.loss}"
    text += "\n".join(record.getMessage() for record in caplog.records)
    assert "LEASE_EPOCH_STALE" in text and "stream" in text
    assert not any(secret in text for secret in SECRETS), text


def test_pauses_between_streams_grow_to_half_a_minute() -> None:
    assert [reopening(n, 1.0) for n in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert reopening(0, 0.0) == 0.25
