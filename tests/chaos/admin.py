"""What an operator does meanwhile, at whichever replica answers."""

import itertools
import uuid

from usm.v1 import lease_service_pb2, material_pb2, session_service_pb2
from usm_client import Client, UsmError

from telegram import Account

PATIENCE = 8.0


class Operator:
    def __init__(self, servers, token, sandbox, port):
        self.servers, self.token, self.sandbox, self.port = servers, token, sandbox, port
        self.turn, self.users = itertools.count(), itertools.count(9_900_000_000)
        self.accounts = []

    async def call(self, service, method, request):
        """The answer, or the reason why there is none."""
        server = self.servers[next(self.turn) % len(self.servers)]
        async with Client(f"http://127.0.0.1:{server.port}", self.token) as client:
            try:
                return await client.call(getattr(getattr(client, service), method), request, timeout=PATIENCE)
            except UsmError as error:
                return error.reason

    async def take_in(self, session, account):
        tenant, app = session
        request = session_service_pb2.ImportSessionRequest(
            tenant_id=tenant, app_id=app, format=material_pb2.SESSION_FORMAT_TELETHON_STRING,
            data=account.string.encode(), legacy_stopped=True, request_id=str(uuid.uuid4()),
        )
        return await self.call("sessions", "ImportSession", request)

    async def evict(self, session):
        tenant, app = session
        request = lease_service_pb2.EvictLeaseRequest(tenant_id=tenant, app_id=app, request_id=str(uuid.uuid4()))
        return told(await self.call("leases", "EvictLease", request))

    async def bustle(self):
        """Takes a session in, has it looked at, and ends it."""
        user = next(self.users)
        account = Account(self.sandbox, user, self.port)
        self.accounts.append(account)
        session = ("side", f"app-{user}")
        answers = [told(await self.take_in(session, account))]
        for method in ("ValidateSession", "ValidateSession", "RevokeSession"):
            request = getattr(session_service_pb2, f"{method}Request")(tenant_id=session[0], app_id=session[1])
            answers.append(told(await self.call("sessions", method, request)))
        return answers


def told(answer):
    return answer if isinstance(answer, str) else "done"
