"""Proves on real programs that two workers never hold connections of one authorization at the same time.

Starts PostgreSQL, Redis, the sandbox, replicas of the service and workers; hurts them all for a while; then compares
what Telegram, the workers and the database saw. Exit code 0 if nothing contradicts the rule and everything came back,
1 if something does, 2 for a mistake of the harness. With --expect-overlap 0 means that the overlap was found.
"""

import argparse
import asyncio
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

from faults import KINDS, Fault, schedule
from history import check, longest_wait, progress
from world import World

HERE = pathlib.Path(__file__).resolve().parent
# With these a session can be granted again after a lease that nobody gave back, and a worker be started.
ROOM = 15
FIRST_GRANT = 30
# A run is a failure unless each session is granted, or used by its holder, at least once in so many seconds.
GRANT_EVERY = 30


def kinds(text):
    named = text.split(",")
    if unknown := set(named) - set(KINDS):
        raise argparse.ArgumentTypeError(f"there is no fault {', '.join(sorted(unknown))}")
    return named


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("usm", type=pathlib.Path, help="the program")
    parser.add_argument("--duration", type=float, default=120, help="seconds of faults")
    parser.add_argument("--seed", type=int, help="draws everything that is random; any unless told")
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--workers", type=int, default=6, help="of all sessions together")
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--ttl", type=float, default=10, help="seconds that leases are asked for")
    parser.add_argument("--hold", type=float, default=6, help="seconds for which a worker keeps a session, about")
    parser.add_argument("--quiet-gap", type=float, default=3, help="USM_LEASE_QUIET_GAP")
    parser.add_argument("--worker", type=pathlib.Path, action="append", help="program of a worker; several take turns")
    parser.add_argument("--worker-flag", dest="worker_flags", action="append", default=[], help="a flag for each worker")
    parser.add_argument("--faults", type=kinds, default=list(KINDS), help=f"only these, of {', '.join(KINDS)}")
    parser.add_argument("--without", type=kinds, default=[], help="not these")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two faults, on average")
    parser.add_argument("--break", dest="broken", choices=["quiet-gap", "ignore-deadline"],
                        help="takes one of the rules away")
    parser.add_argument("--expect-overlap", action="store_true", help="succeed if two were connected at once")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run whatever happens")
    options = parser.parse_args()
    options.usm = options.usm.resolve()
    options.worker = [it.resolve() for it in options.worker or [HERE / "telethon_worker.py"]]
    options.seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
    options.faults = [kind for kind in options.faults if kind not in options.without]
    if options.broken:
        # Nobody gives a session back in time by chance.
        options.hold = 10 * options.ttl
    if options.broken == "quiet-gap":
        options.quiet_gap = 0
    if options.broken == "ignore-deadline":
        options.worker_flags += ["--break", "ignore-deadline"]
    return options


def plan(options):
    """The faults of a run. A broken rule shows where holders are cut off from the service, so they are."""
    if options.broken:
        kind = "telegram-late" if options.broken == "quiet-gap" else "link-part"
        times = [begin + 2 * at for begin in (1, 30) for at in range(4)]
        return [Fault(at, kind, number % 4 / 4, 1.0) for number, at in enumerate(times)]
    return schedule(options.seed, options.duration, options.faults, options.every)


class Run:
    def __init__(self, options, folder):
        self.options, self.world, self.problems = options, World(options, folder), []

    async def granted(self, since, patience):
        """Waits until every session was granted after an instant, or used by who holds it; names those that were not."""
        end, world = time.monotonic() + patience, self.world
        while True:
            missing = ["/".join(it) for it in world.sessions if not world.history.signs("/".join(it), since)]
            if not missing or time.monotonic() > end or world.found():
                return missing
            await asyncio.sleep(0.1)

    async def whole(self):
        world, options = self.world, self.options
        await world.start()
        if missing := await self.granted(0, FIRST_GRANT):
            raise RuntimeError(f"never granted, before anything was hurt: {', '.join(missing)}")
        self.begin = time.monotonic_ns()
        striking = asyncio.create_task(world.faults.run(plan(options), options.duration))
        # An authorization that Telegram has killed proves nothing more.
        while not striking.done() and not world.found():
            await asyncio.sleep(0.2)
        self.calm = time.monotonic_ns()
        if world.found():
            striking.cancel()
        else:
            striking.result()
            bound = options.ttl + world.quiet_gap + ROOM
            if missing := await self.granted(self.calm, bound):
                self.problems.append(f"not granted or used within {bound:.0f} s after the faults: {', '.join(missing)}")
        self.end = time.monotonic_ns()
        for server in world.servers:
            server.signal(signal.SIGCONT)
        await world.end()

    def judge(self):
        """Everything that was seen against the rule; tells whether two were connected at once."""
        world = self.world
        by_workers, both = check(world.history.lines)
        self.duplicates, self.overlaps = world.watch.duplicates, len(world.watch.overlaps)
        self.problems += by_workers + world.problems + world.deaths()
        self.problems += [f"Telegram saw two connections: {it}" for it in world.watch.overlaps]
        if self.duplicates:
            self.problems.append(f"Telegram answered AUTH_KEY_DUPLICATED to {self.duplicates} authorizations")
        if any(it["event"] == "telegram_error" and "uplicated" in str(it) for it in world.history.lines):
            self.problems.append("a worker was told AUTH_KEY_DUPLICATED")
        if not self.overlaps and not self.duplicates:
            self.progress()
            self.problems += world.rows()
        self.problems += world.logs()
        return bool(both or self.overlaps or self.duplicates)

    def progress(self):
        world, seconds = self.world, (self.end - self.begin) / 1e9
        least = max(1, int(seconds / GRANT_EVERY))
        for session in map("/".join, world.sessions):
            times = progress(world.history.lines, session, self.begin, GRANT_EVERY)
            if times < least:
                self.problems.append(f"{session} was lent {times} times in {seconds:.0f} s, at least {least} expected")

    def summary(self):
        world, options, lines = self.world, self.options, self.world.history.lines
        events = {}
        for line in lines:
            events[line["event"]] = events.get(line["event"], 0) + 1
        waits = {session: longest_wait(lines, session, self.begin, self.end) for session in map("/".join, world.sessions)}
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(world.faults.counts.items()))
        print(f"\nseed {options.seed}, {(self.calm - self.begin) / 1e9:.0f} s of faults, {options.servers} servers, "
              f"{options.workers} workers of {options.sessions} sessions, ttl {options.ttl:g} s, "
              f"quiet gap {world.quiet_gap:g} s")
        print(f"grants {events.get('granted', 0)}, connections {events.get('connected', 0)}, "
              f"questions answered {events.get('asked', 0)}, lost {events.get('lost', 0)}, "
              f"refused {events.get('refused', 0)}, deaths {events.get('died', 0)}")
        print(f"faults {sum(world.faults.counts.values())}: {faults}")
        print(f"longest time without a grant {max(waits.values()):.1f} s")
        print(f"overlaps {self.overlaps}, duplicates {self.duplicates}")


async def run(options, folder):
    """The exit code."""
    one = Run(options, folder)
    try:
        await one.whole()
        found = await asyncio.to_thread(one.judge)
        one.summary()
    finally:
        await one.world.stop()
    if failures := one.world.faults.failures:
        print("faults that could not be made: " + "; ".join(failures))
        return 2
    if options.expect_overlap:
        print("found: two workers were connected at once" if found else "NOT FOUND: nobody saw two workers at once")
        return 0 if found else 1
    for problem in one.problems[:40]:
        print(f"FAILED: {problem}")
    return 1 if one.problems else 0


def main():
    options = arguments()
    print(f"seed {options.seed}", flush=True)
    folder = tempfile.mkdtemp(prefix="usm-chaos-")
    code = 2
    try:
        code = asyncio.run(run(options, folder))
    finally:
        if code or options.keep:
            print(f"seed {options.seed}; logs and history.jsonl are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
