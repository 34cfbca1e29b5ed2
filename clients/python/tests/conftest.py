"""Fixtures of the tests. Those of a real server come from the environment:

``USM_SERVER``          address, for example http://127.0.0.1:50051
``USM_TOKEN``           a token with every scope (service_role)
``USM_SANDBOX_ADMIN``   address of the sandbox's admin interface, for example http://127.0.0.1:50080
``USM_BIN``             the program, for a test that starts a server of its own

Without them the tests against a real server are skipped; with ``USM_TEST_REQUIRE_SERVER=1`` they fail instead.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fake_service import FakeService
from real_server import RealServer


@pytest_asyncio.fixture
async def service() -> AsyncIterator[FakeService]:
    fake = FakeService()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture(scope="session")
def real() -> RealServer:
    names = ("USM_SERVER", "USM_TOKEN", "USM_SANDBOX_ADMIN")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        tell = pytest.fail if os.environ.get("USM_TEST_REQUIRE_SERVER") == "1" else pytest.skip
        tell(f"no real server: {', '.join(missing)} not set")
    return RealServer(*(os.environ[name].strip() for name in names))
