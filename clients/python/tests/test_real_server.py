"""A lease from the real service, used by real Telethon against the sandbox's data centre."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest
from real_server import TENANT, Account, RealServer, telethon_string
from usm.v1 import lease_service_pb2, login_service_pb2, session_pb2
from usm_client import Client, Lease, LeaseLost, UsmError, telethon

WORKER = Path(__file__).parent.parent / "examples" / "telethon_worker.py"
ASKING_WORKER = Path(__file__).parents[3] / "tests" / "chaos" / "telethon_worker.py"


async def poll(condition: object, timeout: float = 10.0) -> None:
    """Waits for a state that is asked for with a coroutine function."""
    end = time.monotonic() + timeout
    while not await condition():  # type: ignore[operator]
        assert time.monotonic() < end, "the state was not reached in time"
        await asyncio.sleep(0.05)


async def hold(client: Client, account: Account, entered: asyncio.Event, leave: asyncio.Event) -> Lease:
    async with client.lease(TENANT, account.app_id, "worker-1") as lease:
        entered.set()
        await asyncio.wait_for(leave.wait(), 30)
        lease.confirm_connections_closed()
    return lease


async def test_telethon_works_with_a_leased_session(real: RealServer) -> None:
    account = await real.account()
    async with real.client() as client:
        async with client.lease(TENANT, account.app_id, "worker-1") as lease:
            async with telethon.connect(lease) as telegram:
                me = await telegram.get_me()
                assert me.id == account.user_id
                assert await real.open_connections(account) == 1
            assert not telegram.is_connected()
            await poll(lambda: _is(real.open_connections(account), 0))
        # The release told that the connections are closed: no quiet gap.
        async with client.lease(TENANT, account.app_id, "worker-2") as again:
            assert again.epoch > lease.epoch
            again.confirm_connections_closed()
    session = await real.session(account.app_id)
    assert session.state == session_pb2.SESSION_STATE_AUTHORIZED and not session.lease.lease_id


async def _is(value: object, expected: object) -> bool:
    return (await value) == expected  # type: ignore[misc]


async def test_a_stream_that_is_refused_says_why(real: RealServer) -> None:
    request = login_service_pb2.WatchLoginRequest(ticket="x" * 43)
    async with real.client() as client:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in client.logins.WatchLogin(request, timeout=10):
                pass
    status = refused.value
    assert UsmError.from_rpc(status).reason == "TICKET_NOT_FOUND"


async def test_the_authorization_that_went_in_comes_out(real: RealServer) -> None:
    account = await real.account(dc=1)
    async with real.client() as client, client.lease(TENANT, account.app_id, "worker-1") as lease:
        session = telethon.StringSession(lease.material.session_string())
        same = session.auth_key.key == account.auth_key  # compared here: a failed assertion would print both
        assert same and session.dc_id == 1
        material = lease.material
        assert (material.dc_id, material.environment) == (1, "sandbox") and material.material_version >= 1
        assert account.auth_key.hex() not in repr(lease) + repr(lease.material)
        lease.confirm_connections_closed()


async def test_a_session_logged_in_by_qr_works_in_telethon(real: RealServer) -> None:
    user_id = await real.user()
    app_id = await real.qr_login(user_id)
    async with real.client() as client, client.lease(TENANT, app_id, "worker-1") as lease:
        assert lease.material.api_id > 0
        async with telethon.connect(lease) as telegram:
            assert (await telegram.get_me()).id == user_id


async def test_of_two_workers_that_race_one_is_refused(real: RealServer) -> None:
    account = await real.account()
    refused = asyncio.Event()

    async def race(holder: str) -> UsmError | int:
        async with real.client() as client:
            try:
                async with client.lease(TENANT, account.app_id, holder) as lease:
                    async with telethon.connect(lease) as telegram:
                        assert (await telegram.get_me()).id == account.user_id
                        await asyncio.wait_for(refused.wait(), 30)
                    return lease.epoch
            except UsmError as error:
                refused.set()
                return error

    results = await asyncio.gather(race("worker-1"), race("worker-2"))
    errors = [result for result in results if isinstance(result, UsmError)]
    assert [error.reason for error in errors] == ["SESSION_LEASED"]
    assert errors[0].retry_after is not None and errors[0].retry_after > 0
    events = await real.sandbox("/state")
    assert events["counters"]["duplicates"] == 0


async def test_who_waits_gets_the_session_when_it_is_free(real: RealServer) -> None:
    account = await real.account()
    entered, leave = asyncio.Event(), asyncio.Event()
    async with real.client() as client:
        first = asyncio.create_task(hold(client, account, entered, leave))
        await asyncio.wait_for(entered.wait(), 10)

        async def second() -> int:
            async with client.lease(TENANT, account.app_id, "worker-2", wait=20) as lease:
                lease.confirm_connections_closed()
                return lease.epoch

        waiting = asyncio.create_task(second())
        with pytest.raises(UsmError, match="SESSION_LEASED"):
            async with client.lease(TENANT, account.app_id, "worker-3"):
                pass
        assert not waiting.done()
        leave.set()
        assert await asyncio.wait_for(waiting, 20) > (await first).epoch


async def test_a_release_without_the_holders_word_starts_the_quiet_gap(real: RealServer) -> None:
    account = await real.account()
    async with real.client() as client:
        async with client.lease(TENANT, account.app_id, "worker-1"):
            pass
        with pytest.raises(UsmError) as caught:
            async with client.lease(TENANT, account.app_id, "worker-2"):
                pass
    assert caught.value.reason == "SESSION_LEASED"
    assert caught.value.retry_after is not None and caught.value.retry_after > 0


async def test_a_lease_is_renewed_while_it_is_used(real: RealServer) -> None:
    account = await real.account()
    async with real.client() as client, client.lease(TENANT, account.app_id, "worker-1", ttl=10) as lease:
        first = lease.deadline
        async with telethon.connect(lease) as telegram:
            for _ in range(2):
                await poll(lambda: _renewed(lease, first), timeout=15)
                first = lease.deadline
                assert (await telegram.get_me()).id == account.user_id
        assert not lease.lost.is_set() and lease.remaining() > 5


async def test_telegram_is_told_the_deadline_on_each_connection_and_renewal(real: RealServer) -> None:
    account = await real.account()

    async def pings() -> int:
        calls = await real.sandbox(f"/calls?key={account.key}")
        return sum(call["method"] == "ping_delay_disconnect" for call in calls)

    async with real.client() as client, client.lease(TENANT, account.app_id, "worker-1", ttl=600) as lease:
        async with telethon.connect(lease) as telegram:
            await poll(lambda: _at_least(pings(), 1))
            before = await pings()
            await real.sandbox("/kick", {"key": account.key})
            await poll(lambda: _at_least(pings(), before + 1))
            assert (await telegram.get_me()).id == account.user_id
            before = await pings()
            lease._extended.set()
            await poll(lambda: _at_least(pings(), before + 1))


async def _at_least(value: Coroutine[Any, Any, int], least: int) -> bool:
    return await value >= least


async def _renewed(lease: Lease, deadline: float) -> bool:
    assert not lease.lost.is_set()
    return lease.deadline > deadline


async def test_telegram_has_closed_what_the_bridge_calls_closed(real: RealServer) -> None:
    account = await real.account()
    async with real.client() as client:
        for holder in ("worker-1", "worker-2"):
            async with client.lease(TENANT, account.app_id, holder) as lease:
                connection = telethon.connect(lease)
                async with connection as telegram:
                    assert (await telegram.get_me()).id == account.user_id
                    assert await real.open_connections(account) == 1
                assert connection._gate.is_proved()
                # Not waited for: the next holder is let in at once.
                assert await real.open_connections(account) == 0


async def test_an_evicted_holder_is_disconnected_before_its_time(real: RealServer) -> None:
    account = await real.account()
    async with real.client() as client:
        with pytest.raises(LeaseLost) as caught:
            async with client.lease(TENANT, account.app_id, "worker-1", ttl=10) as lease:
                async with telethon.connect(lease) as telegram:
                    request = lease_service_pb2.EvictLeaseRequest(tenant_id=TENANT, app_id=account.app_id)
                    await client.call(client.leases.EvictLease, request)
                    await asyncio.wait_for(lease.lost.wait(), 10)
                    await poll(lambda: _is(real.open_connections(account), 0))
                    await telegram.get_me()
        assert caught.value.reason == "LEASE_DRAINING"
        async with client.lease(TENANT, account.app_id, "worker-2", wait=1) as again:
            again.confirm_connections_closed()


async def test_a_holder_hears_over_its_stream_that_it_is_to_stop(real: RealServer) -> None:
    account = await real.account()
    async with real.client() as client:
        with pytest.raises(LeaseLost) as caught:
            async with client.lease(TENANT, account.app_id, "worker-1", ttl=600) as lease:
                granted = lease.deadline
                async with telethon.connect(lease) as telegram:
                    await poll(lambda: _is(_moved(lease, granted), True))  # attached
                    request = lease_service_pb2.EvictLeaseRequest(tenant_id=TENANT, app_id=account.app_id)
                    await client.call(client.leases.EvictLease, request)
                    await asyncio.wait_for(lease.lost.wait(), 5)
                    await poll(lambda: _is(real.open_connections(account), 0))
                    await telegram.get_me()
        assert (caught.value.reason, caught.value.drain) == ("LEASE_DRAINING", "EVICTED")
        async with client.lease(TENANT, account.app_id, "worker-2", wait=1) as again:
            again.confirm_connections_closed()


async def _moved(lease: Lease, deadline: float) -> bool:
    return lease.deadline > deadline


async def test_what_a_holder_saved_is_lent_to_the_next(real: RealServer) -> None:
    account = await real.account()
    await real.sandbox("/user_state", {"user_id": account.user_id, "dc": 1})  # Telegram moves the account
    minted = await real.sandbox("/mint", {"dc": 1, "user_id": account.user_id})
    text = telethon_string(1, minted["port"], bytes.fromhex(minted["auth_key"]))
    async with real.client() as client:
        async with client.lease(TENANT, account.app_id, "worker-1") as lease:
            version = lease.material.material_version
            session = await lease.save(text)
            assert session.app_id == account.app_id
            for wrong in ("no session", telethon_string(1, minted["port"], bytes(range(256)))):
                with pytest.raises(UsmError, match="MATERIAL_INVALID"):
                    await lease.save(wrong)
            lease.confirm_connections_closed()
        async with client.lease(TENANT, account.app_id, "worker-2") as lease:
            assert lease.material.material_version > version and lease.material.dc_id == 1
            async with telethon.connect(lease) as telegram:
                assert (await telegram.get_me()).id == account.user_id
        with pytest.raises(UsmError) as caught:
            await lease.save(text)
        assert caught.value.reason in ("LEASE_NOT_HELD", "LEASE_EPOCH_STALE")


async def test_an_authorization_that_telegram_ended_is_told_and_released(real: RealServer) -> None:
    account = await real.account()
    await real.sandbox("/revoke", {"key": account.key, "mode": "SESSION_REVOKED"})
    async with real.client() as client:
        async with client.lease(TENANT, account.app_id, "worker-1") as lease:
            with pytest.raises(telethon.errors.SessionRevokedError):
                async with telethon.connect(lease) as telegram:
                    await telegram(telethon.functions.updates.GetStateRequest())
        await poll(lambda: _is(real.open_connections(account), 0))


async def test_an_unknown_session_is_not_found(real: RealServer) -> None:
    async with real.client() as client:
        with pytest.raises(UsmError) as caught:
            async with client.lease(TENANT, "nobody-ever-used-this", "worker-1"):
                pass
    assert caught.value.reason == "SESSION_NOT_FOUND"


async def test_a_wrong_token_is_refused(real: RealServer) -> None:
    async with Client(real.url, "no-such-token") as client:
        with pytest.raises(UsmError) as caught:
            async with client.lease(TENANT, "app", "worker-1"):
                pass
    assert caught.value.reason == "UNAUTHENTICATED"
    assert "no-such-token" not in f"{caught.value} {caught.value!r}"


async def start_worker(real: RealServer, app_id: str, *arguments: str) -> Process:
    environment = {**os.environ, "USM_SERVER": real.url, "USM_TOKEN": real.token}
    return await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), "--tenant-id", TENANT, "--app-id", app_id, *arguments,
        stdout=PIPE, stderr=PIPE, env=environment,
    )  # fmt: skip


async def ended(process: Process) -> tuple[int, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_example_worker_tells_who_it_is(real: RealServer) -> None:
    account = await real.account()
    code, out, err = await ended(await start_worker(real, account.app_id))
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["telegram_user_id"], answer["epoch"]) == (account.user_id, 1)
    assert account.auth_key.hex() not in out + err and real.token not in out + err
    code, out, err = await ended(await start_worker(real, account.app_id))
    assert code == 0 and json.loads(out)["epoch"] == 2, "the session was free at once"


async def test_a_second_example_worker_is_refused_while_the_first_holds(real: RealServer) -> None:
    account = await real.account()
    first = await start_worker(real, account.app_id, "--hold", "60", "--ttl", "10")
    assert first.stdout is not None
    line = await asyncio.wait_for(first.stdout.readline(), 30)
    assert json.loads(line)["telegram_user_id"] == account.user_id
    code, _, err = await ended(await start_worker(real, account.app_id))
    assert code == 3 and "SESSION_LEASED" in err
    first.send_signal(signal.SIGTERM)
    code, _, err = await ended(first)
    assert code == 0, err
    code, _, err = await ended(await start_worker(real, account.app_id))
    assert code == 0, err


async def test_a_worker_that_is_killed_leaves_the_session_to_the_next_after_its_time(real: RealServer) -> None:
    account = await real.account()
    first = await start_worker(real, account.app_id, "--hold", "60", "--ttl", "10")
    assert first.stdout is not None
    assert await asyncio.wait_for(first.stdout.readline(), 30)
    first.kill()
    await first.wait()
    async with real.client() as client:
        with pytest.raises(UsmError) as caught:
            async with client.lease(TENANT, account.app_id, "worker-2"):
                pass
        assert caught.value.reason == "SESSION_LEASED"
        async with client.lease(TENANT, account.app_id, "worker-2", wait=45) as lease:
            assert lease.epoch == 2
            lease.confirm_connections_closed()


async def start_asking(real: RealServer, account: Account) -> Process:
    """A worker that asks Telegram twice a second; returns once it does."""
    environment = {**os.environ, "USM_TOKEN": real.token}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ASKING_WORKER), "--server", real.url, "--tenant-id", TENANT, "--app-id", account.app_id,
        "--holder", "worker-1", "--ttl", "10", "--hold", "600", "--rounds", "1",
        stdout=PIPE, stderr=PIPE, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    while json.loads(await asyncio.wait_for(process.stdout.readline(), 30))["event"] != "asked":
        pass
    return process


async def test_a_worker_that_is_stopped_beyond_its_time_is_disconnected_and_says_nothing_more(real: RealServer) -> None:
    account = await real.account()
    worker = await start_asking(real, account)
    try:
        worker.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        assert await real.open_connections(account) == 1
        # Telegram was asked to.
        await poll(lambda: _is(real.open_connections(account), 0), timeout=11)
        said = len(await real.sandbox(f"/calls?key={account.key}"))

        async def is_over() -> bool:
            return time.monotonic() > stopped + 10.5

        await poll(is_over, timeout=15)
        worker.send_signal(signal.SIGCONT)
        code, out, err = await ended(worker)
        assert code == 0, err
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    lines = [json.loads(line) for line in out.splitlines()]
    after = [line["event"] for line in lines if line["t"] > (stopped + 10) * 1e9]
    assert "closed" in after and "asked" not in after and "connected" not in after, lines
    calls = await real.sandbox(f"/calls?key={account.key}")
    assert [call["kind"] for call in calls[said:] if call["kind"] in ("rpc", "service", "handshake")] == []
