"""Session files of the Pyrogram family and of Telethon 2, of every schema, for corpus.py."""

import base64
import json
import sqlite3

from account import DC, HOST, KEY, OTHER_KEY, PORT, UPDATES, USER

API = 12_345
SESSIONS = {
    "short": "dc_id integer primary key, test_mode integer, auth_key blob, date integer not null, user_id integer, "
             "is_bot integer",
    "plain": "dc_id integer primary key, api_id integer, test_mode integer, auth_key blob, date integer not null, "
             "user_id integer, is_bot integer",
    "addressed": "dc_id integer primary key, server_address text, port integer, api_id integer, test_mode integer, "
                 "auth_key blob, date integer not null, user_id integer, is_bot integer",
}
PEERS = "id integer primary key, access_hash integer, type integer not null, %sphone_number text, " \
        "last_update_on integer not null default 0"
STATES = "create table update_state (id integer primary key, pts integer, qts integer, date integer, seq integer)"
NAMES = "create table usernames (id integer, username text, foreign key (id) references peers(id))"
NAMES_PYROFORK = "create table usernames (id text primary key, peer_id integer not null, last_update_on integer " \
                 "not null default 0)"

# Number, sessions table, whether peers have user names, and further tables.
SCHEMAS = {
    "pyrogram_schema_1": (1, "short", True, []),
    "pyrogram_schema_2": (2, "short", True, []),
    "pyrogram_schema_3": (3, "plain", True, []),
    "pyrofork_schema_4": (4, "plain", True, [STATES, NAMES_PYROFORK]),
    "kurigram_schema_4": (4, "plain", True, [NAMES]),
    "kurigram_schema_5": (5, "plain", True, [NAMES, STATES]),
    "kurigram_schema_6": (6, "plain", False, [NAMES, STATES]),
    "kurigram_schema_7": (7, "addressed", False, [NAMES, STATES]),
}
ROW = dict(dc_id=DC, test_mode=0, auth_key=KEY, date=1_700_000_000, user_id=USER, is_bot=0)


def fresh(path, schema="pyrogram_schema_3", number=None, **session):
    version, sessions, named, further = SCHEMAS[schema]
    connection = sqlite3.connect(path)
    connection.execute("pragma synchronous = off")
    connection.execute("create table sessions (%s)" % SESSIONS[sessions])
    connection.execute("create table peers (%s)" % (PEERS % ("username text, " if named else "")))
    connection.execute("create table version (number integer primary key)")
    for statement in further:
        connection.execute(statement)
    connection.execute("insert into version values (?)", (version if number is None else number,))
    row = {**ROW, **session}
    if sessions != "short":
        row.setdefault("api_id", API)
    if sessions == "addressed":
        row.setdefault("server_address", HOST)
        row.setdefault("port", PORT)
    connection.execute("insert into sessions (%s) values (%s)" % (", ".join(row), ", ".join("?" * len(row))),
                       list(row.values()))
    connection.commit()
    return connection


def schemas(corpus):
    for name, (_, sessions, _, further) in SCHEMAS.items():
        connection = fresh(corpus.path(name + ".session"), name)
        connection.execute("insert into peers (id, access_hash, type) values (42, -5, 'user')")
        states = STATES in further
        if states:
            connection.execute("insert into update_state values (0, ?, ?, ?, ?)", UPDATES)
            connection.execute("insert into update_state values (-1001234, 7, null, 1700000000, null)")
        connection.commit()
        connection.close()
        corpus.good(name + ".session", user_id=USER, is_bot=False, api_id=0 if sessions == "short" else API,
                    address="%s:%d" % (HOST, PORT) if sessions == "addressed" else None, format="pyrogram-sqlite",
                    updates=UPDATES if states else None, notes=["not_carried"] * (3 if states else 2))

    def good(name, *statements, schema="pyrogram_schema_3", address=None, session=None, **expect):
        connection = fresh(corpus.path(name + ".session"), schema, **{"date": 0, **(session or {})})
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        corpus.good(name + ".session", address=address, format="pyrogram-sqlite",
                    **{"user_id": USER, "is_bot": False, "api_id": API, **expect})

    # In place, the new columns come last.
    good("pyrogram_upgraded_2_to_3", "alter table sessions add api_id integer", "update version set number = 3",
         schema="pyrogram_schema_2", api_id=0)
    good("kurigram_upgraded_6_to_7", "alter table sessions add server_address text",
         "alter table sessions add port integer",
         "update sessions set server_address = '149.154.167.91', port = 443", "update version set number = 7",
         schema="kurigram_schema_6", address="149.154.167.91:443")
    good("kurigram_address_null", schema="kurigram_schema_7", session=dict(server_address=None))
    good("pyrogram_nobody", session=dict(user_id=0), user_id=None, is_bot=None)
    good("pyrogram_bot", session=dict(is_bot=1), is_bot=True)
    good("pyrogram_api_id_null", session=dict(api_id=None), api_id=0)
    good("pyrogram_api_id_text", session=dict(api_id="x"), api_id=0, notes=["api_id_implausible"])
    good("pyrogram_user_negative", session=dict(user_id=-5), user_id=None, notes=["user_id_implausible"])
    good("pyrogram_test_dc", session=dict(dc_id=2, test_mode=1), dc=2, address="149.154.167.40:80",
         notes=["address_of_test_dc"])
    good("pyrogram_opened_with_grammers", "create table dc_home (dc_id integer not null, primary key(dc_id))",
         "create table dc_option (dc_id integer not null, ipv4 text not null, ipv6 text not null, auth_key blob)",
         "create table update_state (pts integer not null, qts integer, date integer, seq integer)")
    good("pyrofork_state_in_pieces", "insert into update_state values (0, 7, null, 1700000000, null)",
         schema="pyrofork_schema_4", notes=["not_carried"])
    good("kurigram_state_implausible", "insert into update_state values (0, 'x', 1, 2, 3)",
         schema="kurigram_schema_7", address="149.154.167.91:443", notes=["update_state_implausible"])
    connection = fresh(corpus.path("peers_50k.session"), date=0)
    connection.executemany("insert into peers (id, access_hash, type) values (?, ?, 'user')",
                           ((n, n) for n in range(1, 50_001)))
    connection.commit()
    connection.close()
    corpus.good("peers_50k.session", address=None, format="pyrogram-sqlite", user_id=USER, is_bot=False, api_id=API,
                notes=["not_carried"])

    # Hydrogram always leaves its files so; the log holds the key.
    connection = fresh(corpus.path("hydrogram_wal.session"), auth_key=OTHER_KEY, date=0)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma wal_autocheckpoint = 0")
    connection.execute("update sessions set auth_key = ?", (KEY,))
    connection.commit()
    for suffix in ("", "-wal"):
        with open(corpus.path("hydrogram_wal.session" + suffix), "rb") as source:
            corpus.write("hydrogram_wal_copied.session" + suffix, source.read())
    connection.close()
    corpus.good("hydrogram_wal_copied.session", address=None, format="pyrogram-sqlite", user_id=USER, is_bot=False,
                api_id=API, notes=["with_wal"])
    corpus.good("hydrogram_wal.session", address=None, format="pyrogram-sqlite", user_id=USER, is_bot=False,
                api_id=API, notes=["wal_without_log"])


def traps(corpus):
    def refused(name, code, *statements, schema="pyrogram_schema_3", number=None, **session):
        connection = fresh(corpus.path(name + ".session"), schema, number, **session)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        corpus.refused(name + ".session", code)

    nothing = dict(dc_id=2, test_mode=None, auth_key=None, date=0, user_id=None, is_bot=None, api_id=None)
    refused("pyrogram_just_created", "no_key", **nothing)
    refused("kurigram_just_created", "no_key", schema="kurigram_schema_7",
            **{**nothing, "server_address": "149.154.167.51"})
    for column in ("test_mode", "user_id", "is_bot"):
        refused("pyrogram_%s_null" % column, "not_signed_in", **{column: None})
    refused("pyrogram_no_row", "no_session", "delete from sessions")
    refused("pyrogram_two_rows", "several_sessions",
            "insert into sessions select 2, api_id, test_mode, auth_key, date, user_id, is_bot from sessions")
    for number, code in [(0, "unknown_version"), (8, "unknown_version"), (9, "unknown_version")]:
        refused("kurigram_version_%d" % number, code, schema="kurigram_schema_7", number=number)
    refused("pyrogram_version_missing", "unknown_schema", "delete from version")
    refused("pyrogram_version_two", "unknown_schema", "insert into version values (4)")
    refused("pyrogram_no_version_table", "unknown_schema", "drop table version")
    refused("pyrogram_no_user_column", "unknown_schema", "alter table sessions drop column user_id")
    refused("pyrogram_test_is_text", "flag", test_mode="yes")
    refused("pyrogram_bot_is_2", "flag", is_bot=2)
    refused("pyrogram_dc_0", "dc", dc_id=0)
    refused("pyrogram_dc_203", "dc", dc_id=203)
    refused("pyrogram_zero_key", "no_key", auth_key=bytes(256))
    refused("pyrogram_empty_key", "no_key", auth_key=b"")
    refused("pyrogram_short_key", "key_length", auth_key=KEY[1:])
    refused("pyrogram_hex_key", "key_type", auth_key=KEY.hex())
    refused("kurigram_port_70000", "port", schema="kurigram_schema_7", port=70_000)
    refused("kurigram_address_garbage", "address", schema="kurigram_schema_7", server_address="not an address")
    refused("pyrogram_view", "not_a_table", "alter table sessions rename to kept",
            "create view sessions as select * from kept")


def old_json(corpus):
    text = base64.b64encode(KEY).decode()
    document = {"dc_id": DC, "test_mode": False, "auth_key": [text[n:n + 43] for n in range(0, len(text), 43)],
                "user_id": USER, "date": 1_700_000_000}

    def write(name, **changes):
        corpus.write("pyrogram_json_%s.session" % name, json.dumps({**document, **changes}).encode())
        return "pyrogram_json_%s.session" % name

    def good(name, changes=(), **expect):
        corpus.good(write(name, **dict(changes)), address=None, format="pyrogram-sqlite",
                    **{"user_id": USER, "notes": ["not_carried"], **expect})

    good("plain")
    good("whole_key", dict(auth_key=text))
    good("with_peers", dict(peers_by_id={"5": [5, 6, "user"], "7": [7, 8, "chat"]}, peers_by_username={},
                            peers_by_phone={}, is_bot=True), is_bot=True, notes=["not_carried", "not_carried"])
    good("no_date", dict(date=0), notes=[])
    for name, changes, code in [
        ("no_key", dict(auth_key=None), "no_key"),
        ("short_key", dict(auth_key=text[:-4]), "key_length"),
        ("broken_key", dict(auth_key=["a"]), "string_malformed"),
        ("endless_key", dict(auth_key=[text] * 50), "json_malformed"),
        ("nobody", dict(user_id=None), "not_signed_in"),
        ("dc_9", dict(dc_id=9), "dc"),
        ("test_is_text", dict(test_mode="no"), "json_malformed"),
    ]:
        corpus.refused(write(name, **changes), code)


def telethon_2(corpus):
    def fresh_2(name, older=False, version=10):
        connection = sqlite3.connect(corpus.path(name + ".session"))
        connection.execute("pragma synchronous = off")
        connection.execute("create table version (version integer)")
        connection.execute("insert into version values (?)", (version,))
        addresses = "addr text" if older else "ipv4_addr text, ipv6_addr text"
        connection.execute("create table datacenter (id integer primary key, %s, auth blob)" % addresses)
        connection.execute("create table user (id integer primary key, dc integer, bot integer%s)"
                           % ("" if older else ", username text"))
        connection.execute("create table state (pts integer, qts integer, date integer, seq integer)")
        connection.execute("create table channelstate (id integer primary key, pts integer)")
        more = [] if older else [None]
        for dc, address, key in [(DC, "%s:%d" % (HOST, PORT), KEY), (2, "149.154.167.51:443", None)]:
            row = [dc, address, *more, key]
            connection.execute("insert into datacenter values (%s)" % ", ".join("?" * len(row)), row)
        connection.execute("insert into user (id, dc, bot) values (?, ?, 1)", (USER, DC))
        connection.execute("insert into state values (?, ?, ?, ?)", UPDATES)
        connection.execute("insert into channelstate values (1234, 5)")
        return connection

    for name, older in [("telethon_2_older", True), ("telethon_2", False)]:
        connection = fresh_2(name, older)
        connection.commit()
        connection.close()
        corpus.good(name + ".session", user_id=USER, is_bot=True, updates=UPDATES,
                    notes=["read_only_form"], channels={"1234": 5})
    for name, code, statement in [
        ("signed_out", "not_signed_in", "delete from user"),
        ("no_key", "no_key", "update datacenter set auth = null"),
        ("short_key", "key_length", "update datacenter set auth = x'00' where id = 4"),
        ("address_garbage", "address", "update datacenter set ipv4_addr = 'x' where id = 4"),
        ("two_users", "several_sessions", "insert into user (id, dc, bot) values (5, 2, 0)"),
        ("dc_9", "dc", "update user set dc = 9"),
        ("version_11", "unknown_version", "update version set version = 11"),
    ]:
        connection = fresh_2("telethon_2_" + name)
        connection.execute(statement)
        connection.commit()
        connection.close()
        corpus.refused("telethon_2_%s.session" % name, code)


PARTS = [schemas, traps, old_json, telethon_2]
