"""The bridge to Telethon when things go wrong. The data centre here only takes connections and says nothing; what works
is tested with the sandbox's in test_real_server.py."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fake_service import SILENCE, TOKEN, FakeService, refusal, until
from real_server import telethon_string
from telethon import TelegramClient, functions
from telethon.crypto import AuthKey
from usm.v1 import material_pb2
from usm_client import Client, Device, Lease, LeaseLost, Material, Proxy, telethon
from usm_client._gate import Gate, gated

KEY = bytes(range(256))
STOPPED_WORKER = Path(__file__).parent / "stopped_worker.py"


@dataclass
class SilentCentre:
    """Takes connections; closes them at once if told to; knows which are open."""

    hang_up: bool = False
    deaf: bool = False
    keeps_end: float = 0.0
    """Seconds for which it leaves its end of a connection open after the other side's came."""
    received: int = 0
    heard: float = 0.0
    """When something was read last."""
    accepted: list[float] = field(default_factory=list)
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    ends: list[float] = field(default_factory=list)
    """When the other side's end of a connection came."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(time.monotonic())
        self.open.add(writer)
        try:
            while not self.hang_up:
                while self.deaf:
                    await asyncio.sleep(0.01)
                if not (read := await reader.read(1 << 16)):
                    self.ends.append(time.monotonic())
                    return await asyncio.sleep(self.keeps_end)
                self.received, self.heard = self.received + len(read), time.monotonic()
        except ConnectionError:
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def stop(self) -> None:
        self._server.close()
        for writer in list(self.open):
            writer.transport.abort()


@pytest_asyncio.fixture
async def centre() -> AsyncIterator[SilentCentre]:
    silent = SilentCentre()
    await silent.start()
    yield silent
    await silent.stop()


def material(**changes: Any) -> Material:
    values: dict[str, Any] = {
        "format": "TELETHON_STRING",
        "data": telethon_string(2, 443, KEY).encode(),
        "api_id": 1234,
        "device": Device(),
        "proxy": None,
        "dc_id": 2,
        "material_version": 1,
        "environment": "sandbox",
    }
    return Material(**{**values, **changes})


async def client_of(of: Material, api_id: int | None = None, **kwargs: Any) -> Any:
    return telethon._client(of, api_id, kwargs, Gate())


async def test_a_lease_lost_while_connecting_leaves_no_socket(service: FakeService, centre: SilentCentre) -> None:
    service.data = telethon_string(2, centre.port, KEY).encode()
    service.answers("renew", *[SILENCE] * 50)
    async with Client(service.url, TOKEN) as client:
        with pytest.raises(LeaseLost):
            async with client.lease("acme", "news", "worker-7") as lease:
                async with telethon.connect(lease):
                    pytest.fail("there is nobody to connect to")
        assert lease.remaining() > 0, "it stopped before its deadline"
        assert centre.accepted
        await until(lambda: not centre.open)
    assert service.calls["release"][0].request.connections_closed


async def test_a_cancelled_connect_leaves_no_socket(service: FakeService, centre: SilentCentre) -> None:
    service.data = telethon_string(2, centre.port, KEY).encode()

    async def work() -> None:
        async with Client(service.url, TOKEN) as client, client.lease("acme", "news", "worker-7") as lease:
            async with telethon.connect(lease):
                pass

    task = asyncio.create_task(work())
    await until(lambda: len(centre.open) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not centre.open)
    assert service.calls["release"][0].request.connections_closed


async def leave(service: FakeService, centre: SilentCentre, lose: bool = False) -> tuple[bool, float, float]:
    """Connects to a silent centre and leaves. Returns what the release claims, how long it took, and what was left."""
    service.data = telethon_string(2, centre.port, KEY).encode()
    async with Client(service.url, TOKEN) as client, client.lease("acme", "news", "worker-7") as lease:
        task = asyncio.create_task(enter(lease))
        await until(lambda: centre.received > 0)
        begun = time.monotonic()
        if lose:
            lease._lose(LeaseLost("LEASE_DRAINING"))
        task.cancel()
        await asyncio.wait({task})
        took, left = time.monotonic() - begun, lease.remaining()
        await lease.release()
    return service.calls["release"][0].request.connections_closed, took, left


async def enter(lease: Lease) -> None:
    async with telethon.connect(lease):
        pytest.fail("it says nothing")


@pytest.mark.parametrize("lose", [False, True])
async def test_closed_is_said_once_telegram_has_closed_its_end(
    service: FakeService, centre: SilentCentre, lose: bool
) -> None:
    service.ttl, centre.keeps_end = 15.0, 0.7
    closed, took, _ = await leave(service, centre, lose)
    assert closed and took >= 0.7 and len(centre.ends) == 1


@pytest.mark.parametrize("lose", [False, True])
async def test_closed_is_not_said_while_telegram_keeps_its_end_open(
    service: FakeService, centre: SilentCentre, lose: bool
) -> None:
    service.ttl, centre.keeps_end = 15.0, 60.0
    closed, took, _ = await leave(service, centre, lose)
    assert not closed and 1.9 < took < 4 and len(centre.ends) == 1


async def test_no_farewell_goes_beyond_the_deadline(service: FakeService, centre: SilentCentre) -> None:
    service.ttl, centre.keeps_end = 3.0, 60.0
    service.answers("renew", *[SILENCE] * 50)
    service.data = telethon_string(2, centre.port, KEY).encode()
    async with Client(service.url, TOKEN) as client:
        with pytest.raises(LeaseLost):
            async with client.lease("acme", "news", "worker-7") as lease:
                connection = telethon.connect(lease)
                try:
                    async with connection:
                        pytest.fail("it says nothing")
                finally:
                    assert lease.remaining() > 0 and connection._gate.is_empty()
    assert not service.calls["release"] or not service.calls["release"][0].request.connections_closed


async def test_a_connection_is_replaced_only_after_its_end_was_seen(centre: SilentCentre) -> None:
    gate, centre.keeps_end = Gate(), 1.4
    client = await client_of(material())
    kind = gated(telethon.ConnectionTcpFull, gate)
    for count in (1, 2):
        await kind("127.0.0.1", centre.port, 2, loggers=client._log).connect()
        await until(lambda: len(centre.accepted) == count)
    assert centre.accepted[1] - centre.ends[0] >= 1.4
    gate.shut()
    await gate.close()
    assert gate.is_proved()


@pytest.mark.parametrize("hung_up", [False, True])
async def test_after_the_deadline_only_an_end_that_came_before_counts(centre: SilentCentre, hung_up: bool) -> None:
    left = 60.0
    gate, client = Gate(lambda: left <= 0, lambda: left), await client_of(material())
    connection = gated(telethon.ConnectionTcpFull, gate)("127.0.0.1", centre.port, 2, loggers=client._log)
    await connection.connect()
    await until(lambda: len(centre.open) == 1)
    if hung_up:
        for writer in centre.open:
            writer.close()
        await until(lambda: connection._reader.at_eof())
    left = 0.0
    with pytest.raises(ConnectionError, match="the lease is over"):
        gate.check()
    await gate.close()
    assert gate.is_empty() and gate.is_proved() == hung_up
    await until(lambda: not centre.open)


async def test_a_reset_is_an_end_too(centre: SilentCentre) -> None:
    gate, client = Gate(), await client_of(material())
    connection = gated(telethon.ConnectionTcpFull, gate)("127.0.0.1", centre.port, 2, loggers=client._log)
    await connection.connect()
    await until(lambda: len(centre.open) == 1)
    for writer in centre.open:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    gate.shut()
    await gate.close()
    assert gate.is_proved()


async def test_a_centre_that_hangs_up_is_not_stormed(service: FakeService, centre: SilentCentre) -> None:
    service.data = telethon_string(2, centre.port, KEY).encode()
    service.ttl = 12.0
    service.answers("renew", *[SILENCE] * 50)
    centre.hang_up = True
    async with Client(service.url, TOKEN) as client:
        with pytest.raises((LeaseLost, ConnectionError)):
            async with client.lease("acme", "news", "worker-7") as lease:
                async with telethon.connect(lease, client_kwargs={"retry_delay": 0, "connection_retries": 3}):
                    pytest.fail("there is nobody to connect to")
        gaps = [b - a for a, b in zip(centre.accepted, centre.accepted[1:])]
        assert all(gap > 0.8 for gap in gaps), gaps


async def test_a_shut_gate_lets_nothing_out(centre: SilentCentre) -> None:
    gate = Gate()
    gate.shut()
    base, _ = telethon._route(None, telethon.ConnectionTcpFull)
    client = await client_of(material())
    connection = gated(base, gate)("127.0.0.1", centre.port, 2, loggers=client._log)
    with pytest.raises(ConnectionError, match="the lease is over"):
        await connection.connect()
    assert gate.is_empty() and not centre.accepted


async def test_a_second_connection_to_a_centre_closes_the_first(centre: SilentCentre) -> None:
    gate = Gate()
    client = await client_of(material())
    kind = gated(telethon.ConnectionTcpFull, gate)
    for count in (1, 2):
        await kind("127.0.0.1", centre.port, 2, loggers=client._log).connect()
        await until(lambda: len(centre.accepted) == count)
        await until(lambda: len(centre.open) == 1)
    gate.shut()
    assert not gate.is_empty()
    await gate.close(2)
    assert gate.is_empty()
    await until(lambda: not centre.open)


async def test_nothing_is_written_or_opened_once_the_lease_is_over(centre: SilentCentre) -> None:
    over = False
    gate = Gate(lambda: over)
    client = await client_of(material())
    kind = gated(telethon.ConnectionTcpFull, gate)
    connection = kind("127.0.0.1", centre.port, 2, loggers=client._log)
    await connection.connect()
    await connection.send(b"in time")
    await until(lambda: centre.received > 0)
    received, over = centre.received, True
    await connection.send(b"too late")
    await until(lambda: not centre.open)
    assert centre.received == received
    with pytest.raises(ConnectionError, match="the lease is over"):
        await kind("127.0.0.1", centre.port, 2, loggers=client._log).connect()
    assert len(centre.accepted) == 1
    await gate.close(1)
    assert gate.is_empty()


async def test_what_waits_to_be_written_is_dropped_when_the_lease_is_over(centre: SilentCentre) -> None:
    over, size = False, 32 << 20
    gate = Gate(lambda: over)
    client = await client_of(material())
    connection = gated(telethon.ConnectionTcpFull, gate)("127.0.0.1", centre.port, 2, loggers=client._log)
    await connection.connect()
    centre.deaf = True
    await connection.send(bytes(size))
    await until(lambda: connection._writer.transport.get_write_buffer_size() > 0)
    over, centre.deaf = True, False
    await until(lambda: not centre.open)
    assert 0 < centre.received < size


async def test_no_connection_is_opened_by_a_process_that_slept_while_opening_it(centre: SilentCentre) -> None:
    asked = 0

    def over() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1  # admitted, but over at the connect

    client = await client_of(material())
    connection = gated(telethon.ConnectionTcpFull, Gate(over))("127.0.0.1", centre.port, 2, loggers=client._log)
    with pytest.raises(ConnectionError, match="the lease is over"):
        await connection.connect()
    assert not centre.accepted and connection._gated.fileno() == -1


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals that stop a process")
async def test_a_process_that_was_stopped_beyond_its_time_writes_nothing_more(
    service: FakeService, centre: SilentCentre
) -> None:
    service.ttl = 2.0
    worker = await asyncio.create_subprocess_exec(
        sys.executable, str(STOPPED_WORKER), service.url, str(centre.port), stdout=PIPE
    )
    assert worker.stdout is not None
    try:
        assert await asyncio.wait_for(worker.stdout.readline(), 30) == b"writes\n"
        await until(lambda: len(service.calls["renew"]) >= 1 and centre.received > 0)
        worker.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        await until(lambda: time.monotonic() > max(stopped + service.ttl + 0.3, centre.heard + 0.3))
        received = centre.received
        worker.send_signal(signal.SIGCONT)
        assert (await asyncio.wait_for(worker.stdout.readline(), 30)).startswith(b"ended")
        await until(lambda: not centre.open)
        assert centre.received == received
    finally:
        worker.send_signal(signal.SIGCONT)
        worker.kill()
        await worker.wait()


async def moved(service: FakeService, accepted: bool) -> str:
    """Borrows, has Telegram move the account to another data centre, and leaves. Returns the session as it was then."""
    service.data = telethon_string(2, 443, KEY).encode()
    async with Client(service.url, TOKEN) as client, client.lease("acme", "news", "worker-7") as lease:
        connection = telethon.connect(lease)
        connection._answered(True)
        session = connection._client.session
        session.set_dc(4, "127.0.0.1", 444)
        session.auth_key = AuthKey(bytes(reversed(KEY)))
        if accepted:
            connection._answered(True)
        await connection.__aexit__(None, None, None)
        assert not service.calls["release"]
    assert len(service.calls["release"]) == 1
    return str(session.save())


async def test_a_session_that_changed_is_written_back_before_the_release(service: FakeService) -> None:
    text = await moved(service, accepted=True)
    (save,) = service.calls["save"]
    assert (save.request.data.decode(), save.request.format) == (text, material_pb2.SESSION_FORMAT_TELETHON_STRING)


async def test_a_key_that_was_never_accepted_replaces_none(service: FakeService) -> None:
    await moved(service, accepted=False)
    assert not service.calls["save"]


async def test_a_session_that_cannot_be_written_back_is_only_logged(
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.answers("save", refusal("INVALID_ARGUMENT", "MATERIAL_INVALID"))
    text = await moved(service, accepted=True)
    assert "MATERIAL_INVALID" in caplog.text and text not in caplog.text


async def test_a_session_as_it_was_lent_is_not_written_back(service: FakeService) -> None:
    service.data = telethon_string(2, 443, KEY).encode()
    async with Client(service.url, TOKEN) as client, client.lease("acme", "news", "worker-7") as lease:
        connection = telethon.connect(lease)
        connection._answered(True)
        await connection.__aexit__(None, None, None)
        connection._client.session = None  # as after a log-out
        await connection._write_back()
    assert not service.calls["save"]


async def test_only_answers_that_need_a_login_tell_that_the_session_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[bool] = []
    client = await client_of(material())
    client._on_answer = answers.append

    async def answered(*_: Any, **__: Any) -> None:
        pass

    monkeypatch.setattr(TelegramClient, "_call", answered)
    monkeypatch.setattr(TelegramClient, "_dispatch_update", answered)
    await client(functions.help.GetConfigRequest())
    await client._call(object(), functions.users.GetUsersRequest([]))  # of another data centre
    assert not answers
    await client(functions.users.GetUsersRequest([]))
    await client([functions.help.GetConfigRequest(), functions.updates.GetStateRequest()])
    await client._dispatch_update(None)
    assert answers == [True, True, False]


async def test_device_parameters_go_as_they_were_given() -> None:
    device = Device("Pixel 9", "Android 16", "11.2", "de", "de-AT", "android")
    request = (await client_of(material(device=device)))._init_request
    sent = (request.device_model, request.system_version, request.app_version)
    assert sent == ("Pixel 9", "Android 16", "11.2")
    assert (request.lang_code, request.system_lang_code, request.lang_pack) == ("de", "de-AT", "android")
    assert request.api_id == 1234
    with pytest.raises(ValueError, match="device_model"):
        await client_of(material(device=device), device_model="Toaster")


async def test_an_ipv6_address_is_kept() -> None:
    data = telethon_string(4, 443, KEY, host="2001:67c:4e8:f004::a").encode()
    client = await client_of(material(data=data))
    assert client._use_ipv6 and client.session.server_address == "2001:67c:4e8:f004::a"


async def test_api_id_comes_from_the_lease_or_must_be_given() -> None:
    assert (await client_of(material(api_id=0), 99)).api_id == 99
    assert (await client_of(material(), 1234)).api_id == 1234
    with pytest.raises(ValueError, match="tells no api_id"):
        await client_of(material(api_id=0))
    with pytest.raises(ValueError, match="another api_id"):
        await client_of(material(), 99)


@pytest.mark.parametrize("text", ["", "2", "1AAAA", "1" + "A" * 352, "1ö", "1" + "\x00" * 352])
async def test_a_string_that_is_no_session_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match="session string") as caught:
        await client_of(material(data=text.encode()))
    assert "AAAA" not in str(caught.value)


async def test_a_proxy_is_never_left_out() -> None:
    proxy = Proxy("SOCKS5", "127.0.0.1", 1080, "user", "secret")
    if telethon.importlib.util.find_spec("python_socks") is None:
        with pytest.raises(RuntimeError, match="proxy"):
            await client_of(material(proxy=proxy))
    secret = "dd" + "0123456789abcdef" * 2
    client = await client_of(material(proxy=Proxy("MTPROTO", "127.0.0.1", 443, password=secret)))
    assert client._proxy == ("127.0.0.1", 443, secret)
    with pytest.raises(ValueError, match="proxy"):
        await client_of(material(), proxy=("socks5", "127.0.0.1", 1))
    with pytest.raises(ValueError, match="not known"):
        await client_of(material(proxy=Proxy("7", "127.0.0.1", 443)))


async def test_other_formats_are_refused() -> None:
    with pytest.raises(ValueError, match="TELETHON_STRING"):
        await client_of(material(format="RAW"))


def test_answers_that_end_an_authorization_are_named_as_telegram_does() -> None:
    errors = telethon.errors
    assert telethon._ending_answer(errors.AuthKeyDuplicatedError(None)) == (406, "AUTH_KEY_DUPLICATED")
    assert telethon._ending_answer(errors.SessionRevokedError(None)) == (401, "SESSION_REVOKED")
    assert telethon._ending_answer(errors.AuthKeyNotFound()) == (-404, "AUTH_KEY_NOT_FOUND")
    assert telethon._ending_answer(errors.UnauthorizedError(None, "NEW_ONE", 401)) == (401, "NEW_ONE")
    assert telethon._ending_answer(errors.FloodWaitError(None, capture=3)) is None
    assert telethon._ending_answer(ValueError()) is None and telethon._ending_answer(None) is None


def test_nothing_that_is_printed_shows_the_material() -> None:
    message = material_pb2.SessionMaterial(data=b"open sesame", proxy=material_pb2.Proxy(password="sesame"))
    made = Material.from_message(message)
    assert "sesame" not in repr(made) and made.data == b"open sesame"


def test_the_lease_shows_only_what_is_no_secret() -> None:
    assert "material" not in Lease.__repr__.__code__.co_names
