"""Connects Telethon with a leased session, and proves that it is disconnected before the lease is given back.

Telegram ends an authorization for good when it is used over two connections at once. So everything Telethon opens goes
through a gate: it lets no connection and no byte out after the lease is lost, keeps at most one connection per data
centre, knows each socket that is open, and closes what Telethon leaves behind. Only when no socket is left, and Telegram has
closed its end of each, does the lease count as free.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from telethon import TelegramClient, errors
from telethon.network.connection import ConnectionTcpFull, ConnectionTcpMTProxyRandomizedIntermediate
from telethon.sessions import StringSession

from ._calls import finish, log
from ._gate import FAREWELL_TIMEOUT, Gate, gated
from ._limit import Limit
from .errors import UsmError
from .lease import Lease
from .material import Material, Proxy

_RESERVED = {"session", "api_id", "api_hash", "proxy", "use_ipv6", "loop"}
_API_HASH = "0" * 32
"""Telethon wants one that is not empty; only logins send it, and a holder never logs in."""
_CLOSE_TIMEOUT = 3.0
"""Seconds Telethon gets to disconnect in its own way, before its sockets are closed under it."""
_SAVE_TIMEOUT = 5.0
"""Seconds the changed session gets to be written back."""
_OPEN_TO_ALL = {"auth", "help", "langpack"}
"""Namespaces of methods that Telegram answers without a login: no proof that it accepts the session."""
_ENDED = {401, 406}
"""Codes of Telegram's errors that say the authorization has ended."""


def connect(
    lease: Lease, *, api_id: int | None = None, client_kwargs: Mapping[str, Any] | None = None
) -> TelethonConnection:
    """A connected ``TelegramClient`` while the block runs: ``async with connect(lease) as telegram``.

    ``api_id`` is needed only where the lease does not tell the one the authorization was made with. ``client_kwargs``
    go to ``TelegramClient``; device parameters that the lease tells cannot be replaced.

    When the lease is lost the client is disconnected at once and the block's calls to Telegram fail; where that ends
    the block, ``LeaseLost`` is raised. Leaving the block disconnects, and tells the lease once no socket is open.
    An answer of Telegram that ends the authorization, such as AUTH_KEY_DUPLICATED, is reported to the service.
    """
    return TelethonConnection(lease, api_id, dict(client_kwargs or {}))


class TelethonConnection:
    """Connects on entering, disconnects on leaving. Made by ``connect``; use it once."""

    def __init__(self, lease: Lease, api_id: int | None, client_kwargs: dict[str, Any]) -> None:
        self._lease = lease
        self._gate = Gate(lease.is_over, lease.remaining)
        self._client = _client(lease.material, api_id, client_kwargs, self._gate)
        self._client._on_answer = self._answered
        self._limit = Limit(lease, self._client)
        self._gate.on_open = self._limit.connected
        self._lent = _identity(self._client)
        self._accepted: _Identity | None = None
        """What Telegram last answered to as a logged-in session."""
        self._closing: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed_by_loss = False

    async def __aenter__(self) -> TelegramClient:
        task = asyncio.current_task()
        self._cancelling: int = task.cancelling() if task is not None and hasattr(task, "cancelling") else 0
        self._lease.expect_connections()
        self._tasks = [asyncio.ensure_future(self._watch()), asyncio.ensure_future(self._limit.run())]
        try:
            await self._connect()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self._client

    async def _connect(self) -> None:
        connecting = asyncio.ensure_future(self._client.connect())
        lost = asyncio.ensure_future(self._lease.lost.wait())
        try:
            await asyncio.wait({connecting, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise ConnectionError("the lease was lost before Telegram answered")
            connecting.result()
            if not self._client.is_connected():
                raise ConnectionError("Telegram closed the connection")
        finally:
            for task in (connecting, lost):
                task.cancel()
            await asyncio.wait({connecting, lost})

    async def _watch(self) -> None:
        await self._lease.lost.wait()
        self._closed_by_loss = True
        await self._close()

    async def _close(self) -> None:
        """Disconnects once, whoever asks; waits for it."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._disconnect())
        await asyncio.shield(self._closing)

    async def _disconnect(self) -> None:
        self._gate.shut()
        patience = min(_CLOSE_TIMEOUT, self._lease.remaining() / 2)
        ending = asyncio.ensure_future(self._client.disconnect())
        await asyncio.wait({ending}, timeout=patience)
        if not ending.done():
            log.warning("Telethon did not disconnect within %.1f s, its sockets are closed", patience)
        elif not ending.cancelled() and (error := ending.exception()) is not None:
            log.warning("Telethon failed to disconnect, its sockets are closed: %s", type(error).__name__)
        await self._gate.close(FAREWELL_TIMEOUT)
        ending.cancel()
        if not self._gate.is_empty() or self._client.is_connected():
            log.error("A connection to Telegram may still be open: the session stays locked for the quiet gap")
        elif not self._gate.is_proved():
            log.warning("Telegram did not close its end of a connection: the session stays locked for the quiet gap")
        else:
            self._lease.confirm_connections_closed()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lost = self._closed_by_loss
        _, cancelled = await finish(self._leave(exc))
        if lost and exc is not None and self._lease.loss is not None and self._ended_by_loss(exc):
            raise self._lease.loss from None
        if cancelled:
            raise asyncio.CancelledError

    def _answered(self, accepted: bool) -> None:
        self._lease.note_activity()
        if accepted:
            self._accepted = _identity(self._client)

    async def _leave(self, exc: BaseException | None) -> None:
        await self._close()
        await self._write_back()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if (answer := _ending_answer(exc)) is not None:
            try:
                await self._lease.report_error(*answer)
            except UsmError as error:
                log.warning("Telegram's answer %s could not be reported: %s", answer[1], error)

    async def _write_back(self) -> None:
        """Saves the session if it is another one than was lent: Telegram moved the account to another data centre."""
        identity = _identity(self._client)
        if identity is None or identity == self._lent:
            return
        lease = self._lease
        if identity != self._accepted:
            # Telethon makes a new key before it is logged in with it: such a one must not replace the good one.
            log.warning("The new key of %s/%s was never accepted, it is not kept", lease.tenant_id, lease.app_id)
            return
        try:
            text = self._client.session.save()
            await lease.save(text, format="TELETHON_STRING", timeout=min(_SAVE_TIMEOUT, lease.remaining()))
        except Exception as error:
            told = error if isinstance(error, UsmError) else type(error).__name__
            log.error("The changed session of %s/%s was not kept: %s", lease.tenant_id, lease.app_id, told)

    def _ended_by_loss(self, exc: BaseException) -> bool:
        """Telethon cancels the calls in flight when it disconnects: that looks like a cancellation of the block."""
        if isinstance(exc, asyncio.CancelledError):
            task = asyncio.current_task()
            # Before Python 3.11 the two cannot be told apart.
            return task is None or not hasattr(task, "cancelling") or task.cancelling() <= self._cancelling
        return isinstance(exc, (ConnectionError, asyncio.TimeoutError))


_Identity = tuple[int, bytes]
"""Home data centre and key of a session."""


def _identity(client: TelegramClient) -> _Identity | None:
    session = client.session  # none after a log-out
    return None if session is None or session.auth_key is None else (session.dc_id, session.auth_key.key)


def _ignore(accepted: bool) -> None:
    pass


class _Client(TelegramClient):  # type: ignore[misc]
    """Tells when Telegram answered, and whether that shows that it accepts the session as it is now."""

    _on_answer: Callable[[bool], None] = staticmethod(_ignore)

    async def _call(self, sender: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        result = await super()._call(sender, request, *args, **kwargs)
        if sender is self._sender and _needs_login(request):
            self._on_answer(True)
        return result

    async def _dispatch_update(self, *args: Any, **kwargs: Any) -> Any:
        self._on_answer(False)  # it may have come before a move of the account
        return await super()._dispatch_update(*args, **kwargs)


def _needs_login(request: Any) -> bool:
    requests = request if isinstance(request, (list, tuple)) else [request]
    return any(type(one).__module__.rpartition(".")[2] not in _OPEN_TO_ALL for one in requests)


def _client(material: Material, api_id: int | None, kwargs: dict[str, Any], gate: Gate) -> TelegramClient:
    if material.format != "TELETHON_STRING":
        raise ValueError(f"Telethon is connected with the format TELETHON_STRING, not {material.format}")
    if reserved := _RESERVED & kwargs.keys():
        raise ValueError(f"the lease decides about {', '.join(sorted(reserved))}")
    if api_id is not None and material.api_id and api_id != material.api_id:
        raise ValueError("another api_id than the authorization was made with gets the session closed")
    if not (material.api_id or api_id):
        raise ValueError("the lease tells no api_id: give the one the session was made with")
    device = {name: value for name, value in vars(material.device).items() if value}
    lang_pack = device.pop("lang_pack", "")
    if differing := [name for name, value in device.items() if kwargs.get(name, value) != value]:
        raise ValueError(f"the authorization was made with another {', '.join(sorted(differing))}")
    base, proxy = _route(material.proxy, kwargs.pop("connection", ConnectionTcpFull))
    session = _session(material)
    client = _Client(
        session,
        material.api_id or api_id,
        _API_HASH,
        **{**kwargs, **device},
        connection=gated(base, gate),
        proxy=proxy,
        # Without this Telethon replaces an IPv6 address by that of another data centre.
        use_ipv6=ipaddress.ip_address(session.server_address).version == 6,
    )
    if lang_pack:
        client._init_request.lang_pack = lang_pack
    return client


def _session(material: Material) -> StringSession:
    try:
        session = StringSession(material.session_string())
        ipaddress.ip_address(session.server_address)
    except Exception:  # whatever the parser says may quote what it read
        raise ValueError("the material is no session string of Telethon") from None
    if session.auth_key is None:
        raise ValueError("the session string has no key")
    return session


def _route(proxy: Proxy | None, base: type[Any]) -> tuple[type[Any], Any]:
    """Telethon's connection class and its proxy argument."""
    if proxy is None:
        return base, None
    if proxy.kind == "MTPROTO":
        return ConnectionTcpMTProxyRandomizedIntermediate, (proxy.host, proxy.port, proxy.password)
    if proxy.kind not in ("SOCKS5", "HTTP"):
        raise ValueError(f"a proxy of the kind {proxy.kind} is not known")
    # Without it Telethon only warns and goes on, perhaps without the proxy: the account would show another address.
    if importlib.util.find_spec("python_socks") is None:
        raise RuntimeError("the session is used through a proxy: pip install 'usm-client[proxy]'")
    parameters: dict[str, Any] = {"proxy_type": proxy.kind.lower(), "addr": proxy.host, "port": proxy.port}
    if proxy.username:
        parameters.update(username=proxy.username, password=proxy.password)
    return base, parameters


def _ending_answer(exc: BaseException | None) -> tuple[int, str] | None:
    """What Telegram said, if it ended the authorization: code and text as it sent them."""
    if isinstance(exc, errors.AuthKeyNotFound):
        return -404, "AUTH_KEY_NOT_FOUND"
    if not isinstance(exc, errors.RPCError) or exc.code not in _ENDED:
        return None
    for text, kind in errors.rpcerrorlist.rpc_errors_dict.items():
        if type(exc) is kind:
            return exc.code, text
    return exc.code, str(exc.message)
