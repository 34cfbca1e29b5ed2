"""What a program can do that knows nothing of the contract but the server's address.

Runs beside a server: `USM_SERVER` and `USM_TOKEN` say where and as whom.
"""

import os

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

TIMEOUT = 20


@pytest.fixture(scope="module")
def channel():
    address = os.environ["USM_SERVER"].removeprefix("http://")
    # No proxy of the environment stands between a test and the server beside it.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield channel


@pytest.fixture(scope="module")
def reflected(channel):
    return ProtoReflectionDescriptorDatabase(channel)


@pytest.fixture(scope="module")
def pool(reflected):
    return descriptor_pool.DescriptorPool(reflected)


def call(channel, pool, service, method, token=None, **fields):
    """Calls a method by its descriptor alone."""
    found = pool.FindServiceByName(service).FindMethodByName(method)
    request = message_factory.GetMessageClass(found.input_type)
    response = message_factory.GetMessageClass(found.output_type)
    invoke = channel.unary_unary(
        f"/{service}/{method}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
    )
    metadata = [("authorization", f"Bearer {token}")] if token else []
    return invoke(request(**fields), metadata=metadata, timeout=TIMEOUT)


def test_the_services_are_listed(reflected):
    assert set(reflected.get_services()) >= {
        "usm.v1.SessionService",
        "usm.v1.LoginService",
        "usm.v1.LeaseService",
        "usm.v1.BackupService",
        "usm.v1.SystemService",
        "grpc.health.v1.Health",
    }


def test_services_and_messages_are_described(pool):
    methods = {method.name for method in pool.FindServiceByName("usm.v1.LeaseService").methods}
    assert methods >= {"AcquireLease", "RenewLease", "ReleaseLease", "EvictLease"}
    fields = {field.name for field in pool.FindMessageTypeByName("usm.v1.Session").fields}
    assert fields >= {"tenant_id", "app_id", "state", "custody", "lease", "state_reason", "labels"}
    states = {value.name for value in pool.FindEnumTypeByName("usm.v1.SessionState").values}
    assert "SESSION_STATE_AUTHORIZED" in states


def test_health_is_called_by_descriptor_without_a_token(channel, pool):
    health = call(channel, pool, "usm.v1.SystemService", "GetHealth").health
    state = health.DESCRIPTOR.fields_by_name["state"].enum_type
    assert state.values_by_number[health.state].name == "HEALTH_STATE_HEALTHY"


def test_a_reader_calls_by_descriptor(channel, pool):
    token = os.environ["USM_TOKEN"]
    answer = call(channel, pool, "usm.v1.SessionService", "ListSessions", token, tenant_id="nobody")
    assert list(answer.sessions) == []


def test_a_refusal_names_its_reason(channel, pool):
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, pool, "usm.v1.SessionService", "ListSessions")
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    assert b"UNAUTHENTICATED" in details
