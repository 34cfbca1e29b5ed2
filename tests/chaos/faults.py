"""What goes wrong in a run, and when: drawn from the seed before it begins."""

import asyncio
import collections
import os
import random
import signal
import time

# Kind, and how often beside the others.
KINDS = {
    "server-kill": 4, "server-stop": 3, "server-deploy": 2,
    "worker-kill": 4, "worker-pause": 3, "worker-stop": 2,
    "link-cut": 3, "link-hold": 3, "link-slow": 2, "link-part": 3,
    "telegram-kick": 3, "telegram-cut": 2, "telegram-late": 2, "telegram-lag": 2,
    "database-crash": 2, "database-kill": 2, "redis-kill": 1,
    "evict": 3, "side": 2,
}
LONG = {"worker-stop", "server-stop", "link-part", "telegram-late"}
# Between two faults at least, in seconds.
SPACING = 0.2


class Fault:
    """A kind, the part of the victims it strikes, and its measure; both from 0 to 1."""

    def __init__(self, at, kind, who, size):
        self.at, self.kind, self.who, self.size = at, kind, who, size

    def of(self, victims):
        return victims[int(self.who * len(victims))]

    def seconds(self, least, most):
        return least + self.size * (most - least)


def schedule(seed, duration, kinds, every):
    """One fault after so many seconds on average. Each kind comes once before any comes at random.

    Those that outlast a lease come before the others, so that short runs see their end too.
    """
    drawn = random.Random(seed)
    first = sorted(drawn.sample(kinds, len(kinds)), key=lambda kind: kind in LONG)
    faults, at = [], drawn.uniform(0.5, 1.5)
    while at < duration:
        kind = first.pop() if first else drawn.choices(kinds, [KINDS[kind] for kind in kinds])[0]
        faults.append(Fault(at, kind, drawn.random(), drawn.random()))
        at += SPACING + drawn.expovariate(1 / max(0.01, every - SPACING))
    return faults


class Over(Exception):
    """A fault waited for its victim until the end."""


class Faults:
    """Strikes; waits for a victim that is struck already, since two faults of one would undo each other."""

    def __init__(self, world):
        self.world, self.counts, self.tasks, self.failures = world, collections.Counter(), set(), []
        self.locks = collections.defaultdict(asyncio.Lock)
        # Nothing is granted for longer than this after a holder fell silent.
        self.term = world.ttl + world.quiet_gap
        self.over, self.end = asyncio.Event(), float("inf")

    async def run(self, faults, duration):
        """Strikes for so long; then everything that is hurt is mended."""
        begin = time.monotonic()
        self.end = begin + duration
        for fault in faults:
            await asyncio.sleep(max(0.0, begin + fault.at - time.monotonic()))
            self.tasks.add(asyncio.create_task(self.strike(fault)))
        await asyncio.sleep(max(0.0, self.end - time.monotonic()))
        self.over.set()
        await asyncio.gather(*self.tasks)

    async def rest(self, seconds):
        """So long, unless it is all over before."""
        try:
            await asyncio.wait_for(self.over.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    async def strike(self, fault):
        kind = fault.kind
        try:
            await getattr(self, kind.replace("-", "_"))(fault)
        except Over:
            pass
        except Exception as error:  # a fault that cannot be made is the harness's mistake, and is told
            self.failures.append(f"{kind}: {type(error).__name__}: {error}")
            self.world.history.record(event="fault-failed", kind=kind, error=repr(error))

    def note(self, kind, victim, **more):
        if self.over.is_set():
            raise Over
        self.counts[kind] += 1
        self.world.history.record(event="fault", kind=kind, victim=victim, **more)

    async def server_kill(self, fault):
        server = fault.of(self.world.servers)
        async with self.locks[server.name]:
            self.note(fault.kind, server.name)
            server.kill()
            await self.rest(fault.seconds(0, 4))
            await asyncio.to_thread(server.start)

    async def server_stop(self, fault):
        server, seconds = fault.of(self.world.servers), fault.seconds(0.5, self.term + 3)
        async with self.locks[server.name]:
            self.note(fault.kind, server.name, seconds=seconds)
            server.signal(signal.SIGSTOP)
            await self.rest(seconds)
            server.signal(signal.SIGCONT)

    async def server_deploy(self, fault):
        async with self.locks["deploy"]:
            self.note(fault.kind, "all servers")
            for server in self.world.servers:
                async with self.locks[server.name]:
                    server.signal(signal.SIGTERM)
                    try:
                        await asyncio.to_thread(server.child.wait, 30)
                    except Exception:
                        self.world.problems.append(f"{server.name} did not end within 30 s of SIGTERM")
                        server.kill()
                    await asyncio.to_thread(server.start)

    async def worker_kill(self, fault):
        worker = fault.of(self.world.victims())
        async with self.locks[worker.name]:
            self.note(fault.kind, worker.name, held=worker.holds())
            worker.signal(signal.SIGKILL)

    async def worker_pause(self, fault):
        # Short enough to close in time, though perhaps after the deadline.
        worker, seconds = fault.of(self.world.victims()), fault.seconds(0.5, 4)
        async with self.locks[worker.name]:
            self.note(fault.kind, worker.name, seconds=seconds, held=worker.holds())
            worker.signal(signal.SIGSTOP)
            await self.rest(seconds)
            worker.signal(signal.SIGCONT)

    async def worker_stop(self, fault):
        # For longer than a lease and its quiet gap.
        session, seconds = fault.of(self.world.sessions), self.term + fault.seconds(1, 6)
        # One of a session at a time: somebody has to be there who is granted it.
        async with self.locks[f"stops of {session}"]:
            mine = [worker for worker in self.world.workers if worker.session == session]
            worker = next((it for it in mine if it.holds()), None) or fault.of(mine)
            async with self.locks[worker.name]:
                self.note(fault.kind, worker.name, seconds=seconds, held=worker.holds())
                worker.signal(signal.SIGSTOP)
                await self.rest(seconds)
                worker.signal(signal.SIGCONT)
                # Who held it is known again once the worker has looked at the clock.
                await self.rest(1)

    async def link_cut(self, fault):
        worker = fault.of(self.world.victims())
        self.note(fault.kind, worker.name)
        for link in self.world.links[worker.name]:
            link.cut()

    async def link_hold(self, fault):
        await self.link(fault, lambda link: link.hold(lambda: self.rest(fault.seconds(0.5, self.term))))

    async def link_slow(self, fault):
        await self.link(fault, lambda link: link.slow(lambda: self.rest(fault.seconds(3, 10)), fault.seconds(0.05, 1.0)))

    async def link_part(self, fault):
        await self.link(fault, lambda link: link.part(lambda: self.rest(fault.seconds(2, self.term + 4))))

    async def link(self, fault, harm):
        """All ways of one worker to the servers."""
        worker = fault.of(self.world.victims())
        async with self.locks[f"links of {worker.name}"]:
            self.note(fault.kind, worker.name, held=worker.holds())
            await asyncio.gather(*(harm(link) for link in self.world.links[worker.name]))

    async def telegram_kick(self, fault):
        account = fault.of(self.world.accounts)
        self.note(fault.kind, account.key)
        body = {"key": account.key, "reset": fault.size < 0.5}
        await asyncio.to_thread(self.world.sandbox.ask, "/kick", body)

    async def telegram_cut(self, fault):
        self.note(fault.kind, "all connections to Telegram")
        self.world.telegram.cut()

    async def telegram_late(self, fault):
        """A holder cut off from every server, whose words reach Telegram late, and whose connection's end much later.

        With the pings of its last renewals Telegram closes the connection so much after its deadline as they travelled:
        within the quiet gap, or where it would be if there were one. Nothing of the worker gets through to the service
        until it has given up to release.
        """
        worker = fault.of(self.world.holders())
        account, links = self.world.account(worker.session), self.world.links[worker.name]
        # Nor is it stopped meanwhile: it would close its connection later than that.
        async with self.locks[worker.name], self.locks[f"links of {worker.name}"]:
            until_renewed, seconds = self.world.ttl / 2, self.world.ttl + 8
            if time.monotonic() + until_renewed + seconds > self.end:
                return  # mended early it would be something else
            after = self.world.quiet_gap / 2 or 2.8
            await self.connections(account, lambda source: self.world.telegram.travel_long(source, after))
            await self.rest(until_renewed)
            parting = asyncio.gather(*(link.part(lambda: asyncio.sleep(seconds)) for link in links))
            await asyncio.sleep(0)
            # One that was stopped until now may not know yet that somebody else holds the session.
            held = worker.holds() and worker.epoch == self.world.last_epoch(worker.session)
            self.note(fault.kind, worker.name, held=held)
            if held:
                await self.end_late(account, self.world.ttl / 3 + self.world.ttl / 20 + after)
            await parting

    async def telegram_lag(self, fault):
        """The ends of an account's connections reach Telegram late, whatever their worker says of them."""
        account = fault.of(self.world.accounts)
        self.note(fault.kind, account.key)
        await self.end_late(account, fault.seconds(1, 4))

    async def end_late(self, account, seconds):
        await self.connections(account, lambda source: self.world.telegram.end_late(source, seconds))

    async def connections(self, account, harm):
        """Does something to each open connection of an account; told by its port at the sandbox's side."""
        for conn in await asyncio.to_thread(self.world.sandbox.ask, "/conns"):
            if conn["key"] == account.key:
                harm(int(conn["src"].rpartition(":")[2]))

    async def database_crash(self, fault):
        await self.database(fault, signal.SIGQUIT)

    async def database_kill(self, fault):
        await self.database(fault, signal.SIGKILL)

    async def database(self, fault, number):
        database = self.world.database
        async with self.locks["database"]:
            self.note(fault.kind, "database")
            os.kill(database.leader(), number)
            await asyncio.to_thread(database.child.wait)
            await self.rest(fault.seconds(0, 4))
            await asyncio.to_thread(database.start)

    async def redis_kill(self, fault):
        async with self.locks["redis"]:
            self.note(fault.kind, "redis")
            self.world.redis.kill()
            await self.rest(fault.seconds(0, 3))
            await asyncio.to_thread(self.world.redis.start)

    async def evict(self, fault):
        session = fault.of(self.world.sessions)
        answer = await self.world.operator.evict(session)
        self.note(fault.kind, "/".join(session), answer=answer)

    async def side(self, fault):
        self.note(fault.kind, "a session of its own", answers=await self.world.operator.bustle())
