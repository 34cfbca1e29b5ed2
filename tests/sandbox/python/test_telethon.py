"""Telethon, unmodified, logs in to the sandbox in every way and over every transport."""

import asyncio
import base64

import pytest
from sandbox_client import telethon_client, telethon_key
from telethon import errors, functions, network
from telethon.network.connection.connection import Connection, ObfuscatedConnection
from telethon.network.connection.tcpintermediate import (
    IntermediatePacketCodec,
    RandomizedIntermediatePacketCodec,
)
from telethon.network.connection.tcpobfuscated import ObfuscatedIO


class _PaddedCodec(RandomizedIntermediatePacketCodec):
    tag = b"\xdd\xdd\xdd\xdd"


class Padded(Connection):
    packet_codec = _PaddedCodec


class ObfuscatedPadded(ObfuscatedConnection):
    obfuscated_io = ObfuscatedIO
    packet_codec = RandomizedIntermediatePacketCodec


class ObfuscatedIntermediate(ObfuscatedConnection):
    obfuscated_io = ObfuscatedIO
    packet_codec = IntermediatePacketCodec


TRANSPORTS = {
    "full": network.ConnectionTcpFull,
    "abridged": network.ConnectionTcpAbridged,
    "intermediate": network.ConnectionTcpIntermediate,
    "padded": Padded,
    "obfuscated abridged": network.ConnectionTcpObfuscated,
    "obfuscated intermediate": ObfuscatedIntermediate,
    "obfuscated padded": ObfuscatedPadded,
}


@pytest.mark.parametrize("name", TRANSPORTS)
def test_phone_login_over_each_transport(sandbox, account, name):
    user = account()

    async def run():
        client = telethon_client(sandbox, connection=TRANSPORTS[name])
        await client.connect()
        await client.send_code_request(user["phone"])
        me = await client.sign_in(user["phone"], sandbox.code(user["phone"]))
        assert me.id == user["id"]
        assert (await client.get_me()).first_name == user["first_name"]
        assert name in {conn["transport"] for conn in sandbox.get("/conns")}
        await client.log_out()

    asyncio.run(run())


@pytest.mark.parametrize("home", [2, 3])
@pytest.mark.parametrize("password", [None, "p\u00e4ssword"])
def test_phone_login_with_password_and_migration(sandbox, account, home, password):
    user = account(dc=home, password=password, hint="the usual")

    async def run():
        client = telethon_client(sandbox)
        await client.connect()
        await client.send_code_request(user["phone"])
        code = sandbox.code(user["phone"])
        if password is None:
            me = await client.sign_in(user["phone"], code)
        else:
            with pytest.raises(errors.SessionPasswordNeededError):
                await client.sign_in(user["phone"], code)
            with pytest.raises(errors.PasswordHashInvalidError):
                await client.sign_in(password="wrong")
            me = await client.sign_in(password=password)
        assert me.id == user["id"]
        assert client.session.dc_id == home
        assert await client.is_user_authorized()
        assert await client.log_out()

    asyncio.run(run())


@pytest.mark.parametrize("home", [2, 1])
@pytest.mark.parametrize("password", [None, "secret"])
def test_qr_login_with_password_and_migration(sandbox, account, home, password):
    user = account(dc=home, password=password)

    async def run():
        client = telethon_client(sandbox)
        await client.connect()
        qr = await client.qr_login()
        waiting = asyncio.create_task(qr.wait(20))
        await asyncio.sleep(0)
        sandbox.post("/scan", token=qr.url, user_id=user["id"])
        if password is None:
            me = await waiting
        else:
            with pytest.raises(errors.SessionPasswordNeededError):
                await waiting
            me = await client.sign_in(password=password)
        assert me.id == user["id"]
        assert client.session.dc_id == home
        assert (await client.get_me()).id == user["id"]
        await client.log_out()

    asyncio.run(run())


def test_qr_token_expires_and_is_redrawn(sandbox, account):
    user = account()
    sandbox.post("/config", qr_ttl=1)

    async def run():
        client = telethon_client(sandbox)
        await client.connect()
        qr = await client.qr_login()
        first = qr.token
        with pytest.raises(asyncio.TimeoutError):
            await qr.wait()
        with pytest.raises(Exception, match="AUTH_TOKEN_EXPIRED"):
            sandbox.post("/scan", token=first.hex(), user_id=user["id"])
        sandbox.post("/config", qr_ttl=30)
        await qr.recreate()
        assert qr.token != first
        waiting = asyncio.create_task(qr.wait(20))
        await asyncio.sleep(0)
        link = base64.urlsafe_b64encode(qr.token).decode().rstrip("=")
        sandbox.post("/scan", token=link, user_id=user["id"])
        assert (await waiting).id == user["id"]
        await client.disconnect()

    asyncio.run(run())


@pytest.mark.parametrize("home", [2, 3])
def test_bot_login_with_migration(sandbox, bot, home):
    made = bot(dc=home)

    async def run():
        client = telethon_client(sandbox)
        await client.connect()
        me = await client.sign_in(bot_token=made["bot_token"])
        assert (me.id, me.bot) == (made["id"], True)
        assert client.session.dc_id == home
        await client.log_out()

    asyncio.run(run())


def test_wrong_code_can_be_corrected(sandbox, account):
    user = account()

    async def run():
        client = telethon_client(sandbox)
        await client.connect()
        await client.send_code_request(user["phone"])
        code = sandbox.code(user["phone"])
        with pytest.raises(errors.PhoneCodeInvalidError):
            await client.sign_in(user["phone"], str((int(code) + 1) % 100000).zfill(5))
        assert (await client.sign_in(user["phone"], code)).id == user["id"]
        await client.disconnect()

    asyncio.run(run())


def test_minted_key_works_and_sees_itself_among_the_logins(sandbox, account):
    user = account()
    session, _ = telethon_key(sandbox, 2, user["id"])
    telethon_key(sandbox, 2, user["id"])

    async def run():
        client = telethon_client(sandbox, session=session)
        await client.connect()
        assert (await client.get_me()).phone == user["phone"]
        listed = (await client(functions.account.GetAuthorizationsRequest())).authorizations
        assert [entry.current for entry in listed] == [True, False]
        await client(functions.account.ResetAuthorizationRequest(listed[1].hash))
        listed = (await client(functions.account.GetAuthorizationsRequest())).authorizations
        assert len(listed) == 1
        await client.disconnect()

    asyncio.run(run())


def test_logged_in_client_accepts_the_token_of_another(sandbox, account):
    """A second authorization of the same account, made without touching the first."""
    user = account(dc=3)
    session, _ = telethon_key(sandbox, 3, user["id"])

    async def run():
        old = telethon_client(sandbox, session=session)
        new = telethon_client(sandbox, dc=2)
        await old.connect()
        await new.connect()
        qr = await new.qr_login()
        waiting = asyncio.create_task(qr.wait(20))
        await asyncio.sleep(0)
        await old(functions.auth.AcceptLoginTokenRequest(qr.token))
        assert (await waiting).id == user["id"]
        assert (await old.get_me()).id == (await new.get_me()).id == user["id"]
        assert old.session.auth_key.key != new.session.auth_key.key
        await old.disconnect()
        await new.disconnect()

    asyncio.run(run())


def test_two_connections_of_one_authorization_kill_it(sandbox, account):
    user = account()
    session, key = telethon_key(sandbox, 2, user["id"])
    twin, _ = telethon_key(sandbox, 2, None)
    twin.auth_key = session.auth_key
    before = sandbox.get("/state")["counters"]["duplicates"]

    async def run():
        one = telethon_client(sandbox, session=session)
        two = telethon_client(sandbox, session=twin)
        await one.connect()
        await one.get_me()
        with pytest.raises(errors.AuthKeyDuplicatedError):
            await two.connect()
        with pytest.raises(errors.AuthKeyDuplicatedError):
            await one(functions.help.GetConfigRequest())
        await one.disconnect()
        await two.disconnect()
        again = telethon_client(sandbox, session=session)
        with pytest.raises(errors.AuthKeyDuplicatedError):
            await again.connect()
        await again.disconnect()

    asyncio.run(run())
    assert sandbox.get("/state")["counters"]["duplicates"] == before + 1
    assert [e["key"] for e in sandbox.get("/events") if e["event"] == "duplicate"][-1] == key


def test_reconnecting_client_is_not_punished(sandbox, account):
    user = account()
    session, key = telethon_key(sandbox, 2, user["id"])

    async def run():
        client = telethon_client(sandbox, session=session)
        for _ in range(20):
            await client.connect()
            assert (await client.get_me()).id == user["id"]
            await client.disconnect()
        await client.connect()
        for reset in (False, True):
            sandbox.post("/kick", key=key, reset=reset)
            assert (await client(functions.help.GetConfigRequest())).this_dc == 2
            assert (await client.get_me()).id == user["id"]
        await client.disconnect()

    asyncio.run(run())
    assert next(k for k in sandbox.get("/keys") if k["key"] == key)["broken"] is None


@pytest.mark.parametrize(
    "mode, error",
    [
        ("SESSION_REVOKED", errors.SessionRevokedError),
        ("AUTH_KEY_UNREGISTERED", errors.AuthKeyUnregisteredError),
        ("forget", errors.AuthKeyNotFound),
    ],
)
@pytest.mark.parametrize("transport", ["full", "abridged", "obfuscated padded"])
def test_revoked_key_is_refused(sandbox, account, mode, error, transport):
    session, key = telethon_key(sandbox, 2, account()["id"])
    sandbox.post("/revoke", key=key, mode=mode)

    async def run():
        client = telethon_client(sandbox, session=session, connection=TRANSPORTS[transport])
        with pytest.raises(error):
            await asyncio.wait_for(client.connect(), 20)
        await client.disconnect()

    asyncio.run(run())


def test_logged_out_key_is_only_unauthorized(sandbox, account):
    session, key = telethon_key(sandbox, 2, account()["id"])
    sandbox.post("/revoke", key=key, mode="logout")

    async def run():
        client = telethon_client(sandbox, session=session)
        await client.connect()
        assert not await client.is_user_authorized()
        await client.disconnect()

    asyncio.run(run())


def test_ordered_faults_hit_the_next_calls_only(sandbox, account):
    session, key = telethon_key(sandbox, 2, account()["id"])

    async def run():
        client = telethon_client(sandbox, session=session, flood_sleep_threshold=0)
        await client.connect()
        sandbox.post("/fault", method="users.getUsers", count=1, error="FLOOD_WAIT_33", key=key)
        with pytest.raises(errors.FloodWaitError) as flood:
            await client(functions.users.GetUsersRequest([await client.get_input_entity("me")]))
        assert flood.value.seconds == 33
        sandbox.post("/fault", method="updates.getState", count=1, silent=True, key=key)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client(functions.updates.GetStateRequest()), 0.5)
        assert (await client(functions.updates.GetStateRequest())).seq == 0
        sandbox.post("/fault", method="updates.getState", count=1, delay_ms=300, key=key)
        started = asyncio.get_running_loop().time()
        await client(functions.updates.GetStateRequest())
        assert asyncio.get_running_loop().time() - started >= 0.3
        sandbox.post("/fault", method="updates.getState", count=1, drop=True, key=key)
        # Telethon reconnects and asks again by itself.
        assert (await client(functions.updates.GetStateRequest())).seq == 0
        closes = [e for e in sandbox.get("/events") if e["event"] == "close" and e["key"] == key]
        assert [close["reason"] for close in closes] == ["fault"]
        await client.disconnect()

    asyncio.run(run())


@pytest.mark.parametrize("skew", [-400, 400])
def test_wrong_clock_is_corrected(sandbox, account, skew):
    session, _ = telethon_key(sandbox, 2, account()["id"])
    sandbox.post("/config", skew=skew)

    async def run():
        client = telethon_client(sandbox, session=session)
        await client.connect()
        assert await client.get_me() is not None
        await client.disconnect()

    asyncio.run(run())


def test_salts_run_out_while_connected(sandbox, account):
    session, key = telethon_key(sandbox, 2, account()["id"])

    async def run():
        client = telethon_client(sandbox, session=session)
        await client.connect()
        sandbox.post("/config", salt_ttl=2)
        for _ in range(3):
            assert await client.get_me() is not None
            await asyncio.sleep(1.7)
        await client.disconnect()

    asyncio.run(run())
    assert "bad_server_salt" in sandbox.calls(kind="server", key=key)


def test_pushed_message_arrives(sandbox, account):
    from telethon import events

    user = account()
    session, _ = telethon_key(sandbox, 2, user["id"])

    async def run():
        client = telethon_client(sandbox, session=session)
        arrived = asyncio.get_running_loop().create_future()

        @client.on(events.Raw)
        async def note(update):
            if getattr(update, "message", None) is not None and not arrived.done():
                arrived.set_result(update)

        await client.connect()
        assert await client.is_user_authorized()
        assert sandbox.post("/push", user_id=user["id"], update="message", text="ding")["sent"] == 1
        await asyncio.wait_for(arrived, 10)
        await client.disconnect()

    asyncio.run(run())


def test_authorization_is_taken_to_another_dc(sandbox, account):
    user = account(dc=2)
    session, key = telethon_key(sandbox, 2, user["id"])

    async def run():
        client = telethon_client(sandbox, session=session)
        await client.connect()
        sender = await client._borrow_exported_sender(3)
        there = await client._call(sender, functions.users.GetUsersRequest(["me"]))
        assert there[0].id == user["id"]
        await client._return_exported_sender(sender)
        assert (await client.get_me()).id == user["id"], "a second DC is no duplicate"
        await client.log_out()

    asyncio.run(run())
    assert not [k for k in sandbox.get("/keys") if k["user"] == user["id"]]
