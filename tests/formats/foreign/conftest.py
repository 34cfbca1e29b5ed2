"""A server with its sandbox, and the foreign libraries, each in a process of its own.

`tests/suite/foreign` installs them and says where: `USM_FOREIGN_PYTHON`, a folder with one folder per library, and
`USM_FOREIGN_NODE`, a folder with the worker and its packages, or nothing where Node is not installed.
"""

import json
import os
import pathlib
import subprocess
import sys
import urllib.request
import uuid

import grpc
import pytest
from usm.v1 import lease_service_pb2, lease_service_pb2_grpc, material_pb2, session_service_pb2, session_service_pb2_grpc

HERE = pathlib.Path(__file__).parent
SECONDS = 90
TENANT = "foreign"


def run(command, asked, **options):
    """Questions to a process, and its answers; what it says otherwise may hold keys and is not shown."""
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=SECONDS, **options)
    assert done.returncode == 0, f"{command[-1]} failed: {(done.stderr.strip().splitlines() or ['silently'])[-1][:200]}"
    return json.loads(done.stdout)


class Library:
    """One member of the Pyrogram family."""

    def __init__(self, name, module="pyrogram"):
        self.name = name
        self.module = module

    def ask(self, *asked):
        folder = os.path.join(os.environ["USM_FOREIGN_PYTHON"], self.name)
        environment = {**os.environ, "PYTHONPATH": folder}
        return run([sys.executable, str(HERE / "pyrogram_worker.py"), self.module], asked, env=environment)


FAMILY = [Library("pyrogram"), Library("kurigram"), Library("hydrogram", "hydrogram"), Library("pyrofork")]


@pytest.fixture(params=FAMILY, ids=lambda library: library.name)
def family(request):
    return request.param


@pytest.fixture
def node():
    home = os.environ.get("USM_FOREIGN_NODE")
    if not home:
        pytest.skip("Node is not installed")
    return lambda *asked: run(["node", "worker.js"], asked, cwd=home)


class Server:
    def __init__(self):
        self.token = os.environ["USM_TOKEN"]
        self.admin = os.environ["USM_SANDBOX_ADMIN"]
        # No proxy of the environment stands between a test and the server beside it.
        options = [("grpc.enable_http_proxy", 0)]
        self.channel = grpc.insecure_channel(os.environ["USM_SERVER"].removeprefix("http://"), options=options)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(self.channel)
        self.leases = lease_service_pb2_grpc.LeaseServiceStub(self.channel)
        self.users = 8_000_000_000

    def call(self, method, request):
        return method(request, metadata=[("authorization", f"Bearer {self.token}")], timeout=20)

    def sandbox(self, path, **body):
        request = urllib.request.Request(self.admin + path, data=json.dumps(body).encode() if body else None)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return json.load(answer)

    def mint(self, dc=2):
        """A key that is logged in, and its account's id."""
        self.users += 1
        self.sandbox("/users", id=self.users, first_name="Ada", dc=dc)
        return self.sandbox("/mint", dc=dc, user_id=self.users), self.users

    def imports(self, data, told, app=None):
        """Takes a session in, under a name of its own if not told one; its format must be recognised."""
        app = app or f"app-{uuid.uuid4().hex[:12]}"
        data = data.encode() if isinstance(data, str) else data
        answer = self.call(
            self.sessions.ImportSession,
            session_service_pb2.ImportSessionRequest(tenant_id=TENANT, app_id=app, data=data, legacy_stopped=True),
        )
        assert material_pb2.SessionFormat.Name(answer.format) == "SESSION_FORMAT_" + told
        return app

    def lend(self, app, format):
        """The session in a form, given back at once."""
        answer = self.call(
            self.leases.AcquireLease,
            lease_service_pb2.AcquireLeaseRequest(
                tenant_id=TENANT,
                app_id=app,
                holder="foreign",
                request_id=str(uuid.uuid4()),
                format=material_pb2.SessionFormat.Value("SESSION_FORMAT_" + format),
            ),
        )
        lease = answer.lease
        self.call(
            self.leases.ReleaseLease,
            lease_service_pb2.ReleaseLeaseRequest(lease_id=lease.lease_id, epoch=lease.epoch, connections_closed=True),
        )
        return answer.material.data

    def raw(self, app):
        return json.loads(self.lend(app, "RAW"))


@pytest.fixture(scope="session")
def server():
    return Server()
