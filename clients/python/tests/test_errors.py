"""Errors from the details that travel with them."""

from __future__ import annotations

import grpc
import pytest
from fake_service import SECRETS, TOKEN, FakeService, refusal
from google.rpc import code_pb2, error_details_pb2, status_pb2
from usm_client import Client, UsmError


def rpc_error(status: status_pb2.Status | bytes, code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    data = status if isinstance(status, bytes) else status.SerializeToString()
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", data))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details="no")


def test_violations_name_the_fields() -> None:
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT)
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain="usm", reason="ARGUMENT_INVALID"))
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="app_id", description="must not be empty")
    status.details.add().Pack(bad)
    error = UsmError.from_rpc(rpc_error(status, grpc.StatusCode.INVALID_ARGUMENT))
    assert error.violations == (("app_id", "must not be empty"),)
    assert str(error) == "ARGUMENT_INVALID: no; app_id: must not be empty"


def test_a_reason_of_another_domain_is_not_ours() -> None:
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE)
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain="proxy.example", reason="LEASE_NOT_HELD"))
    error = UsmError.from_rpc(rpc_error(status, grpc.StatusCode.UNAVAILABLE))
    assert (error.reason, error.ends_lease, error.transient) == ("UNAVAILABLE", False, True)


def test_details_that_cannot_be_read_leave_the_code() -> None:
    error = UsmError.from_rpc(rpc_error(b"\xff\xff\xff", grpc.StatusCode.NOT_FOUND))
    assert (error.reason, error.retry_after) == ("NOT_FOUND", None)


async def test_reason_wait_and_metadata_come_over_the_wire(service: FakeService) -> None:
    service.answers("acquire", refusal("ABORTED", "SESSION_LEASED", retry_after=12.5))
    async with Client(service.url, TOKEN) as client:
        with pytest.raises(UsmError) as caught:
            async with client.lease("acme", "news", "worker-7"):
                pass
    error = caught.value
    assert (error.reason, error.retry_after, error.metadata) == ("SESSION_LEASED", 12.5, {"holder": "worker-8"})
    assert error.code is grpc.StatusCode.ABORTED
    assert str(error) == "SESSION_LEASED: the fake refuses (retry after 12.5 s)"
    assert not any(secret in f"{error!r} {error}" for secret in SECRETS)
    assert len(service.calls["acquire"]) == 1


@pytest.mark.parametrize("server", ["", "127.0.0.1:1", "ftp://h:1", "http://", "http://u:p@h:1", "http://h:1/path"])
def test_an_address_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(ValueError, match="server"):
        Client(server, TOKEN)


@pytest.mark.parametrize("token", ["", "  ", "two words", "schlüssel"])
async def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII") as caught:
        Client("http://127.0.0.1:1", token)
    assert "words" not in str(caught.value)
