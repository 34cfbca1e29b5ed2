"""Drives a sandbox from Python, and points Telethon and Kurigram at it.

Telegram's addresses and RSA keys are built into client libraries. What it takes to lead one elsewhere is in
`telethon_client` and `kurigram_client`; everything else about the libraries stays as it is.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

API_ID = 4
API_HASH = "0123456789abcdef0123456789abcdef"
START_TIMEOUT = 60


class AdminError(Exception):
    """An admin call that was refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Sandbox:
    """A sandbox process, from the command in `USM_SANDBOX_CMD`."""

    def __init__(self, *flags: str) -> None:
        command = shlex.split(os.environ["USM_SANDBOX_CMD"]) + list(flags)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        ready, _, _ = select.select([self.process.stdout], [], [], START_TIMEOUT)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.stop()
            raise RuntimeError("the sandbox did not print its ready line")
        self.ready = json.loads(line)
        self.dcs = {int(dc): port for dc, port in self.ready["dcs"].items()}
        self.public_key = self.ready["public_key"]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def get(self, path: str) -> Any:
        return self._call(path, None)

    def post(self, path: str, **body: Any) -> Any:
        return self._call(path, json.dumps(body).encode())

    def _call(self, path: str, body: bytes | None) -> Any:
        url = f"http://127.0.0.1:{self.ready['admin']}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AdminError(error.code, json.load(error)["error"]) from None

    def code(self, phone: str) -> str:
        """The login code that waits for a phone."""
        return next(c["code"] for c in reversed(self.get("/codes")) if c["phone"] == phone)

    def calls(self, **filters: Any) -> list[str]:
        """Names of the API calls that came in."""
        query = "&".join(f"{name}={value}" for name, value in ({"kind": "rpc"} | filters).items())
        return [call["method"] for call in self.get(f"/calls?{query}")]

    def until(self, path: str, holds: Any, seconds: float = 10) -> Any:
        """Asks until an answer holds."""
        end = time.monotonic() + seconds
        while True:
            answer = self.get(path)
            if holds(answer):
                return answer
            if time.monotonic() > end:
                raise AssertionError(f"{path} still says {answer}")
            time.sleep(0.02)


def telethon_client(sandbox: Sandbox, dc: int = 2, session: Any = None, **options: Any):
    """A Telethon client that meets the sandbox's DC where it would meet Telegram's."""
    from telethon import TelegramClient
    from telethon.crypto import rsa
    from telethon.sessions import MemorySession

    rsa.add_key(sandbox.public_key, old=False)
    if session is None:
        session = MemorySession()
        session.set_dc(dc, "127.0.0.1", sandbox.dcs[dc])
    options = {"timeout": 10, "connection_retries": 2, "request_retries": 2} | options
    return TelegramClient(session, API_ID, API_HASH, **options)


def telethon_key(sandbox: Sandbox, dc: int, user_id: int | None):
    """A Telethon session with a ready key, without a key exchange."""
    from telethon.crypto import AuthKey
    from telethon.sessions import MemorySession

    minted = sandbox.post("/mint", dc=dc, user_id=user_id)
    session = MemorySession()
    session.set_dc(dc, "127.0.0.1", minted["port"])
    session.auth_key = AuthKey(bytes.fromhex(minted["auth_key"]))
    return session, minted["key"]


def kurigram_client(sandbox: Sandbox, **options: Any):
    """A Kurigram client whose connections go to the sandbox, whatever address it believes in."""
    from pyrogram import Client
    from pyrogram.connection import Connection
    from pyrogram.crypto import rsa

    numbers = sandbox.get("/public_key")
    rsa.server_public_keys[numbers["fingerprint"]] = rsa.PublicKey(int(numbers["n"]), int(numbers["e"]))

    class Redirected(Connection):
        def __init__(self, dc_id: int, server_address: str, port: int, **rest: Any) -> None:
            super().__init__(dc_id, "127.0.0.1", sandbox.dcs[dc_id], **rest)

    return Client(
        "sandbox", API_ID, API_HASH, in_memory=True, connection_factory=Redirected, **options
    )
