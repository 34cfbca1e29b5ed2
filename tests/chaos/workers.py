"""Workers as processes: started, listened to, hurt, and started again."""

import asyncio
import json
import os
import pathlib
import signal
import sys

from processes import MORTAL

# The client of this tree, whichever is installed.
CLIENT = pathlib.Path(__file__).resolve().parents[2] / "clients/python/src"
# Between a worker's end and its next life.
PAUSE = 0.5


class Worker:
    """One worker of one session, in one life after the other."""

    def __init__(self, name, session, command, token, folder, history):
        self.name, self.session, self.command, self.history = name, session, command, history
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "USM_TOKEN": token}
        self.environment["PYTHONPATH"] = str(CLIENT)
        self.log = pathlib.Path(folder, f"{name}.log")
        self.life, self.process, self.epoch, self.stopped, self.task = 0, None, None, False, None
        self.ending = asyncio.Event()

    def start(self):
        self.task = asyncio.create_task(self.live())

    async def live(self):
        while not self.ending.is_set():
            self.life += 1
            with open(self.log, "ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *MORTAL, *self.command, env=self.environment, stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE, stderr=log,
                )
            said = {"worker": self.name, "life": self.life}
            self.history.record(event="started", pid=self.process.pid, **said)
            async for line in self.process.stdout:
                self.take(line, said)
            code = await self.process.wait()
            self.epoch, self.stopped = None, False
            self.history.record(event="died", code=code, **said)
            try:
                await asyncio.wait_for(self.ending.wait(), PAUSE)
            except asyncio.TimeoutError:
                pass

    def take(self, text, said):
        try:
            line = json.loads(text)
            line["event"]
        except (ValueError, TypeError, KeyError):
            self.history.record(event="noise", text=text.decode(errors="replace")[:200], **said)
            return
        self.history.record(**{**line, **said})
        if line["event"] == "granted":
            self.epoch = line.get("epoch")
        elif line["event"] in ("released", "lost"):
            self.epoch = None

    def holds(self):
        return self.epoch is not None

    def signal(self, number):
        if self.process is not None and self.process.returncode is None:
            try:
                self.process.send_signal(number)
            except ProcessLookupError:
                return
            if number in (signal.SIGSTOP, signal.SIGCONT):
                self.stopped = number == signal.SIGSTOP
                event = "stopped" if self.stopped else "continued"
                self.history.record(event=event, worker=self.name, life=self.life)

    async def end(self, patience=15):
        """As a deploy ends it; outright if it does not go."""
        self.ending.set()
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self.task), patience)
        except asyncio.TimeoutError:
            self.signal(signal.SIGKILL)
            await self.task


def command(program, servers, session, name, options):
    """How a worker is called; a script by this Python."""
    begin = [sys.executable, str(program)] if program.suffix == ".py" else [str(program)]
    flags = [flag for server in servers for flag in ("--server", server)]
    tenant, app = session
    flags += ["--tenant-id", tenant, "--app-id", app, "--holder", name]
    flags += ["--ttl", str(options["ttl"]), "--hold", str(options["hold"])]
    return begin + flags + options["further"]
