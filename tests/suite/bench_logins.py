"""Memory per pending QR login: in the service, and with a Telethon client for each.

Both run against a sandbox of their own, which is a process of its own too. A row counts the memory beyond that of the
first login, divided by the further ones. Exit code 1 when a row of pending logins in the service is over the budget.
"""

import argparse
import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import grpc
from processes import START_SECONDS, Process, Sandbox
from usm.v1 import login_pb2, login_service_pb2, login_service_pb2_grpc
from usm_client import Client

BUDGET_KIB = 64
TENANTS = 10
STARTS_AT_ONCE = 16
WATCHERS_ON_ONE = 100
# A thousand key exchanges on one core, in Python.
PENDING_SECONDS = 900
RECONNECTS = 3
# Long enough for no code to be drawn anew between two measurements.
CODE_SECONDS = 900
# What Telegram's codes live.
TELEGRAM_CODE_SECONDS = 30


class Crowd(Sandbox):
    """A sandbox that is asked whether every login has its connection."""

    def __init__(self, program, folder):
        super().__init__(program, folder, f"qr_ttl={CODE_SECONDS}")

    def settle(self, logins):
        """Waits until every login has a connection of its own and nothing is said any more."""
        end, before = time.monotonic() + PENDING_SECONDS, None
        while time.monotonic() < end:
            connections = self.ask("/conns")
            said = sorted((it["conn"], it["packets_in"], it["packets_out"]) for it in connections)
            # A pulse now and then is not the noise of a reconnection.
            calm = before is not None and len(set(said) ^ set(before)) <= logins // 20
            if calm and len({it["key"] for it in connections if it["key"]}) >= logins:
                return
            before = said
            time.sleep(2)
        sys.exit("not every login has a connection")


class Table:
    """Rows of one contestant, printed as they come."""

    def __init__(self, process, further):
        self.process, self.further, self.first, self.worst = process, further, None, 0.0

    def row(self, name, logins):
        resident, proportional, anonymous = self.process.memory()
        each = ""
        if logins == 1:
            self.first = resident
        elif logins > 1:
            kib = (resident - self.first) / self.further
            self.worst, each = max(self.worst, kib), f"{kib:.1f}"
        sizes = " | ".join(f"{size / 1024:.1f}" for size in (resident, proportional, anonymous))
        print(f"| {name} | {sizes} | {each} |", flush=True)


def heading(title):
    print(f"\n{title}\n\n| | resident MiB | PSS MiB | anonymous MiB | KiB per further login |")
    print("| --- | --- | --- | --- | --- |", flush=True)


def after_reconnects(table, sandbox, options):
    """The rows that follow once all are pending."""
    if options.idle:
        time.sleep(options.idle)
        table.row(f"the same, {options.idle} s later", options.logins)
    for number in range(1, RECONNECTS + 1):
        sandbox.ask("/kick", {})
        sandbox.settle(options.logins)
        table.row(f"after mass reconnect {number}", options.logins)


def serve(program, sandbox, folder):
    """The service, embedded, on the way to this sandbox; with a token for everything."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": folder,
        "USM_DATA_DIR": os.path.join(folder, "data"),
        "USM_TELEGRAM": sandbox.endpoint(folder),
        "USM_LISTEN": "127.0.0.1:0",
        "USM_METRICS_LISTEN": "off",
        "USM_LOG": "warn",
        "TELEGRAM_API_ID_MASTER": "17349",
        "TELEGRAM_API_HASH_MASTER": "0123456789abcdef0123456789abcdef",
        # Longer than all of this takes.
        "QR_TICKET_TTL": "7200",
    }
    service = Process([program, "serve"], environment)
    address = service.line().split("serves http://")[1].split()[0]
    issue = [program, "token", "issue", "--role", "service_role", "--ttl", "2h"]
    token = subprocess.run(issue, env=environment, check=True, capture_output=True, text=True).stdout.strip()
    return service, f"http://{address}", token


class Logins:
    """Pending QR logins of several tenants."""

    def __init__(self, client):
        self.client, self.tickets, self.room = client, [], asyncio.Semaphore(STARTS_AT_ONCE)

    async def grow(self, number):
        await asyncio.gather(*(self.start(at) for at in range(len(self.tickets), number)))
        await asyncio.gather(*(self.shown(ticket) for ticket in self.tickets))

    async def start(self, at):
        async with self.room:
            request = login_service_pb2.StartQrLoginRequest(
                tenant_id=f"tenant-{at % TENANTS}", app_id=f"app-{at}"
            )
            answer = await self.client.call(self.client.logins.StartQrLogin, request, timeout=60)
            self.tickets.append(answer.login.ticket)

    async def shown(self, ticket):
        request = login_service_pb2.GetLoginRequest(ticket=ticket)
        async with self.room:
            for _ in range(PENDING_SECONDS):
                login = (await self.client.call(self.client.logins.GetLogin, request, timeout=60)).login
                if login.state == login_pb2.LOGIN_STATE_WAITING_QR_SCAN:
                    return
                if login.state != login_pb2.LOGIN_STATE_STARTING:
                    sys.exit(f"a login is {login_pb2.LoginState.Name(login.state)}")
                await asyncio.sleep(1)
        sys.exit("a login shows no code")


class Watchers:
    """Somebody who follows each login, a hundred to a connection: HTTP/2 servers take two hundred streams on one."""

    def __init__(self, server, token, tickets):
        self.server, self.token, self.tickets = server.removeprefix("http://"), token, tickets
        self.channels, self.tasks = [], []

    async def __aenter__(self):
        told = [asyncio.Event() for _ in self.tickets]
        for begin in range(0, len(self.tickets), WATCHERS_ON_ONE):
            # Channels to one server would share a connection otherwise.
            channel = grpc.aio.insecure_channel(self.server, [("grpc.use_local_subchannel_pool", 1)])
            self.channels.append(channel)
            stub = login_service_pb2_grpc.LoginServiceStub(channel)
            for at in range(begin, min(begin + WATCHERS_ON_ONE, len(self.tickets))):
                self.tasks.append(asyncio.create_task(self.watch(stub, self.tickets[at], told[at])))
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in told)), START_SECONDS)

    async def watch(self, stub, ticket, told):
        metadata = [("authorization", f"Bearer {self.token}")]
        async for _ in stub.WatchLogin(login_service_pb2.WatchLoginRequest(ticket=ticket), metadata=metadata):
            told.set()

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        for channel in self.channels:
            await channel.close()


async def measure_service(program, options):
    with tempfile.TemporaryDirectory() as folder, Crowd(program, folder) as sandbox:
        service, server, token = serve(program, sandbox, folder)
        with service:
            heading(f"`usm serve`, {options.logins} QR logins of {TENANTS} tenants")
            table = Table(service, options.logins - 1)
            await asyncio.to_thread(time.sleep, 2)
            table.row("idle", 0)
            async with Client(server, token) as client:
                logins = Logins(client)
                await logins.grow(1)
                await asyncio.to_thread(sandbox.settle, 1)
                table.row("1 login pending", 1)
                began = time.monotonic()
                await logins.grow(options.logins)
                took = time.monotonic() - began
                await asyncio.to_thread(sandbox.settle, options.logins)
                table.row(f"{options.logins} pending, all within {took:.0f} s", options.logins)
                await asyncio.to_thread(after_reconnects, table, sandbox, options)
                # Codes of the usual life come with the next connection.
                sandbox.ask("/config", {"qr_ttl": TELEGRAM_CODE_SECONDS})
                sandbox.ask("/kick", {})
                await asyncio.sleep(options.renewals)
                table.row(
                    f"{options.renewals} s after another, new codes every {TELEGRAM_CODE_SECONDS} s", options.logins
                )
                worst = table.worst
                # Not held against the budget: a stream is what a call costs.
                async with Watchers(server, token, logins.tickets):
                    table.row("and a stream of `WatchLogin` on each", options.logins)
            verdict = "over" if worst > BUDGET_KIB else "within"
            print(f"\nat most {worst:.1f} KiB per further login before there are streams: {verdict} {BUDGET_KIB}")
            return worst


def measure_telethon(program, options):
    with tempfile.TemporaryDirectory() as folder, Crowd(program, folder) as sandbox:
        child = str(pathlib.Path(__file__).with_name("bench_telethon.py"))
        with Process([sys.executable, child], None, stdin=subprocess.PIPE) as telethon:
            heading(f"Telethon in one process, {options.logins} clients with a QR login each")
            table = Table(telethon, options.logins - 1)
            telethon.child.stdin.write(json.dumps(sandbox.ready) + "\n")
            for number in (0, 1, options.logins):
                began = time.monotonic()
                telethon.child.stdin.write(f"{number}\n")
                telethon.child.stdin.flush()
                telethon.line(PENDING_SECONDS)
                took = time.monotonic() - began
                if number:
                    sandbox.settle(number)
                name = ["imported", "1 client", f"{number} clients, all within {took:.0f} s"][min(number, 2)]
                table.row(name, number)
            after_reconnects(table, sandbox, options)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("usm", help="the program, built for release")
    parser.add_argument("--logins", type=int, default=1000, help="logins in the service")
    parser.add_argument("--telethon", type=int, help="Telethon clients; as many as logins unless told, 0 for none")
    parser.add_argument("--idle", type=int, default=75, help="seconds of rest between two of the rows; 0 for none")
    parser.add_argument("--renewals", type=int, default=75, help="seconds with codes of Telegram's usual life")
    options = parser.parse_args()
    program = os.path.abspath(options.usm)
    worst = asyncio.run(measure_service(program, options))
    clients = options.logins if options.telethon is None else options.telethon
    if clients > 1:
        options.logins = clients
        measure_telethon(program, options)
    sys.exit(worst > BUDGET_KIB)


main()
