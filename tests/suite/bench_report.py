"""Tables and verdict of the lease benchmark, in Markdown."""

import statistics
from typing import NamedTuple

# Pairs, beside etcd's. Each of ours is two durable commits, each of etcd's three.
TARGET_PAIRS = 1.5
# Beats of `HoldLease`, beside etcd's keep-alives.
TARGET_BEATS = 1.0
TARGET_P99_MS = 10
CONSUMERS = ("client", "service", "echo", "etcd", "postgres")


class Layout(NamedTuple):
    """How many workers, and how many of them share a connection."""

    workers: int
    sharing: int

    def title(self):
        connections = -(-self.workers // self.sharing)
        return f"{plural(self.workers, 'worker')} on {plural(connections, 'connection')}"


class Report:
    def __init__(self, phases, names, options):
        self.phases, self.names, self.options = phases, names, options
        most = max(options.workers)
        self.largest = [layout for layout in options.layouts if layout.workers == most]

    def median(self, key, contestant, layout, *, half=False):
        """`None` where nothing was measured."""
        found = self.phases.get((contestant, layout, half))
        return found and statistics.median(phase[key] for phase in found)

    def rates(self, redis):
        layouts = self.options.layouts
        heading("Per second, closed loop, one call of each worker under way; median of the rounds, lowest to highest")
        header("", *(layout.title() for layout in layouts))
        for contestant, name in self.names.items():
            cells = []
            for layout in layouts:
                each = [phase["per_second"] for phase in self.phases.get((contestant, layout, False), [])]
                span = f" ({min(each):,.0f}–{max(each):,.0f})" if len(each) > 1 else ""
                cells.append(f"{statistics.median(each):,.0f}{span}" if each else "")
            row(name, *cells)
        row("Redis: `SET NX PX`, half a pair, not durable", *(f"{rate:,.0f}" for rate in redis), "")

    def latencies(self, layout):
        heading(f"Milliseconds, {layout.title()}")
        header("", "closed loop: p50", "p99", "at half of that load: per second", "p50", "p99", "longest")
        for contestant, name in self.names.items():
            if contestant != "pgbench" and self.median("p50_ms", contestant, layout):
                closed = [f"{self.median(key, contestant, layout):.2f}" for key in ("p50_ms", "p99_ms")]
                half = ["", "", "", ""]
                if (rate := self.median("per_second", contestant, layout, half=True)) is not None:
                    keys = ("p50_ms", "p99_ms", "max_ms")
                    told = (self.median(key, contestant, layout, half=True) for key in keys)
                    half = [f"{rate:,.0f}", *(f"{ms:.2f}" for ms in told)]
                row(name, *closed, *half)

    def costs(self, layout):
        heading(f"Microseconds of processor per turn, {layout.title()}, closed loop")
        columns = ("client", "server", "PostgreSQL", "rest of the machine", "idle %")
        header("", *columns, "turns per commit", "commits per sync")
        for contestant, name in self.names.items():
            found = self.phases.get((contestant, layout, False))
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

    def ratios(self, layout):
        heading(f"Ratios, {layout.title()}")
        header("", "measured", "target", "")
        rate = {name: self.median("per_second", name, layout) for name in self.names}
        # It is the same for all of a number of workers.
        rate["pgbench"] = self.median("per_second", "pgbench", self.largest[0])
        p99 = {name: self.median("p99_ms", name, layout, half=True) for name in ("pairs", "renew-stream")}
        pairs, beats = ratio(rate["pairs"], rate["etcd-pairs"]), ratio(rate["renew-stream"], rate["etcd-keep-alive"])
        verdicts = [
            judged("pairs / pairs of etcd", pairs, at_least=TARGET_PAIRS),
            judged("beats / keep-alives of etcd", beats, at_least=TARGET_BEATS),
            judged("p99 of pairs at half load, ms", p99["pairs"], below=TARGET_P99_MS),
            judged("p99 of beats at half load, ms", p99["renew-stream"], below=TARGET_P99_MS),
        ]
        for name, value in (
            ("pairs / half the bare statements", ratio(2 * (rate["pairs"] or 0), rate["pgbench"])),
            ("pairs / etcd's with a lasting lease", ratio(rate["pairs"], rate["etcd-locks"])),
            ("beats / bare statements", ratio(rate["renew-stream"], rate["pgbench"])),
            ("`RenewLease` / bare statements", ratio(rate["renew-unary"], rate["pgbench"])),
            ("`RenewLease` / keep-alives of etcd", ratio(rate["renew-unary"], rate["etcd-keep-alive"])),
        ):
            row(name, figure(value), "", "")
        return all(verdicts)


def tell(phases, names, options, redis):
    """Prints everything; true when a target is missed."""
    report = Report(phases, names, options)
    report.rates(redis)
    for layout in report.largest:
        report.latencies(layout)
    for layout in report.largest:
        report.costs(layout)
    return not all([report.ratios(layout) for layout in report.largest])


def judged(name, value, *, at_least=None, below=None):
    """Prints the row of a target; true when it is reached."""
    if value is None:
        held = False
    else:
        held = value >= at_least if below is None else value < below
    target = f"at least {at_least}" if below is None else f"below {below}"
    row(name, figure(value), target, "reached" if held else "MISSED")
    return held


def figure(value):
    return "not measured" if value is None else f"{value:.2f}"


def ratio(one, other):
    return one / other if one and other else None


def plural(number, noun):
    return f"{number} {noun}{'s' * (number != 1)}"


def heading(text):
    print(f"\n{text}\n")


def header(*cells):
    row(*cells)
    row(*("---" for _ in cells))


def row(*cells):
    print(f"| {' | '.join(cells)} |", flush=True)
