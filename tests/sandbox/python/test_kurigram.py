"""Kurigram, unmodified but for its addresses and keys, logs in to the sandbox in every way."""

import asyncio

import pytest
from pyrogram import errors
from pyrogram.connection.transport import TCPAbridged, TCPFull, TCPIntermediate
from pyrogram.qrlogin import QRLogin
from sandbox_client import kurigram_client


async def finish(sandbox, client, user, home):
    """What `start()` does after a login, and the end of it."""
    await client.initialize()
    me = await client.get_me()
    assert me.id == user["id"]
    assert await client.storage.dc_id() == home
    assert await client.log_out()


@pytest.mark.parametrize("home", [2, 3])
@pytest.mark.parametrize("password", [None, "secret"])
def test_phone_login_with_password_and_migration(sandbox, account, home, password):
    user = account(dc=home, password=password)

    async def run():
        client = kurigram_client(sandbox)
        await client.connect()
        sent = await client.send_phone_number_code(user["phone"])
        code = sandbox.code(user["phone"])
        if password is None:
            me = await client.sign_in(user["phone"], sent.phone_code_hash, code)
        else:
            with pytest.raises(errors.SessionPasswordNeeded):
                await client.sign_in(user["phone"], sent.phone_code_hash, code)
            with pytest.raises(errors.PasswordHashInvalid):
                await client.check_password("wrong")
            me = await client.check_password(password)
        assert me.id == user["id"]
        await finish(sandbox, client, user, home)

    asyncio.run(run())


@pytest.mark.parametrize("home", [2, 1])
@pytest.mark.parametrize("password", [None, "secret"])
def test_qr_login_with_password_and_migration(sandbox, account, home, password):
    user = account(dc=home, password=password)

    async def run():
        client = kurigram_client(sandbox)
        await client.connect()
        qr = QRLogin(client)
        await qr.recreate()
        waiting = asyncio.create_task(qr.wait(20))
        # The handler is in place once the dispatcher runs.
        while not client.dispatcher.handler_worker_tasks:
            await asyncio.sleep(0.01)
        sandbox.post("/scan", token=qr.url, user_id=user["id"])
        if password is None:
            me = await waiting
        else:
            with pytest.raises(errors.SessionPasswordNeeded):
                await waiting
            me = await client.check_password(password)
        assert me.id == user["id"]
        await finish(sandbox, client, user, home)

    asyncio.run(run())


@pytest.mark.parametrize("home", [2, 3])
def test_bot_login_with_migration(sandbox, bot, home):
    made = bot(dc=home)

    async def run():
        client = kurigram_client(sandbox, bot_token=made["bot_token"])
        await client.start()
        assert (client.me.id, client.me.is_bot) == (made["id"], True)
        assert await client.storage.dc_id() == home
        await client.log_out()

    asyncio.run(run())


@pytest.mark.parametrize("protocol", [TCPAbridged, TCPFull, TCPIntermediate])
def test_session_string_works_over_each_transport(sandbox, account, protocol):
    user = account()

    async def run():
        client = kurigram_client(sandbox, protocol_factory=protocol)
        await client.connect()
        sent = await client.send_phone_number_code(user["phone"])
        await client.sign_in(user["phone"], sent.phone_code_hash, sandbox.code(user["phone"]))
        text = await client.export_session_string()
        await client.disconnect()
        again = kurigram_client(sandbox, session_string=text, protocol_factory=protocol)
        await again.start()
        assert again.me.id == user["id"]
        await again.stop()

    asyncio.run(run())
