import itertools

import pytest
from sandbox_client import Sandbox

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def sandbox():
    started = Sandbox()
    yield started
    started.stop()


@pytest.fixture
def account(sandbox):
    """Makes accounts that no other test knows."""

    def make(**members):
        number = next(_numbers)
        members = {"id": 1000 + number, "phone": f"99966{number:05}", "first_name": f"Test {number}"} | members
        sandbox.post("/users", **members)
        return members

    return make


@pytest.fixture
def bot(sandbox):
    def make(**members):
        number = next(_numbers)
        members = {"id": 1000 + number, "bot_token": f"{number}:token", "first_name": "Bot"} | members
        sandbox.post("/users", **members)
        return members

    return make


@pytest.fixture(autouse=True)
def defaults(sandbox):
    yield
    sandbox.post("/faults_clear")
    sandbox.post("/config", qr_ttl=30, skew=0, salt_ttl=1800, code="", dup_sessions=True)
