"""The committed stubs are what the contract gives, and the package is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from usm.v1 import error_pb2

ROOT = Path(__file__).parent.parent


def run(*command: str) -> None:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_generated_code_is_current() -> None:
    run("generate.py", "--check")


def test_the_package_is_typed() -> None:
    run("-m", "mypy", "--config-file", "pyproject.toml", "--cache-dir", "/dev/null")


def test_every_reason_the_guard_acts_on_is_one_of_the_contract() -> None:
    from usm_client import errors

    known = {name.removeprefix("ERROR_REASON_") for name in error_pb2.ErrorReason.keys()}
    assert known >= errors._LEASE_ENDED | {"LEASE_DRAINING", "SESSION_LEASED"}
