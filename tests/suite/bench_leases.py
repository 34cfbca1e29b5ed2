"""Leases per second beside the bare statement and etcd, and how long they take at half of that.

Every contestant has its server on this machine and its data on one disk; they take turns, so that what else the
machine does meets all of them. Exit code 1 when a target is missed or was not measured. docs/benchmarks.md says what is
compared.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bench_report
from bench_report import Layout
from bench_servers import WORKERS_OF_ONE, Echo, Etcd, Postgres, Redis, Service, run
from processes import Sandbox

CLOSED = {
    "pgbench": "single-row update by `pgbench`",
    "pairs": "`AcquireLease` + `ReleaseLease`",
    "etcd-pairs": "etcd: grant + transaction + revoke",
    "etcd-locks": "etcd: transaction + delete, one lasting lease",
    "renew-unary": "`RenewLease`",
    "renew-stream": "beats on `HoldLease`",
    "etcd-keep-alive": "etcd: `LeaseKeepAlive`",
    "echo-renew-unary": "echo of `RenewLease`",
    "echo-renew-stream": "echo of `HoldLease`",
}
OPEN = ["pairs", "etcd-pairs", "renew-unary", "renew-stream", "etcd-keep-alive"]
# What a renewal sets, on the row of a session of the client's own, by primary key; no role, no policy.
STATEMENT = """\
\\set tenant :client_id / {of_one} % {tenants}
update telegram_sessions
set lease_expire_time = (extract(epoch from clock_timestamp()) * 1000)::bigint + lease_ttl
where tenant_id = 'bench-' || :tenant and app_id = 'bare-' || :client_id;
"""
WARM_UP_SECONDS = 1
# For a phase that hangs.
SPARE_SECONDS = 60
REDIS_CALLS = 100_000


class Bench:
    """The servers, and the phases that were measured."""

    def __init__(self, options, folder, stack):
        self.options, self.phases = options, {}
        self.postgres = stack.enter_context(Postgres(folder))
        sandbox = stack.enter_context(Sandbox(options.usm, folder))
        self.service = stack.enter_context(Service(options.usm, self.postgres, sandbox, folder, options))
        asyncio.run(self.service.fill(sandbox))
        self.etcd = stack.enter_context(Etcd(folder))
        self.echo = stack.enter_context(Echo(options.bench))
        self.redis = stack.enter_context(Redis(folder))
        self.script = os.path.join(folder, "statement.sql")
        text = STATEMENT.format(of_one=WORKERS_OF_ONE, tenants=options.tenants)
        pathlib.Path(self.script).write_text(text)
        self.servers = {"service": self.service, "postgres": self.postgres, "etcd": self.etcd, "echo": self.echo}

    def measure(self, name, layout, rate=None):
        """One phase of one contestant."""
        before = self.postgres.counters()
        phase = self.pgbench(layout.workers) if name == "pgbench" else self.load(name, layout, rate)
        after = self.postgres.counters()
        phase["transactions"], phase["syncs"] = (new - old for new, old in zip(after, before, strict=True))
        self.phases.setdefault((name, layout, rate is not None), []).append(phase)
        tail = "" if rate is None else f", p99 {phase['p99_ms']:.1f} ms"
        print(f"{name}, {layout.title()}: {phase['per_second']:.0f}/s{tail}", file=sys.stderr, flush=True)

    def load(self, name, layout, rate):
        server = self.servers[name.split("-")[0]] if name.startswith(("etcd", "echo")) else self.service
        flags = {
            "contestant": name.removeprefix("echo-"),
            "server": server.server,
            "tokens": self.service.tokens,
            "workers": layout.workers,
            "workers-per-connection": layout.sharing,
            "warm-up": WARM_UP_SECONDS,
            "seconds": self.options.seconds,
        }
        if rate is not None:
            flags["rate"] = rate
        words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
        command = [self.options.bench, "load", *words]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        watchdog = threading.Timer(self.options.seconds + SPARE_SECONDS, child.kill)
        watchdog.start()
        child.stdout.readline()
        began = self.cpu(child)
        child.stdout.readline()
        used = {key: value - began[key] for key, value in self.cpu(child).items()}
        figures = child.stdout.readline()
        watchdog.cancel()
        if child.wait() != 0 or not figures:
            sys.exit(f"{name} with {layout.title()} failed")
        return json.loads(figures) | {"cpu": used}

    def pgbench(self, clients):
        command = self.postgres.pgbench(self.script, clients, self.options.seconds)
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        began = self.cpu(child)
        # Looked at shortly before it ends: then its connections are gone.
        time.sleep(self.options.seconds - 0.2)
        used = {key: value - began[key] for key, value in self.cpu(child).items()}
        out, err = child.communicate(timeout=SPARE_SECONDS)
        told = dict(line.split(" = ") for line in out.splitlines() if " = " in line)
        if child.returncode != 0 or "tps" not in told:
            sys.exit(f"pgbench failed:\n{out}{err}")
        rate = float(told["tps"].split()[0])
        turns = rate * (self.options.seconds - 0.2)
        return {"per_second": rate, "turns": turns, "all_turns": rate * self.options.seconds, "cpu": used}

    def cpu(self, client):
        """Seconds of processor so far, of the processes and of the machine."""
        seconds = {name: used_by(server.child.pid) for name, server in self.servers.items()}
        seconds["client"] = used_by(client.pid)
        busy, idle = machine()
        return seconds | {"busy": busy, "idle": idle}

    def redis_rates(self):
        """For orientation: half a pair, and nothing of it is on the disk."""
        rates = []
        for clients in self.options.workers:
            flags = ["-p", str(self.redis.port), "-c", str(clients), "-n", str(REDIS_CALLS), "-r", "1000000", "--csv"]
            out = run(["redis-benchmark", *flags, "SET", "key:__rand_int__", "holder", "NX", "PX", "90000"])
            rates.append(float(out.splitlines()[-1].split(",")[1].strip('"')))
        return rates

    def everything(self):
        options = self.options
        for _ in range(options.rounds):
            for layout in options.layouts:
                for name in CLOSED:
                    # A client of pgbench always has its own connection.
                    if name not in options.without and not (name == "pgbench" and layout.sharing == 1):
                        self.measure(name, layout)
        halves = {
            (name, layout): statistics.median(phase["per_second"] for phase in self.phases[name, layout, False]) / 2
            for layout in options.layouts
            for name in OPEN
            if layout.workers == max(options.workers) and name not in options.without
        }
        for _ in range(options.rounds):
            for (name, layout), rate in halves.items():
                self.measure(name, layout, rate)


def used_by(pid):
    """Seconds of a process, of its children, and of the children that it had."""
    total = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = pathlib.Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            own = int(entry.name) == pid
            if own or int(fields[1]) == pid:
                total += sum(int(field) for field in fields[11 : 15 if own else 13])
    return total / os.sysconf("SC_CLK_TCK")


def machine():
    """Seconds that all cores were busy, and idle or waiting for the disk."""
    with open("/proc/stat") as stat:
        ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in stat.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, idle


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("usm", type=os.path.abspath, help="the program, built for release")
    parser.add_argument("bench", type=os.path.abspath, help="usm-bench, built for release")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 32], help="numbers of workers")
    parser.add_argument("--rounds", type=int, default=3, help="times that every contestant has its turn")
    parser.add_argument("--seconds", type=int, default=5, help="that each phase is measured")
    parser.add_argument("--tenants", type=int, default=4, help="tenants that the workers belong to, eight by eight")
    parser.add_argument("--connections", type=int, help="of the service to PostgreSQL; its default unless told")
    parser.add_argument("--without", nargs="+", default=[], choices=CLOSED, help="contestants to leave out")
    parser.add_argument("--quick", action="store_true", help="one round of two seconds each")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 2
    options.layouts = [Layout(number, WORKERS_OF_ONE) for number in options.workers] + [Layout(max(options.workers), 1)]
    return options


def main():
    options = parse()
    # Ended from outside, it ends its servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        disk = run(["stat", "-f", "-c", "%T", folder]).strip()
        if disk in ("tmpfs", "ramfs"):
            sys.exit(f"{folder} is in memory, where nothing is durable; set TMPDIR to a folder on a disk")
        bench = Bench(options, folder, stack)
        bench.everything()
        print(f"{bench.postgres.settings()}; {run(['etcd', '--version']).splitlines()[0]}; on {disk}\n")
        print(f"service: {options.connections or 'default'} connections to PostgreSQL, {options.tenants} tenants\n")
        missed = bench_report.tell(bench.phases, CLOSED, options, bench.redis_rates())
    sys.exit(missed)


main()
