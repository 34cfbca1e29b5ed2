"""What the benchmarks start, beside what they measure."""

import json
import os
import pathlib
import select
import subprocess
import sys
import urllib.request

START_SECONDS = 60


class Process:
    """A process that says where it is, ended with the block: outright, since nothing of it is kept."""

    def __init__(self, command, environment, stdin=None):
        self.child = subprocess.Popen(
            command, env=environment, stdin=stdin, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()

    def line(self, seconds=START_SECONDS):
        readable, _, _ = select.select([self.child.stdout], [], [], seconds)
        line = self.child.stdout.readline() if readable else ""
        if not line:
            sys.exit(f"{self.child.args[0]} did not say what was waited for")
        return line

    def memory(self):
        """KiB: resident, proportional (shared pages divided among their users), and private without a file."""
        names = {"Rss:": 0, "Pss:": 0, "Anonymous:": 0}
        with open(f"/proc/{self.child.pid}/smaps_rollup") as rollup:
            for line in rollup:
                name, *rest = line.split()
                if name in names:
                    names[name] = int(rest[0])
        return tuple(names.values())


class Sandbox(Process):
    """Telegram, in a process of its own."""

    def __init__(self, program, folder, *settings):
        environment = {"PATH": os.environ["PATH"], "HOME": folder}
        flags = [word for setting in settings for word in ("--set", setting)]
        super().__init__([program, "sandbox", *flags], environment)
        self.ready = json.loads(self.line())

    def ask(self, path, body=None):
        url = f"http://127.0.0.1:{self.ready['admin']}{path}"
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=60) as answer:
            return json.load(answer)

    def endpoint(self, folder):
        """A file for USM_TELEGRAM that leads here."""
        path = pathlib.Path(folder, "telegram.toml")
        dcs = "".join(f'[[dc]]\nid = {dc}\naddress = "127.0.0.1:{port}"\n' for dc, port in self.ready["dcs"].items())
        path.write_text(f'home_dc = 2\nrsa_keys = ["""\n{self.ready["public_key"]}"""]\n{dcs}')
        return str(path)
