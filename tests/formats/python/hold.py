"""Keeps a SQLite file locked until its standard input ends.

Usage: hold.py FILE exclusive|immediate|dirty|shared. Prints "ready" once the lock is taken. `dirty` is a client in the
midst of a transaction, with changes that are not committed.
"""

import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
mode = sys.argv[2]
if mode == "dirty":
    connection.execute("begin")
    connection.execute("update sessions set dc_id = 5")
elif mode == "shared":
    connection.execute("begin")
    connection.execute("select count(*) from sessions").fetchone()
else:
    connection.execute("begin " + mode)
print("ready", flush=True)
sys.stdin.read()
