"""Everything a run is made of, brought up and taken down."""

import asyncio
import pathlib
import re
import signal

from admin import Operator, told
from faults import Faults
from history import History
from links import Relay
from processes import API_HASH, JWT_SECRET, PostgreSQL, Redis, Sandbox, Server, settings
from telegram import Account, Watch
from workers import Worker, command

HOME_DC = 2
TENANT = "chaos"
_PANIC = re.compile(r"panicked at|RUST_BACKTRACE|fatal runtime error")


class World:
    def __init__(self, options, folder):
        self.options, self.folder = options, pathlib.Path(folder)
        self.ttl, self.quiet_gap = options.ttl, options.quiet_gap
        self.history = History(self.folder / "history.jsonl")
        self.sessions = [(TENANT, f"app-{number}") for number in range(options.sessions)]
        self.servers, self.links, self.workers, self.relays = [], {}, [], []
        self.problems = []

    async def start(self):
        usm, folder = self.options.usm, str(self.folder)
        self.database, self.redis = await asyncio.to_thread(PostgreSQL, folder), Redis(folder)
        self.sandbox = Sandbox(folder, usm)
        await asyncio.gather(*(asyncio.to_thread(it.start) for it in (self.database, self.redis, self.sandbox)))
        # The service tells its holders where Telegram is: here, through a relay that the harness cuts.
        self.telegram = await self.relay(self.sandbox.ports[HOME_DC])
        ports = {**self.sandbox.ports, HOME_DC: self.telegram.port}
        endpoint = self.sandbox.endpoint(self.folder / "telegram.toml", ports)
        told_all, self.token = await asyncio.to_thread(
            settings, folder, usm, self.database, self.redis, endpoint, self.quiet_gap
        )
        await asyncio.to_thread(self.database.prepare, usm, {**told_all, "USM_DATA_DIR": folder})
        self.servers = [Server(number, folder, usm, told_all) for number in range(self.options.servers)]
        await asyncio.gather(*(asyncio.to_thread(it.start) for it in self.servers))
        self.operator = Operator(self.servers, self.token, self.sandbox, self.telegram.port)
        self.accounts = []
        for number, session in enumerate(self.sessions):
            account = await asyncio.to_thread(Account, self.sandbox, 9_800_000_000 + number, self.telegram.port)
            if (answer := told(await self.operator.take_in(session, account))) != "done":
                raise RuntimeError(f"a session cannot be imported: {answer}")
            self.accounts.append(account)
        self.watch = Watch(self.sandbox, HOME_DC, self.folder / "telegram.jsonl")
        self.watching = asyncio.create_task(self.watch.run())
        self.faults = Faults(self)
        for number in range(self.options.workers):
            await self.employ(number)

    async def relay(self, port):
        relay = await Relay(port).start()
        self.relays.append(relay)
        return relay

    async def employ(self, number):
        """A worker, with a way of its own to each server; it asks another one first than its neighbour."""
        name, session = f"worker-{number}", self.sessions[number % len(self.sessions)]
        links = [await self.relay(server.port) for server in self.servers]
        turned = links[number % len(links):] + links[:number % len(links)]
        self.links[name] = links
        # The workers of one session are of different libraries, where there are several.
        program = self.options.worker[number // len(self.sessions) % len(self.options.worker)]
        called = command(
            program, [f"http://127.0.0.1:{link.port}" for link in turned], session, name,
            {"ttl": self.ttl, "hold": self.options.hold, "further": self.options.worker_flags},
        )
        worker = Worker(name, session, called, self.token, self.folder, self.history)
        self.workers.append(worker)
        worker.start()

    def victims(self):
        """Workers, those that hold a lease several times over: they are worth most."""
        return [worker for worker in self.workers for _ in range(4 if worker.holds() else 1)]

    def holders(self):
        return [worker for worker in self.workers if worker.holds()] or self.workers

    def account(self, session):
        return self.accounts[self.sessions.index(session)]

    def last_epoch(self, session):
        return max((it["epoch"] for it in self.history.grants("/".join(session))), default=None)

    def found(self):
        """Whether Telegram saw two at once."""
        return bool(self.watch.overlaps or self.watch.duplicates)

    async def end(self):
        """Workers go as a deploy ends them, and everybody has said what there is to say."""
        await asyncio.gather(*(worker.end() for worker in self.workers))
        await asyncio.to_thread(self.watch.look)
        self.watching.cancel()
        for failed in await asyncio.gather(self.watching, return_exceptions=True):
            if isinstance(failed, Exception):
                self.problems.append(f"the watch of Telegram ended: {failed!r}")

    async def stop(self):
        """Whatever state it is in; what the programs wrote stays."""
        for worker in self.workers:
            await worker.end(patience=0)
        for relay in self.relays:
            await relay.stop()
        programs = [*self.servers, *(getattr(self, it, None) for it in ("sandbox", "redis", "database"))]
        for program in programs:
            if program is not None:
                program.kill()

    def rows(self):
        """Compares what the database kept with what workers were granted."""
        held, wrong = self.granted(), []
        epochs = dict(self.database.sql("select app_id, lease_epoch from public.telegram_sessions where tenant_id = "
                                        f"'{TENANT}'"))
        events = self.database.sql(
            "select app_id, details ->> 'epoch', details ->> 'holder' from usm.session_events where tenant_id = "
            f"'{TENANT}' and kind = 'lease_granted'"
        )
        noted = {}
        for app, epoch, holder in events:
            if (app, int(epoch)) in noted:
                wrong.append(f"the database granted epoch {epoch} of {app} twice")
            noted[app, int(epoch)] = holder
        for (app, epoch), worker in held.items():
            if epoch > int(epochs.get(app, -1)):
                wrong.append(f"{worker} was granted epoch {epoch} of {app}, the database is at {epochs.get(app)}")
            if noted.get((app, epoch)) != worker:
                wrong.append(f"the database lost the grant of epoch {epoch} of {app} to {worker}")
        for _, app in self.sessions:
            last = max((epoch for name, epoch in noted if name == app), default=0)
            # The service's own looks raise the epoch too, and are not told of.
            if last > int(epochs[app]):
                wrong.append(f"{app} is at epoch {epochs[app]}, its last recorded grant is {last}")
        return wrong

    def deaths(self):
        """Workers that ended by themselves."""
        ends = (0, -signal.SIGKILL, -signal.SIGTERM)
        died = [it for it in self.history.lines if it["event"] == "died" and it["code"] not in ends]
        return [f"{it['worker']} ended with {it['code']} in its life {it['life']}" for it in died]

    def granted(self):
        return {(it["app"], it["epoch"]): it["worker"] for it in self.history.lines if it["event"] == "granted"}

    def logs(self):
        """Panics and secrets in what servers and workers printed."""
        secrets = [JWT_SECRET, API_HASH, self.token]
        for account in [*self.accounts, *self.operator.accounts]:
            secrets += account.secrets()
        wrong = []
        for program in [*self.servers, *self.workers]:
            text = program.log.read_text(errors="replace") if program.log.exists() else ""
            if found := _PANIC.search(text):
                wrong.append(f"{program.name} panicked: {text[found.start():found.start() + 200]!r}")
            if any(secret in text for secret in secrets):
                wrong.append(f"the log of {program.name} shows a secret")
        return wrong
