"""Start, idle memory and size of a program, against their budgets.

Usage: measure.py USM. Needs nothing but Python and /proc. Exit code 1 when a budget is exceeded.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

STARTS = 9
IDLE_SECONDS = 5
START_LIMIT_SECONDS = 20
BUDGET_START_MS = 100
BUDGET_MEMORY_MIB = 30
BUDGET_SIZE_MIB = 40


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_ready(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def start(program, folder):
    """Starts the embedded service and returns it with the milliseconds until it was ready."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "HOME": folder, "USM_DATA_DIR": os.path.join(folder, "data")}
    flags = ["serve", "--listen", f"127.0.0.1:{port}", "--metrics-listen", "127.0.0.1:0", "--log", "warn"]
    began = time.monotonic()
    server = subprocess.Popen([program, *flags], env=environment, stdout=subprocess.DEVNULL)
    while not is_ready(port):
        if server.poll() is not None or time.monotonic() - began > START_LIMIT_SECONDS:
            server.kill()
            sys.exit("the server does not start")
        time.sleep(0.001)
    return server, (time.monotonic() - began) * 1000


def stop(server):
    server.terminate()
    server.wait(30)


def resident_mib(server):
    with open(f"/proc/{server.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def main():
    program = os.path.abspath(sys.argv[1])
    fresh, again = [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            for times in (fresh, again):
                server, took = start(program, folder)
                stop(server)
                times.append(took)
    with tempfile.TemporaryDirectory() as folder:
        server, _ = start(program, folder)
        time.sleep(IDLE_SECONDS)
        memory = resident_mib(server)
        stop(server)
    size = os.path.getsize(program) / 1024 / 1024

    rows = [
        (f"first start to /readyz, median of {STARTS}", statistics.median(fresh), BUDGET_START_MS, "ms"),
        (f"further start to /readyz, median of {STARTS}", statistics.median(again), BUDGET_START_MS, "ms"),
        (f"resident after {IDLE_SECONDS} idle seconds", memory, BUDGET_MEMORY_MIB, "MiB"),
        ("stripped binary", size, BUDGET_SIZE_MIB, "MiB"),
    ]
    exceeded = False
    for name, value, budget, unit in rows:
        over = value > budget
        exceeded |= over
        print(f"{name:<42} {value:7.1f} {unit:<4} of {budget:4} {unit:<4} {'OVER' if over else 'ok'}")
    print(f"slowest starts: {max(fresh):.1f} ms first, {max(again):.1f} ms further")
    sys.exit(exceeded)


main()
