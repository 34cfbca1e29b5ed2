"""The real programs of a run: PostgreSQL, Redis, the sandbox and the replicas of the service.

Each is a process of its own that ends with the harness, however that ends. What they print lies in the run's folder.
"""

import glob
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.request

PATIENCE = 30.0
OWNER, PROGRAM, DATABASE = "usm_owner", "usm_app", "usm"
API_HASH = "5eb63bbbe01eeed093cb22bb8f5acdc3"
JWT_SECRET = "a-secret-that-no-log-may-show-0123456789"

# The kernel kills what was started with this when the harness ends.
MORTAL = ["setpriv", "--pdeathsig", "KILL"]

_no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def until(what, condition, patience=PATIENCE):
    """Asks until the answer is true, and returns it."""
    end = time.monotonic() + patience
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain: {what}")
        time.sleep(0.05)


class Program:
    """A program that is started, hurt and started again, with one log for all its lives."""

    mortal = MORTAL

    def __init__(self, name, folder, command, environment):
        self.name, self.log = name, pathlib.Path(folder, f"{name}.log")
        self.command, self.environment, self.child = command, environment, None

    def launch(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                [*self.mortal, *self.command], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def runs(self):
        return self.child is not None and self.child.poll() is None

    def signal(self, number):
        if self.runs():
            self.child.send_signal(number)

    def kill(self):
        if self.runs():
            self.child.kill()
            self.child.wait()


class PostgreSQL(Program):
    """A cluster that loses nothing it committed: fsync and synchronous_commit are on."""

    def __init__(self, folder):
        home = pathlib.Path(folder, "postgres")
        home.mkdir()
        self.port, self.home = free_port(), home
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        self.bin = found[-1] if found else os.path.dirname(shutil.which("initdb") or "")
        # The server does not run as root.
        self.root = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        self.mortal = [*self.root, "--pdeathsig", "KILL"] if self.root else MORTAL
        command = [
            f"{self.bin}/postgres", "-D", f"{home}/data", "-k", str(home), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", "fsync=on", "-c", "synchronous_commit=on",
            "-c", "shared_buffers=32MB", "-c", "max_connections=120",
        ]
        super().__init__("postgres", folder, command, {"PATH": os.environ["PATH"]})
        if self.root:
            # The way to its folder is for the user of the server too.
            os.chmod(folder, 0o711)
            shutil.chown(home, "postgres", "postgres")
        made = [*self.root, f"{self.bin}/initdb", "-D", f"{home}/data", "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*made, "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL, cwd="/")

    def url(self, user):
        return f"postgres://{user}@127.0.0.1:{self.port}/{DATABASE}"

    def sql(self, statement, user="postgres", database=DATABASE):
        """Rows as lists of text."""
        command = [
            f"{self.bin}/psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
            "-p", str(self.port), "-U", user, "-d", database, "-c", statement,
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
        return [line.split("\t") for line in done.stdout.splitlines() if line]

    def answers(self):
        try:
            return bool(self.sql("select 1", database="postgres"))
        except subprocess.CalledProcessError:
            return False

    def start(self):
        """Until it answers, with whatever it has to recover. What a killed one left may have to end first."""
        self.launch()

        def ready():
            if not self.runs():
                self.launch()
            return self.answers()

        until("PostgreSQL answers", ready)

    def prepare(self, usm, environment):
        """Roles, database and tables, as an operator makes them."""
        roles = f"create role {OWNER} login createrole; create role {PROGRAM} login noinherit;"
        self.sql(roles, database="postgres")
        self.sql(f"create database {DATABASE} owner {OWNER}", database="postgres")
        # With both addresses it also says what is left to grant; the owner may, since it made the roles.
        told = {**environment, "DATABASE_URL": self.url(PROGRAM), "USM_MIGRATE_DATABASE_URL": self.url(OWNER)}
        subprocess.run([usm, "migrate", "up"], env=told, check=True, stdout=subprocess.DEVNULL)

    def leader(self):
        """Process id of the server itself."""
        return int(pathlib.Path(self.home, "data/postmaster.pid").read_text().split()[0])


class Redis(Program):
    def __init__(self, folder):
        self.port = free_port()
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", folder]
        super().__init__("redis", folder, [*command, "--appendonly", "no"], {"PATH": os.environ["PATH"]})

    def start(self):
        self.launch()
        until("Redis answers", self.answers)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as door:
                door.sendall(b"PING\r\n")
                return door.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Sandbox(Program):
    """Telegram. A home data centre, and an admin interface that tells what happened."""

    def __init__(self, folder, usm):
        command = [usm, "sandbox", "--set", "dup_sessions=on"]
        super().__init__("sandbox", folder, command, {"PATH": os.environ["PATH"], "HOME": folder})

    def start(self):
        self.launch()
        line = until("the sandbox says where it is", lambda: self.log.read_text().partition("\n")[0])
        self.ready = json.loads(line)
        self.ports = {int(dc): port for dc, port in self.ready["dcs"].items()}

    def ask(self, path, body=None):
        url = f"http://127.0.0.1:{self.ready['admin']}{path}"
        data = None if body is None else json.dumps(body).encode()
        with _no_proxy.open(urllib.request.Request(url, data=data), timeout=20) as answer:
            return json.load(answer)

    def endpoint(self, path, ports):
        """Writes what the service is told of this Telegram."""
        dcs = "".join(f'[[dc]]\nid = {dc}\naddress = "127.0.0.1:{port}"\n' for dc, port in ports.items())
        path.write_text(f'home_dc = 2\nrsa_keys = ["""\n{self.ready["public_key"]}"""]\n{dcs}')
        return path


class Server(Program):
    """A replica of the service, on a port that it keeps."""

    def __init__(self, number, folder, usm, settings):
        self.port = free_port()
        own = {**settings, "USM_LISTEN": f"127.0.0.1:{self.port}", "USM_DATA_DIR": f"{folder}/server-{number}"}
        super().__init__(f"server-{number}", folder, [usm, "serve"], own)

    def start(self):
        self.launch()
        until(f"{self.name} is ready", self.ready)

    def ready(self):
        if not self.runs():
            # It does not serve without its database, which may be on its way back.
            time.sleep(0.3)
            self.launch()
        try:
            with _no_proxy.open(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


def settings(folder, usm, database, redis, endpoint, quiet_gap):
    """What every replica is told, and the token with which everybody calls."""
    plain = {"PATH": os.environ["PATH"], "HOME": folder}
    ring = f"{folder}/usm.keys"
    subprocess.run(
        [usm, "keys", "generate", "--encryption-keys", ring], env={**plain, "USM_DATA_DIR": folder}, check=True,
        stdout=subprocess.DEVNULL,
    )
    told = {
        **plain,
        "DATABASE_URL": database.url(PROGRAM),
        "REDIS_URL": f"redis://127.0.0.1:{redis.port}",
        "USM_ENCRYPTION_KEYS": ring,
        "USM_TELEGRAM": str(endpoint),
        "USM_METRICS_LISTEN": "off",
        "USM_LEASE_QUIET_GAP": str(quiet_gap),
        "USM_SHUTDOWN_GRACE": "5",
        "USM_LOG": "usm=debug,info",
        # Sessions that nobody holds are looked at meanwhile, by the service itself.
        "SESSION_VALIDATION_INTERVAL": "20",
        "SUPABASE_JWT_SECRET": JWT_SECRET,
        "TELEGRAM_API_ID_MASTER": "17349",
        "TELEGRAM_API_HASH_MASTER": API_HASH,
    }
    issue = [usm, "token", "issue", "--role", "service_role", "--ttl", "12h"]
    env = {**told, "USM_DATA_DIR": folder}
    return told, subprocess.run(issue, env=env, check=True, capture_output=True, text=True).stdout.strip()
