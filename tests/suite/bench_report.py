"""Tables and verdict of the lease benchmark, in Markdown."""

import statistics

# Pairs, beside etcd's. Each of ours is two durable commits, each of etcd's three.
TARGET_PAIRS = 1.5
# Beats of `HoldLease`, beside etcd's keep-alives.
TARGET_BEATS = 1.0
TARGET_P99_MS = 10
CONSUMERS = ("client", "service", "echo", "etcd", "postgres")


class Report:
    def __init__(self, phases, names, options):
        self.phases, self.names, self.options = phases, names, options
        self.most = max(options.workers)

    def median(self, key, contestant, workers=None, *, half=False):
        """`None` where nothing was measured."""
        found = self.phases.get((contestant, workers or self.most, half))
        return found and statistics.median(phase[key] for phase in found)

    def rates(self, redis):
        workers = self.options.workers
        heading("Per second, closed loop, one call of each worker under way; median of the rounds, lowest to highest")
        header("", *(f"{number} worker{'s' * (number > 1)}" for number in workers))
        for contestant, name in self.names.items():
            cells = []
            for number in workers:
                each = [phase["per_second"] for phase in self.phases.get((contestant, number, False), [])]
                span = f" ({min(each):,.0f}–{max(each):,.0f})" if len(each) > 1 else ""
                cells.append(f"{statistics.median(each):,.0f}{span}" if each else "not measured")
            row(name, *cells)
        row("Redis: `SET NX PX`, half a pair, not durable", *(f"{rate:,.0f}" for rate in redis))

    def latencies(self):
        heading(f"Milliseconds, {self.most} workers")
        header("", "closed loop: p50", "p99", "at half of that load: per second", "p50", "p99", "longest")
        for contestant, name in self.names.items():
            if contestant != "pgbench" and self.median("p50_ms", contestant):
                closed = [f"{self.median(key, contestant):.2f}" for key in ("p50_ms", "p99_ms")]
                half = ["", "", "", ""]
                if self.median("p50_ms", contestant, half=True):
                    told = (self.median(key, contestant, half=True) for key in ("p50_ms", "p99_ms", "max_ms"))
                    half = [f"{self.median('per_second', contestant, half=True):,.0f}", *(f"{ms:.2f}" for ms in told)]
                row(name, *closed, *half)

    def costs(self):
        heading(f"Microseconds of processor per turn, {self.most} workers, closed loop")
        header("", "client", "server", "PostgreSQL", "rest of the machine", "idle %", "turns per commit", "commits per sync")
        for contestant, name in self.names.items():
            found = self.phases.get((contestant, self.most, False))
            if found:
                turns = sum(phase["turns"] for phase in found)
                cpu = {key: sum(phase["cpu"][key] for phase in found) for key in found[0]["cpu"]}
                server = cpu["service"] + cpu["echo"] + cpu["etcd"]
                rest = cpu["busy"] - sum(cpu[key] for key in CONSUMERS)
                each = (f"{seconds / turns * 1e6:.0f}" for seconds in (cpu["client"], server, cpu["postgres"], rest))
                idle = f"{cpu['idle'] / (cpu['busy'] + cpu['idle']) * 100:.0f}"
                row(name, *each, idle, *self.commits(contestant, found))

    def commits(self, contestant, found):
        """Turns per commit and commits per sync, of those that use PostgreSQL."""
        if contestant.startswith(("etcd", "echo")):
            return "", ""
        transactions = sum(phase["transactions"] for phase in found)
        syncs = sum(phase["syncs"] for phase in found)
        turns = sum(phase["all_turns"] for phase in found)
        return f"{turns / max(transactions, 1):.1f}", f"{transactions / max(syncs, 1):.1f}"

    def ratios(self):
        heading(f"Ratios at {self.most} workers")
        header("", "measured", "target", "")
        rate = {name: self.median("per_second", name) for name in self.names}
        verdicts = [
            self.at_least("pairs / pairs of etcd", ratio(rate["pairs"], rate["etcd-pairs"]), TARGET_PAIRS),
            self.at_least("beats / keep-alives of etcd", ratio(rate["renew-stream"], rate["etcd-keep-alive"]), TARGET_BEATS),
            self.below("p99 of pairs at half load, ms", self.median("p99_ms", "pairs", half=True)),
            self.below("p99 of beats at half load, ms", self.median("p99_ms", "renew-stream", half=True)),
        ]
        for name, value in (
            ("pairs / half the bare statements", ratio(2 * (rate["pairs"] or 0), rate["pgbench"])),
            ("pairs / etcd's with a lasting lease", ratio(rate["pairs"], rate["etcd-locks"])),
            ("beats / bare statements", ratio(rate["renew-stream"], rate["pgbench"])),
            ("`RenewLease` / bare statements", ratio(rate["renew-unary"], rate["pgbench"])),
            ("`RenewLease` / keep-alives of etcd", ratio(rate["renew-unary"], rate["etcd-keep-alive"])),
        ):
            row(name, "not measured" if value is None else f"{value:.2f}", "", "")
        return not all(verdicts)

    def at_least(self, name, value, target):
        held = value is not None and value >= target
        row(name, "not measured" if value is None else f"{value:.2f}", f"at least {target}", verdict(held))
        return held

    def below(self, name, value):
        held = value is not None and value < TARGET_P99_MS
        row(name, "not measured" if value is None else f"{value:.1f}", f"below {TARGET_P99_MS}", verdict(held))
        return held


def tell(phases, names, options, redis):
    """Prints everything; true when a target is missed."""
    report = Report(phases, names, options)
    report.rates(redis)
    report.latencies()
    report.costs()
    return report.ratios()


def ratio(one, other):
    return one / other if one and other else None


def verdict(held):
    return "reached" if held else "MISSED"


def heading(text):
    print(f"\n{text}\n")


def header(*cells):
    row(*cells)
    row(*("---" for _ in cells))


def row(*cells):
    print(f"| {' | '.join(cells)} |", flush=True)
