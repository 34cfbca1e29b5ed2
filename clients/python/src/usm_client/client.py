"""A connection to the service and its stubs, with limits and deadlines that suit leases."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
from usm.v1.backup_service_pb2_grpc import BackupServiceStub
from usm.v1.lease_service_pb2_grpc import LeaseServiceStub
from usm.v1.login_service_pb2_grpc import LoginServiceStub
from usm.v1.session_service_pb2_grpc import SessionServiceStub
from usm.v1.system_service_pb2_grpc import SystemServiceStub

from . import _calls
from ._context import LeaseContext
from ._stream import Room
from .material import format_number
from .term import STOP_BEFORE

Request = TypeVar("Request")
Response = TypeVar("Response")

log = logging.getLogger("usm_client")

CALL_TIMEOUT = 15.0
"""Seconds a call of ``Client.call`` may take, unless told otherwise."""
_MESSAGE_SIZE_MAX = 17 * 1024 * 1024
_OPTIONS: list[tuple[str, Any]] = [
    # Material of 16 MiB and what stands around it.
    ("grpc.max_receive_message_length", _MESSAGE_SIZE_MAX),
    ("grpc.max_send_message_length", _MESSAGE_SIZE_MAX),
    # A holder whose renewals go into the void must learn it early.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # The library's default grows to two minutes: longer than a lease.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class Client:
    """The services of one server, called with one token.

    ``server`` is ``http://host:port`` or ``https://host:port`` (TLS, with the system's authorities unless
    ``root_certificates`` gives others). ``token`` is a bearer token, or a function that returns one and is asked
    before every call. ``certificate`` and ``key`` (PEM) are a client certificate for mutual TLS.

    Use it as an async context manager, in one event loop. The raw stubs ``sessions``, ``logins``, ``leases``,
    ``backups`` and ``system`` carry the token too; ``call`` adds a deadline and typed errors to them.
    """

    def __init__(
        self,
        server: str,
        token: str | Callable[[], str],
        *,
        root_certificates: bytes | None = None,
        certificate: bytes | None = None,
        key: bytes | None = None,
    ) -> None:
        url = urlsplit(server)
        if url.scheme not in ("http", "https") or not url.hostname or url.path not in ("", "/"):
            raise ValueError("the server must be given as http://host:port or https://host:port")
        if url.username is not None or url.query or url.fragment:
            raise ValueError("the server's URL takes no user, query or fragment")
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        target = f"{host}:{url.port or (443 if url.scheme == 'https' else 50051)}"
        self._server = f"{url.scheme}://{target}"
        options = [*_OPTIONS]
        if _is_loopback(url.hostname):
            options.append(("grpc.enable_http_proxy", 0))
        elif url.scheme == "http":
            log.warning("The token and the sessions travel unencrypted to %s", self._server)
        source = token if callable(token) else _constant(token)
        if not callable(token):
            _header(token)  # a useless one is told now, not at the first call
        interceptors: list[grpc.aio.ClientInterceptor] = [
            _UnaryUnary(source),
            _UnaryStream(source),
            _StreamStream(source),
        ]
        if url.scheme == "https":
            credentials = grpc.ssl_channel_credentials(root_certificates, key, certificate)
            self._channel = grpc.aio.secure_channel(target, credentials, options, interceptors=interceptors)
        else:
            self._channel = grpc.aio.insecure_channel(target, options, interceptors=interceptors)
        self._room = Room()
        self.sessions = SessionServiceStub(self._channel)
        self.logins = LoginServiceStub(self._channel)
        self.leases = LeaseServiceStub(self._channel)
        self.backups = BackupServiceStub(self._channel)
        self.system = SystemServiceStub(self._channel)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float = CALL_TIMEOUT,
    ) -> Response:
        """Calls a method of one of the stubs; raises ``UsmError``."""
        return await _calls.call(method, request, timeout)

    def lease(
        self,
        tenant_id: str,
        app_id: str,
        holder: str,
        *,
        format: str = "TELETHON_STRING",
        ttl: float | None = None,
        wait: float = 0.0,
        stop_before: float = STOP_BEFORE,
    ) -> LeaseContext:
        """Borrows a session while the block runs: ``async with client.lease(…) as lease``.

        ``ttl`` is the time asked for and ``wait`` how long to queue for the session, in seconds. The lease renews
        itself. When renewals are refused, or fail until ``stop_before`` seconds before the deadline, or the service
        wants the session back, ``lease.lost`` is set; a block that has not ended when the time is over is cancelled and
        ``LeaseLost`` raised. Leaving the block releases the lease: the session is free at once if
        ``lease.confirm_connections_closed()`` was called (the Telethon bridge does), else after the service's quiet
        gap.

        Raises ``UsmError``, for example ``SESSION_LEASED`` with ``retry_after``.
        """
        return LeaseContext(
            self.leases,
            self._room,
            tenant_id=tenant_id,
            app_id=app_id,
            holder=holder,
            format=format_number(format),
            ttl=ttl,
            wait=wait,
            stop_before=stop_before,
        )

    async def close(self) -> None:
        """Closes the connection. Leave the leases first."""
        await self._channel.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Client({self._server!r})"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _constant(token: str) -> Callable[[], str]:
    return lambda: token


def _header(token: str) -> str:
    token = token.strip()
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError("the token is empty or has characters other than visible ASCII")
    return f"Bearer {token}"


class _Bearer:
    """Puts the token into the metadata of every call."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def _with_token(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", _header(self._token()))
        return grpc.aio.ClientCallDetails(
            method=details.method,
            timeout=details.timeout,
            metadata=metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )


class _UnaryUnary(_Bearer, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._with_token(client_call_details), request)


class _UnaryStream(_Bearer, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._with_token(client_call_details), request)


class _StreamStream(_Bearer, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await continuation(self._with_token(client_call_details), request_iterator)
