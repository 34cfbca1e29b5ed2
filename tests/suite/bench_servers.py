"""The servers of the lease benchmark: PostgreSQL, the service on it, etcd, Redis, and an echo. All data on one disk."""

import base64
import itertools
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request

from processes import START_SECONDS, Process
from usm.v1 import lease_service_pb2, material_pb2, session_service_pb2
from usm_client import Client

OWNER, PROGRAM, DATABASE = "usm_owner", "usm_app", "bench"
JWT_SECRET = "a secret of the benchmark, and of nothing else"
USERS = itertools.count(9_000_000_000)
DC = 2
# Workers that share a tenant, and a connection where connections are shared: one program with several sessions.
WORKERS_OF_ONE = 8
# Everything else as initdb of Debian's package leaves it: fsync, full_page_writes and autovacuum on, 128 MB of buffers.
SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers", "autovacuum")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, condition):
    end = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"{what} does not start")
        time.sleep(0.05)


class Silent(Process):
    """A server that says nothing to its output; what it complains of goes to a file."""

    def __init__(self, command, folder, name):
        self.log = pathlib.Path(folder, f"{name}.log")
        with open(self.log, "w") as log:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


class Postgres(Silent):
    """A cluster of its own, by user `postgres` where the benchmark runs as root."""

    def __init__(self, folder):
        home = pathlib.Path(folder, "postgres")
        home.mkdir(mode=0o700)
        self.prefix = []
        if os.geteuid() == 0:
            os.chmod(folder, 0o711)
            shutil.chown(home, "postgres", "postgres")
            self.prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        initdb = [program("initdb"), "-D", home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        run([*self.prefix, *initdb, "--locale=C.UTF-8"])
        self.port = free_port()
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "synchronous_commit=on"]
        server = [program("postgres"), "-D", home / "data", "-k", home, "-p", str(self.port), *settings]
        super().__init__([*self.prefix, *server], folder, "postgres")
        ask = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        until("PostgreSQL", lambda: subprocess.run(ask).returncode == 0)
        # Rights to act as the roles of the policies come with the migration.
        self.sql("postgres", f"create role {OWNER} login createrole; create role {PROGRAM} login noinherit")
        self.sql("postgres", f"create database {DATABASE} owner {OWNER}")

    def __exit__(self, *_):
        # Killed outright, its children would stay behind.
        self.child.send_signal(3)
        self.child.wait()

    def url(self, user, database=DATABASE):
        return f"postgres://{user}@127.0.0.1:{self.port}/{database}"

    def connection(self, database=DATABASE):
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", database]

    def sql(self, database, text):
        command = [program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text, *self.connection(database)]
        return run(command)

    def settings(self):
        names = ", ".join(f"'{name}'" for name in SETTINGS)
        query = f"select name || ' ' || current_setting(name) from pg_settings where name in ({names}) order by 1"
        version = self.sql(DATABASE, "show server_version").split()[0]
        return f"PostgreSQL {version}: " + ", ".join(self.sql(DATABASE, query).split("\n")[:-1])

    def counters(self):
        """Transactions and syncs of the log so far; what a connection did in the last second may be missing."""
        query = "select xact_commit, wal_sync from pg_stat_database, pg_stat_wal where datname = current_database()"
        return tuple(int(text) for text in self.sql(DATABASE, query).split("|"))

    def pgbench(self, script, clients, seconds):
        threads = str(min(clients, os.cpu_count()))
        flags = ["-n", "-M", "prepared", "-f", script, "-c", str(clients), "-j", threads, "-T", str(seconds)]
        return [program("pgbench"), *flags, *self.connection()]


class Etcd(Silent):
    """As Debian's package runs it: one member, nothing set but where it listens and stores."""

    def __init__(self, folder):
        self.server = f"http://127.0.0.1:{free_port()}"
        peer = f"http://127.0.0.1:{free_port()}"
        flags = {
            "data-dir": os.path.join(folder, "etcd"),
            "listen-client-urls": self.server,
            "advertise-client-urls": self.server,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "logger": "zap",
            "log-level": "error",
        }
        super().__init__(["etcd", *(f"--{name}={value}" for name, value in flags.items())], folder, "etcd")
        until("etcd", self.is_healthy)

    def is_healthy(self):
        try:
            with urllib.request.urlopen(f"{self.server}/health", timeout=1) as answer:
                return json.load(answer)["health"] == "true"
        except OSError:
            return False


class Redis(Silent):
    """Debian's, which does not write before it answers."""

    def __init__(self, folder):
        self.port = free_port()
        flags = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder]
        super().__init__(["redis-server", *flags], folder, "redis")
        ask = ["redis-cli", "-p", str(self.port), "ping"]
        until("Redis", lambda: subprocess.run(ask, capture_output=True).returncode == 0)


class Service(Process):
    """`usm serve` on that database, with tokens of workers: each tenant's may lease its sessions and nothing else."""

    def __init__(self, usm, postgres, sandbox, folder, options):
        self.usm = usm
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "DATABASE_URL": postgres.url(PROGRAM),
            "USM_ENCRYPTION_KEYS": os.path.join(folder, "keys.json"),
            "USM_TELEGRAM": sandbox.endpoint(folder),
            "USM_LISTEN": "127.0.0.1:0",
            "USM_METRICS_LISTEN": "127.0.0.1:0",
            "USM_LOG": "warn",
            "SUPABASE_JWT_SECRET": JWT_SECRET,
            "TELEGRAM_API_ID_MASTER": "17349",
            "TELEGRAM_API_HASH_MASTER": "0123456789abcdef0123456789abcdef",
        }
        if options.connections:
            self.environment["USM_DATABASE_CONNECTIONS"] = str(options.connections)
        self.command("keys", "generate")
        self.command("migrate", "up", USM_MIGRATE_DATABASE_URL=postgres.url(OWNER))
        super().__init__([usm, "serve"], self.environment)
        self.server = "http://" + self.line().split("serves http://")[1].split()[0]
        self.tokens = os.path.join(folder, "tokens")
        issue = ["token", "issue", "--role", "authenticated", "--scope", "lease", "--ttl", "12h", "--tenant"]
        self.workers, self.tenants = max(options.workers), options.tenants
        tokens = {self.tenant(at): self.command(*issue, self.tenant(at)) for at in range(self.workers)}
        pathlib.Path(self.tokens).write_text("".join(tokens[self.tenant(at)] for at in range(self.workers)))

    def command(self, *words, **variables):
        return run([self.usm, *words], env=self.environment | variables)

    def tenant(self, worker):
        return f"bench-{worker // WORKERS_OF_ONE % self.tenants}"

    async def fill(self, sandbox):
        """Gives each worker an authorized session, and each client of pgbench one that is lent already: a session that
        nobody holds has no time to extend."""
        token = self.command("token", "issue", "--role", "service_role").strip()
        async with Client(self.server, token) as client:
            for at in range(self.workers):
                of_tenant = self.tenant(at)
                await add_session(client, sandbox, of_tenant, f"worker-{at}")
                await add_session(client, sandbox, of_tenant, f"bare-{at}")
                request = lease_service_pb2.AcquireLeaseRequest(
                    tenant_id=of_tenant, app_id=f"bare-{at}", holder="pgbench"
                )
                await client.call(client.leases.AcquireLease, request)


class Echo(Process):
    """The contract with constant answers."""

    def __init__(self, bench):
        super().__init__([bench, "echo"], None)
        self.server = self.line().split("serves ")[1].strip()


async def add_session(client, sandbox, of_tenant, name):
    user = next(USERS)
    sandbox.ask("/users", {"id": user, "first_name": "Ada", "dc": DC})
    minted = sandbox.ask("/mint", {"dc": DC, "user_id": user})
    request = session_service_pb2.ImportSessionRequest(
        tenant_id=of_tenant,
        app_id=name,
        format=material_pb2.SESSION_FORMAT_TELETHON_STRING,
        data=telethon_string(minted["port"], bytes.fromhex(minted["auth_key"])),
        legacy_stopped=True,
    )
    await client.call(client.sessions.ImportSession, request)


def telethon_string(port, auth_key):
    packed = struct.pack(">B4sH256s", DC, bytes([127, 0, 0, 1]), port, auth_key)
    return b"1" + base64.urlsafe_b64encode(packed)


def program(name):
    """Debian keeps each version's programs in a folder of its own; the newest is taken."""
    versions = sorted(pathlib.Path("/usr/lib/postgresql").glob("[0-9]*"), key=lambda path: int(path.name))
    return str(versions[-1] / "bin" / name) if versions else name


def run(command, **more):
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(map(str, command[:4]))} … failed:\n{ran.stdout}{ran.stderr}")
    return ran.stdout
