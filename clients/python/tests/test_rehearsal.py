"""The migration there and back, by the very commands of docs/rehearsal.md, with real Telethon on both sides.

``USM_BIN`` names the program; the test starts a server and a sandbox of its own with it, because it switches them off.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import time
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from real_server import RealServer
from telethon import TelegramClient
from telethon.crypto import AuthKey
from telethon.sessions import SQLiteSession
from usm_client import LeaseLost, telethon

PAGE = Path(__file__).parents[3] / "docs" / "rehearsal.md"
TENANT = "acme"
USERS = {"news": 8_100_000_001, "talk": 8_100_000_002}
PATIENCE = 30.0


def commands() -> list[str]:
    """The page's commands, in order."""
    part = PAGE.read_text().split("<!-- rehearsal -->")[1].split("<!-- /rehearsal -->")[0]
    blocks = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("usm ")]


class Installation:
    """`usm serve --sandbox` in a folder of its own, and commands that speak to it."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.sessions = folder / "sessions"
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "USM_DATA_DIR": str(folder / "data")}
        self.left = commands()
        self.real: RealServer

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        arguments = "serve --sandbox --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 --lease-quiet-gap 1"
        log = (self.folder / "log").open("wb")
        server = await asyncio.create_subprocess_exec(
            self.program, *shlex.split(arguments), stdout=PIPE, stderr=log, env=self.environment
        )
        assert server.stdout is not None
        try:
            sandbox = json.loads(await asyncio.wait_for(server.stdout.readline(), PATIENCE))
            line = (await asyncio.wait_for(server.stdout.readline(), PATIENCE)).decode()
            url = re.search(r"http://[0-9.:]+", line)
            assert url is not None, line
            self.environment["USM_SERVER"] = url[0]
            token = await self.run("usm token issue --role service_role --ttl 1h")
            self.environment["USM_TOKEN"] = token.strip()
            self.real = RealServer(url[0], token.strip(), f"http://127.0.0.1:{sandbox['admin']}")
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.terminate()
            await server.wait()
            log.close()

    async def run(self, command: str) -> str:
        arguments = [word.replace("/app/sessions", str(self.sessions)) for word in shlex.split(command)[1:]]
        done = await asyncio.create_subprocess_exec(
            self.program, *arguments, stdout=PIPE, stderr=PIPE, env=self.environment
        )
        out, err = await asyncio.wait_for(done.communicate(), PATIENCE)
        assert done.returncode == 0, f"{command}: {out.decode()}{err.decode()}"
        return out.decode()

    async def step(self, begins: str) -> str:
        """The page's next command, which must be this one."""
        command = self.left.pop(0)
        assert command.startswith(begins), f"the page has `{command}` where the test goes on with `{begins}`"
        return await self.run(command)

    async def legacy_file(self, app: str, user: int) -> None:
        """A session as the legacy system has it: written by Telethon itself."""
        await self.real.sandbox("/users", {"id": user, "first_name": app, "dc": 2})
        minted = await self.real.sandbox("/mint", {"dc": 2, "user_id": user})
        folder = self.sessions / TENANT
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        session = SQLiteSession(str(folder / app))
        session.set_dc(2, "127.0.0.1", minted["port"])
        session.auth_key = AuthKey(bytes.fromhex(minted["auth_key"]))
        session.save()
        session.close()

    async def legacy_works(self) -> None:
        """The legacy worker: opens each file and asks Telegram who it is."""
        for app, user in USERS.items():
            client = TelegramClient(str(self.sessions / TENANT / app), 1, "0" * 32)
            await client.connect()
            me = await client.get_me()
            assert me is not None and me.id == user, f"{app} works as {user}"
            # It came to know somebody, which is in its file only.
            client.session.process_entities(await client.get_me())
            await client.disconnect()
        await self.nobody_is_connected()

    async def nobody_is_connected(self) -> None:
        end = time.monotonic() + PATIENCE
        while (await self.real.sandbox("/state"))["open_connections"]:
            assert time.monotonic() < end, "a connection stays open"
            await asyncio.sleep(0.05)

    async def works(self, app: str, entered: asyncio.Event | None = None) -> int:
        """A worker of this service: leases, asks Telegram, and keeps on until it is asked to stop, if it is to."""
        async with self.real.client() as client, client.lease(TENANT, app, f"worker-{uuid.uuid4().hex[:6]}") as lease:
            async with telethon.connect(lease, api_id=1) as telegram:
                me = await telegram.get_me()
                assert me is not None and me.id == USERS[app]
                if entered is not None:
                    entered.set()
                    await asyncio.wait_for(lease.lost.wait(), PATIENCE)
            return lease.epoch

    async def entities(self, app: str) -> int:
        session = SQLiteSession(str(self.sessions / TENANT / app))
        count: Any = session._execute("select count(*) from entities where id <> 0")[0]
        session.close()
        return int(count)

    async def custody(self) -> set[str]:
        listed = json.loads(await self.run("usm session list --output json"))
        rows = listed["sessions"] if isinstance(listed, dict) else listed
        return {row["custody"].removeprefix("SESSION_CUSTODY_") for row in rows}


async def test_a_migration_goes_there_and_back_and_there_again(tmp_path: Path) -> None:
    program = os.environ.get("USM_BIN", "")
    if not program:
        tell = pytest.fail if os.environ.get("USM_TEST_REQUIRE_SERVER") == "1" else pytest.skip
        tell("no program: USM_BIN is not set")
    usm = Installation(program, tmp_path)
    async with usm.served():
        for app, user in USERS.items():
            await usm.legacy_file(app, user)
        await usm.legacy_works()
        known = await usm.entities("news")
        assert known > 0

        # There.
        await usm.step("usm fingerprint --dir")
        dry = await usm.step("usm import --sessions-dir /app/sessions --dry-run")
        assert "2 imported (dry run" in dry, dry
        assert "2 imported" in await usm.step("usm import --sessions-dir")
        assert await usm.custody() == {"LEGACY"}
        await usm.legacy_works()  # its files were only read
        assert "2 taken" in await usm.step("usm custody take --all --sessions-dir")
        await usm.step("usm session list")
        assert await usm.custody() == {"SERVICE"}
        first = await usm.works("news")
        await usm.works("talk")

        # Back, with a worker in the midst of its work.
        entered = asyncio.Event()
        worker = asyncio.create_task(usm.works("news", entered))
        await asyncio.wait_for(entered.wait(), PATIENCE)
        assert "2 sessions went" in await usm.step("usm custody off --wait")
        with contextlib.suppress(LeaseLost):
            await worker
        await usm.nobody_is_connected()
        assert await usm.custody() == {"LEGACY"}
        assert "disabled" in await usm.run("usm health")
        written = await usm.step("usm export --sessions-dir")
        assert "refused" not in written and "nobody may connect" not in written, written
        assert await usm.entities("news") == known, "what only the legacy system knows is there yet"
        await usm.legacy_works()

        # And there again, with what the legacy system did meanwhile.
        await usm.step("usm custody on")
        assert "2 taken" in await usm.step("usm custody take --all --sessions-dir")
        assert await usm.custody() == {"SERVICE"}
        assert await usm.works("news") > first
        assert usm.left == [], "every command of the page was run"

        state = await usm.real.sandbox("/state")
        assert state["counters"]["duplicates"] == 0, "no key was used twice at once"
