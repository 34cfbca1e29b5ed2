"""Making calls: with a deadline that holds, repeated while answers get lost, and finished despite cancellation."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import grpc

from .errors import UsmError
from .term import backoff

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")

log = logging.getLogger("usm_client")

_ATTEMPTS_MAX = 4


async def call(
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request, timeout: float
) -> Response:
    """One call. The server learns the deadline; here it holds even if the library does not come back."""
    if timeout <= 0:
        raise UsmError.timeout()
    pending = asyncio.ensure_future(_answer(method, request, timeout))
    try:
        done, _ = await asyncio.wait({pending}, timeout=timeout + 0.1)
        if not done:
            raise UsmError.timeout()
        if pending.cancelled():  # not by us: the channel was closed meanwhile
            raise UsmError("CANCELLED", "the connection was closed", code=grpc.StatusCode.CANCELLED)
        return pending.result()
    except grpc.aio.AioRpcError as error:
        raise UsmError.from_rpc(error) from None
    except grpc.aio.UsageError:
        raise UsmError("CANCELLED", "the client is closed", code=grpc.StatusCode.CANCELLED) from None
    finally:
        pending.cancel()


async def _answer(
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request, timeout: float
) -> Response:
    return await method(request, timeout=timeout)


async def repeat(until: float, attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Repeats a call that is safe to repeat while its answer gets lost, until an instant of ``time.monotonic()``."""
    failures = 0
    while True:
        try:
            return await attempt()
        except UsmError as error:
            if not error.transient:
                raise
            wait = backoff(failures, error.retry_after, random.random())
            failures += 1
            if failures >= _ATTEMPTS_MAX or time.monotonic() + wait >= until:
                raise
            log.debug("An answer got lost, the call is repeated: %s", error)
            await asyncio.sleep(wait)


async def finish(work: Coroutine[Any, Any, Result]) -> tuple[Result, int]:
    """Runs work to its end even if the caller is cancelled meanwhile; tells how often it was.

    The work must be bounded in time: it holds up the cancellation.
    """
    task = asyncio.ensure_future(work)
    cancelled = 0
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled += 1
    return task.result(), cancelled
