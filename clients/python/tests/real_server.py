"""A running service and its sandbox, as the tests use them: through their public interfaces only."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import itertools
import json
import os
import struct
import urllib.request
import uuid
from dataclasses import dataclass, field
from typing import Any

from usm.v1 import login_pb2, login_service_pb2, material_pb2, session_pb2, session_service_pb2
from usm_client import Client

TENANT = "python-tests"
_user_ids = itertools.count(7_000_000_000 + int.from_bytes(os.urandom(3), "big") * 100)


@dataclass(frozen=True)
class Account:
    """An authorization that the service holds."""

    app_id: str
    user_id: int
    auth_key: bytes = field(repr=False)
    key: str
    """What the sandbox calls the key."""


@dataclass(frozen=True)
class RealServer:
    url: str
    token: str = field(repr=False)
    admin: str

    def client(self) -> Client:
        return Client(self.url, self.token)

    async def sandbox(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Calls the sandbox's admin interface."""

        def send() -> Any:
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(
                self.admin.rstrip("/") + path, data=data, headers={"content-type": "application/json"}
            )
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=10) as response:
                return json.load(response)

        return await asyncio.to_thread(send)

    async def user(self, dc: int = 2, **account: Any) -> int:
        user_id = next(_user_ids)
        await self.sandbox("/users", {"id": user_id, "first_name": "Ada", "dc": dc, **account})
        return user_id

    async def account(self, dc: int = 2) -> Account:
        """An account that is logged in, imported under a name of its own as a Telethon string."""
        user_id = await self.user(dc)
        minted = await self.sandbox("/mint", {"dc": dc, "user_id": user_id})
        auth_key = bytes.fromhex(minted["auth_key"])
        app_id = f"app-{uuid.uuid4().hex[:12]}"
        async with self.client() as client:
            response = await client.call(
                client.sessions.ImportSession,
                session_service_pb2.ImportSessionRequest(
                    tenant_id=TENANT,
                    app_id=app_id,
                    format=material_pb2.SESSION_FORMAT_TELETHON_STRING,
                    data=telethon_string(dc, minted["port"], auth_key).encode(),
                    legacy_stopped=True,
                    request_id=str(uuid.uuid4()),
                ),
            )
        assert response.session.state == session_pb2.SESSION_STATE_AUTHORIZED
        return Account(app_id, user_id, auth_key, str(minted["key"]))

    async def qr_login(self, user_id: int) -> str:
        """Logs an account in by QR, as a person with a phone would; returns the session's name."""
        app_id = f"qr-{uuid.uuid4().hex[:12]}"
        async with self.client() as client:
            started = await client.call(
                client.logins.StartQrLogin,
                login_service_pb2.StartQrLoginRequest(tenant_id=TENANT, app_id=app_id),
                timeout=30,
            )
            assert started.login.state == login_pb2.LOGIN_STATE_WAITING_QR_SCAN
            await self.sandbox("/scan", {"token": started.login.qr_url, "user_id": user_id})
            ended = await client.call(
                client.logins.FinalizeLogin,
                login_service_pb2.FinalizeLoginRequest(ticket=started.login.ticket),
                timeout=30,
            )
        assert ended.login.state == login_pb2.LOGIN_STATE_AUTHORIZED
        return app_id

    async def session(self, app_id: str) -> session_pb2.Session:
        async with self.client() as client:
            request = session_service_pb2.GetSessionRequest(tenant_id=TENANT, app_id=app_id)
            return (await client.call(client.sessions.GetSession, request)).session

    async def open_connections(self, account: Account) -> int:
        """Connections to the sandbox that use the account's key now."""
        keys = await self.sandbox("/keys")
        return sum(int(row["open_connections"]) for row in keys if str(row["key"]) == account.key)


def telethon_string(dc: int, port: int, auth_key: bytes, host: str = "127.0.0.1") -> str:
    address = ipaddress.ip_address(host).packed
    packed = struct.pack(f">B{len(address)}sH256s", dc, address, port, auth_key)
    return "1" + base64.urlsafe_b64encode(packed).decode()
