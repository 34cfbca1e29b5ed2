"""Checks a grammers file of ours against the library's schema and prints what is in it.

Usage: grammers_check.py FILE. Values are taken the way grammers-session 0.11 takes them: by column position.
"""

import ipaddress
import json
import sqlite3
import sys

SCHEMA = {
    "dc_home": [("dc_id", "INTEGER", 1, 1)],
    "dc_option": [("dc_id", "INTEGER", 1, 1), ("ipv4", "TEXT", 1, 0), ("ipv6", "TEXT", 1, 0), ("auth_key", "BLOB", 0, 0)],
    "peer_info": [("peer_id", "INTEGER", 1, 1), ("hash", "INTEGER", 0, 0), ("subtype", "INTEGER", 0, 0)],
    "update_state": [(name, "INTEGER", 1, 0) for name in ("pts", "qts", "date", "seq")],
    "channel_state": [("peer_id", "INTEGER", 1, 1), ("pts", "INTEGER", 1, 0)],
}

connection = sqlite3.connect("file:%s?mode=ro" % sys.argv[1], uri=True)
assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
assert connection.execute("pragma user_version").fetchone() == (1,)
names = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
assert names == set(SCHEMA), names
for table, columns in SCHEMA.items():
    found = [(name, kind.upper(), notnull, key) for _, name, kind, notnull, _, key in
             connection.execute("pragma table_info(%s)" % table)]
    assert found == columns, (table, found)

dcs = {}
for dc, ipv4, ipv6, key in connection.execute("select * from dc_option"):
    host, port = ipv4.rsplit(":", 1)
    ipaddress.IPv4Address(host)
    assert 1 <= int(port) <= 65535
    host, port = ipv6.rsplit(":", 1)
    assert host[0] == "[" and host[-1] == "]"
    ipaddress.IPv6Address(host[1:-1])
    assert key is None or len(key) == 256
    dcs[dc] = {"ipv4": ipv4, "ipv6": ipv6, "key": key and key.hex()}
json.dump({
    "home": connection.execute("select * from dc_home").fetchall(),
    "dcs": dcs,
    "peers": connection.execute("select * from peer_info").fetchall(),
    "state": connection.execute("select * from update_state").fetchall(),
}, sys.stdout)
