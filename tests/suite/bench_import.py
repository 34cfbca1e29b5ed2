"""Sessions converted and imported per second, beside other converters, all in one run over one warm folder.

Exit code 1 when a target is missed or was not measured. docs/benchmarks.md says what is compared.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from bench_servers import DATABASE, OWNER, PROGRAM, Postgres

# Beside the fastest contestant.
TARGET_CONVERT = 2.0
TARGET_IMPORT = 1.0
TARGET_MIB = 64
API_KEY = {"TELEGRAM_API_ID_MASTER": "17349", "TELEGRAM_API_HASH_MASTER": "0123456789abcdef" * 2}
HERE = pathlib.Path(__file__).resolve().parent.parent / "bench-import"


def contestants(home):
    """What runs each of them, by its name."""
    python = [home / "python/bin/python", HERE / "python/contestant.py"]
    return {
        "Telethon's own reader": [*python, "telethon"],
        "TGConvertor": [*python, "tgconvertor"],
        "opentele2": [*python, "opentele2"],
        "@mtcute/convert over better-sqlite3": ["node", home / "node/contestant.js"],
        "opentele2-core": [home / "rust/release/opentele2-contestant"],
    }


def run(command, environment=None):
    """Output, seconds and peak memory in MiB of a command; no output if it failed."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen([str(word) for word in command], stdout=out, stderr=err, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        took = time.perf_counter() - began
        out.seek(0)
        err.seek(0)
        if child.returncode != 0:
            lines = err.read().strip().splitlines()
            print(f"{command[0]}: {lines[-1] if lines else child.returncode}", file=sys.stderr)
            return None, took, usage.ru_maxrss / 1024
        return out.read(), took, usage.ru_maxrss / 1024


def contest(command, folder, files, rounds):
    """Rate and memory of a contestant, its start not counted; `None` if it could not be run."""
    try:
        out, _, memory = run([*command, folder, rounds])
    except OSError:
        return None
    if not out:
        return None
    return files / statistics.median(float(line) for line in out.split()), memory


def convert(usm, folder, files, rounds):
    """The whole command, start and all: strings of every file, into a file."""
    rates, memories = [], []
    for _ in range(rounds):
        out, took, memory = run([usm, "convert", folder, "--to", "telethon-string"])
        lines = out.splitlines() if out else []
        if len(lines) != files or any(len(line.partition("\t")[2]) != 353 for line in lines):
            sys.exit("usm convert did not convert every file")
        rates.append(files / took)
        memories.append(memory)
    return statistics.median(rates), max(memories)


def imported(usm, folder, files, database, scratch, rounds):
    """The whole command, start and all, each time into a database without sessions."""
    rates, memories = [], []
    for turn in range(rounds):
        data = pathlib.Path(scratch, f"data-{len(os.listdir(scratch))}-{turn}")
        environment = {"PATH": os.environ["PATH"], "HOME": scratch, "USM_DATA_DIR": str(data)} | API_KEY
        if database:
            environment |= database(turn)
        else:
            environment["DATABASE_URL"] = f"sqlite://{data}/usm.sqlite3"
        data.mkdir(mode=0o700)
        environment["USM_ENCRYPTION_KEYS"] = str(data / "keys.json")
        if run([usm, "keys", "generate"], environment)[0] is None:
            sys.exit("the keys could not be made")
        if run([usm, "migrate", "up"], environment)[0] is None:
            sys.exit("the database could not be prepared")
        command = [usm, "import", "--sessions-dir", folder, "--tenant", "bench"]
        out, took, memory = run(command, environment)
        if out is None or f"{files} imported" not in out:
            sys.exit("usm import did not import every file")
        rates.append(files / took)
        memories.append(memory)
    return statistics.median(rates), max(memories)


def table(rows, best):
    print("\n|  | sessions per second | beside the fastest of the others | peak memory, MiB |\n| --- | --- | --- | --- |")
    for name, found in rows.items():
        if found is None:
            print(f"| {name} | could not be run |  |  |")
        else:
            print(f"| {name} | {found[0]:,.0f} | {found[0] / best:.2f} | {found[1]:.0f} |")


def verdict(name, found, target):
    print(f"{'met' if found >= target else 'MISSED'}: {name} {found:.2f}, target {target}")
    return found >= target


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("usm", type=pathlib.Path)
    parser.add_argument("home", type=pathlib.Path)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--peers", type=int, default=100, help="entities in each file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-import", action="store_true", help="measure conversion only; the run is then no proof")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="usm-bench-") as scratch:
        folder = pathlib.Path(scratch, "sessions")
        python = options.home / "python/bin/python"
        made = run([python, HERE / "python/folder.py", folder, options.files, options.peers])
        if made[0] is None:
            sys.exit("Telethon could not make the folder")
        for file in folder.iterdir():
            file.read_bytes()
        rows = {
            name: contest(command, folder, options.files, options.rounds)
            for name, command in contestants(options.home).items()
        }
        known = [found[0] for found in rows.values() if found]
        if not known:
            sys.exit("no contestant could be run")
        best = max(known)
        ours = {"`usm convert`": convert(options.usm, folder, options.files, options.rounds)}
        if not options.without_import:
            ours["`usm import`, SQLite"] = imported(
                options.usm, folder, options.files, None, scratch, options.rounds
            )
            with Postgres(scratch) as postgres:
                ours["`usm import`, PostgreSQL"] = imported(
                    options.usm, folder, options.files, lambda turn: fresh(postgres, turn), scratch, options.rounds
                )
        table(rows | ours, best)
    print()
    met = all([
        *(
            verdict(f"{name} beside the fastest", rate / best, TARGET_CONVERT if "convert" in name else TARGET_IMPORT)
            for name, (rate, _) in ours.items()
        ),
        *(
            verdict(f"{name}: of {TARGET_MIB} MiB of memory, left", (TARGET_MIB - memory) / TARGET_MIB, 0)
            for name, (_, memory) in ours.items()
        ),
    ])
    complete = all(rows.values()) and not options.without_import
    if not complete:
        print("not everything was measured")
    sys.exit(0 if met and complete else 1)


def fresh(postgres, turn):
    """A new database, as its variables."""
    name = f"{DATABASE}_{turn}"
    postgres.sql("postgres", f"create database {name} owner {OWNER}")
    return {
        "DATABASE_URL": postgres.url(PROGRAM, name),
        "USM_MIGRATE_DATABASE_URL": postgres.url(OWNER, name),
    }


if __name__ == "__main__":
    main()
