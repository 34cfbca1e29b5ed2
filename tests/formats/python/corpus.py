"""Writes session files of every kind and every trap into a folder, and beside them what a reader must say.

Usage: corpus.py FOLDER. Prints one JSON list of {"file", "expect"}; `expect` is {"code": ...} for a refusal, else
{"format", "dc", "key" (hex), "address", "user_id", "is_bot", "api_id", "updates", "channels", "notes"}. Needs nothing but
Python's own sqlite3.
"""

import base64
import json
import os
import shutil
import sqlite3
import struct
import sys

import pyrogram_files
import strings_of_others
from account import DC, HOST, KEY, OTHER_KEY, PORT, UPDATES, USER, make_key

WITHOUT_ROWID = " without rowid"


def tables(version):
    """The statements that make a fresh file of a Telethon schema version."""
    old = WITHOUT_ROWID if version <= 3 else ""
    yield "create table version (version integer%s)" % ("" if version <= 3 else " primary key")
    extra = (", takeout_id integer" if version >= 5 else "") + (", tmp_auth_key blob" if version >= 8 else "")
    yield "create table sessions (dc_id integer primary key, server_address text, port integer, auth_key blob%s)%s" % (
        extra,
        old,
    )
    yield (
        "create table entities (id integer primary key, hash integer not null, username text, phone integer, "
        "name text%s)%s" % (", date integer" if version >= 7 else "", old)
    )
    if version == 2:
        yield (
            "create table sent_files (md5_digest blob, file_size integer, file_id integer, part_count integer, "
            "primary key(md5_digest, file_size)) without rowid"
        )
    if version >= 3:
        yield (
            "create table sent_files (md5_digest blob, file_size integer, type integer, id integer, hash integer, "
            "primary key(md5_digest, file_size, type))" + old
        )
    if version >= 4:
        yield "create table update_state (id integer primary key, pts integer, qts integer, date integer, seq integer)"


def fresh(path, version=7, pragmas=()):
    connection = sqlite3.connect(path)
    for pragma in pragmas:
        connection.execute("pragma " + pragma)
    for statement in tables(version):
        connection.execute(statement)
    connection.execute("insert into version values (?)", (version,))
    connection.commit()
    return connection


def log_in(connection, dc=DC, host=HOST, port=PORT, key=KEY):
    connection.execute(
        "insert or replace into sessions (dc_id, server_address, port, auth_key) values (?, ?, ?, ?)",
        (dc, host, port, key),
    )
    connection.commit()


def fill(connection, user=USER, updates=UPDATES):
    """What a client adds while it works."""
    connection.execute("insert into entities (id, hash) values (0, ?)", (user,))
    connection.execute("insert into entities (id, hash, username, phone) values (42, -5, 'somebody', '+123')")
    if has_table(connection, "update_state"):
        connection.execute("insert into update_state values (0, ?, ?, ?, ?)", updates)
        connection.execute("insert into update_state values (1234, 7, 0, 1700000000.25, 0)")
    connection.commit()


def has_table(connection, name):
    return bool(connection.execute("select 1 from sqlite_master where name = ?", (name,)).fetchone())


def upgrade(connection, version):
    """The steps Telethon takes in place, one version up."""
    if version == 1:
        connection.execute(
            "create table sent_files (md5_digest blob, file_size integer, file_id integer, part_count integer, "
            "primary key(md5_digest, file_size)) without rowid"
        )
    elif version == 2:
        connection.execute("drop table sent_files")
        connection.execute(
            "create table sent_files (md5_digest blob, file_size integer, type integer, id integer, hash integer, "
            "primary key(md5_digest, file_size, type)) without rowid"
        )
    elif version == 3:
        connection.execute(
            "create table update_state (id integer primary key, pts integer, qts integer, date integer, seq integer)"
        )
    elif version == 4:
        connection.execute("alter table sessions add column takeout_id integer")
    elif version == 5:
        connection.execute("delete from entities")
    elif version == 6:
        connection.execute("alter table entities add column date integer")
    elif version == 7:
        connection.execute("alter table sessions add column tmp_auth_key blob")
    connection.execute("update version set version = ?", (version + 1,))
    connection.commit()


class Corpus:
    def __init__(self, folder):
        self.folder = folder
        self.entries = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def expect(self, name, **expect):
        self.entries.append({"file": name, "expect": expect})

    def good(self, name, key=KEY, dc=DC, address="%s:%d" % (HOST, PORT), user_id=None, updates=None, notes=(),
             format="telethon-sqlite", is_bot=None, api_id=0, channels=None):
        self.expect(name, format=format, dc=dc, key=key.hex(), address=address, user_id=user_id, is_bot=is_bot,
                    api_id=api_id, updates=updates, channels=channels or {}, notes=list(notes))

    def refused(self, name, code):
        self.expect(name, code=code)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)

    def telethon(self, name, version=7, pragmas=(), **session):
        connection = fresh(self.path(name), version, pragmas)
        log_in(connection, **session)
        return connection

    def plain(self):
        """The bytes of an ordinary file."""
        path = self.path("plain")
        self.telethon("plain").close()
        with open(path, "rb") as file:
            content = file.read()
        os.remove(path)
        return content


def versions(corpus):
    for version in range(1, 9):
        name = "telethon_v%d.session" % version
        connection = corpus.telethon(name, version)
        fill(connection)
        connection.close()
        has_states = version >= 4
        corpus.good(name, user_id=USER, updates=UPDATES if has_states else None, notes=["not_carried"],
                    channels={"1234": 7} if has_states else {})

        name = "upgraded_from_v%d.session" % version
        connection = corpus.telethon(name, version)
        fill(connection)
        for step in range(version, 8):
            upgrade(connection, step)
        connection.close()
        peers = version >= 6
        corpus.good(name, user_id=USER if peers else None, updates=UPDATES if has_states else None,
                    notes=["not_carried"] * peers, channels={"1234": 7} if has_states else {})

    document = {
        "port": PORT,
        "salt": 5,
        "layer": 73,
        "server_address": HOST,
        "auth_key_data": base64.b64encode(KEY).decode(),
        "entities": [[1, 2], [3, 4]],
    }
    corpus.write("telethon_v0_json.session", json.dumps(document).encode())
    corpus.good("telethon_v0_json.session", notes=["not_carried", "not_carried"])
    for name, change, code in [
        ("json_without_key.session", {"auth_key_data": None}, "no_key"),
        ("json_short_key.session", {"auth_key_data": base64.b64encode(KEY[1:]).decode()}, "key_length"),
        ("json_unknown_address.session", {"server_address": "10.0.0.1"}, "dc_unknown"),
        ("json_port.session", {"port": 0}, "port"),
    ]:
        corpus.write(name, json.dumps({**document, **change}).encode())
        corpus.refused(name, code)


def not_sessions(corpus):
    plain = corpus.plain()
    for name, content, code in [
        ("empty.session", b"", "empty"),
        ("blank.session", b" \n", "empty"),
        ("text.session", b"this is not a session, it is a letter\n", "not_sqlite"),
        ("json_config.session", b'{"phone": "+1", "app_id": 5}', "json_unknown"),
        ("json_cut.session", b'{"phone": "+1", "app', "json_malformed"),
        ("png.session", b"\x89PNG\r\n\x1a\n" + bytes(200), "not_sqlite"),
        ("sqlcipher.session", make_key("noise") * 16, "not_sqlite"),
        ("zeros.session", bytes(8192), "not_sqlite"),
        ("one_byte.session", b"S", "not_sqlite"),
        ("magic_only.session", b"SQLite format 3\0", "truncated"),
        ("magic_broken.session", b"SQLITE" + plain[6:], "not_sqlite"),
        ("tail_zeroed.session", plain[:4096] + bytes(len(plain) - 4096), "corrupt"),
        ("schema_garbage.session", plain[:120] + make_key("x") * 15 + plain[3960:], "corrupt"),
        ("page_size_lie.session", plain[:16] + b"\x20\x00" + plain[18:], "truncated"),
        ("page_size_nonsense.session", plain[:16] + b"\x00\x07" + plain[18:], "corrupt"),
        ("tdata_key.session", b"TDF$" + bytes(100), "tdata_one_file"),
        ("utf16.session", "1abcdefgh".encode("utf-16"), "not_utf8"),
        ("utf16_le_no_mark.session", "1abcdefgh".encode("utf-16-le"), "not_utf8"),
    ]:
        corpus.write(name, content)
        corpus.refused(name, code)
    for length in (99, 512, 4095, 4096, 8192, len(plain) - 1):
        name = "cut_%d.session" % length
        corpus.write(name, plain[:length])
        corpus.refused(name, "truncated")
    with open(corpus.path("sparse_64_mib.session"), "wb") as file:
        file.truncate(64 << 20)
    corpus.refused("sparse_64_mib.session", "not_sqlite")
    with open(corpus.path("larger.session"), "wb") as file:
        file.truncate((64 << 20) + 1)
    corpus.refused("larger.session", "too_large")

    def database(name, code, *statements):
        connection = sqlite3.connect(corpus.path(name))
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        corpus.refused(name, code)

    database("other_sqlite.session", "unknown_schema", "create table notes (text)")
    database("no_tables.session", "unknown_schema", "create table x (y)", "drop table x")
    database("mtcute.session", "unsupported_library", "create table mtcute_migrations (repo text, version integer)")
    database("grammers_v0.session", "unknown_version", "create table dc_home (dc_id integer)",
             "create table dc_option (dc_id integer, ipv4 text, ipv6 text, auth_key blob)")


def logged_out(corpus):
    fresh(corpus.path("no_row.session")).close()
    corpus.refused("no_row.session", "no_session")
    fresh(corpus.path("v2_just_created.session"), 2).close()
    corpus.refused("v2_just_created.session", "no_session")
    for name, session in [
        ("just_created", dict(dc=0, host=None, port=None, key=b"")),
        ("never_logged_in", dict(key=b"")),
        ("null_key", dict(key=None)),
        ("all_zero_key", dict(key=bytes(256))),
    ]:
        corpus.telethon(name + ".session", **session).close()
        corpus.refused(name + ".session", "no_key")
    for length in (1, 128, 192, 255, 257, 512, 32 << 20):
        name = "key_%d_bytes.session" % length
        corpus.telethon(name, key=(KEY * (length // 256 + 1))[:length]).close()
        corpus.refused(name, "key_length")
    for name, key in [
        ("key_as_hex_text", KEY.hex()),
        ("key_256_chars_of_text", "k" * 256),
        ("key_as_number", 5),
        ("key_as_huge_text", "k" * 5000),
    ]:
        corpus.telethon(name + ".session", key=key).close()
        corpus.refused(name + ".session", "key_type")


def odd_rows(corpus):
    connection = corpus.telethon("two_rows.session")
    log_in(connection, dc=2)
    connection.close()
    corpus.refused("two_rows.session", "several_sessions")
    for dc in (0, 6, 99, -1, 203, 1 << 40):
        name = "dc_%d.session" % dc
        corpus.telethon(name, dc=dc).close()
        corpus.refused(name, "dc")
    for port in (0, -1, 70000, "text", 1 << 40):
        name = "port_%s.session" % port
        corpus.telethon(name, port=port).close()
        corpus.refused(name, "port")
    for name, host in [("garbage", "not an address"), ("blob", b"\x01\x02"), ("with_port", "1.2.3.4:443")]:
        corpus.telethon("address_%s.session" % name, host=host).close()
        corpus.refused("address_%s.session" % name, "address")
    for name, host, address, notes in [
        ("null", None, None, ["address_missing"]),
        ("host_name", "vesta.web.telegram.org", None, ["address_is_host_name"]),
        ("other_dc", "149.154.175.100", "149.154.175.100:443", ["address_of_other_dc"]),
        ("test_dc", "149.154.167.40", "149.154.167.40:443", ["address_of_test_dc"]),
        ("ipv6", "2001:67c:4e8:f004::a", "[2001:67c:4e8:f004::a]:443", []),
        ("unknown", "10.1.2.3", "10.1.2.3:443", []),
    ]:
        corpus.telethon("address_%s.session" % name, host=host).close()
        corpus.good("address_%s.session" % name, address=address, notes=notes)

    for name, value, notes in [
        ("takeout_number", 5, ["not_carried"]),
        ("takeout_blob", b"", []),
        ("takeout_text", "x", []),
    ]:
        connection = corpus.telethon(name + ".session", 8)
        connection.execute("update sessions set takeout_id = ?, tmp_auth_key = x''", (value,))
        connection.commit()
        connection.close()
        corpus.good(name + ".session", notes=notes)
    connection = corpus.telethon("tmp_auth_key.session", 8)
    connection.execute("update sessions set tmp_auth_key = ?", (OTHER_KEY,))
    connection.commit()
    connection.close()
    corpus.good("tmp_auth_key.session", notes=["not_carried"])

    for name, updates, expected, notes in [
        ("real_date", [1, 2, 1700000000.75, 3], [1, 2, 1700000000, 3], []),
        ("text_pts", ["x", 2, 3, 4], None, ["update_state_implausible"]),
        ("huge_pts", [1 << 40, 2, 3, 4], None, ["update_state_implausible"]),
        ("infinite_date", [1, 2, float("inf"), 4], None, ["update_state_implausible"]),
    ]:
        connection = corpus.telethon("updates_%s.session" % name)
        connection.execute("insert into update_state values (0, ?, ?, ?, ?)", updates)
        connection.commit()
        connection.close()
        corpus.good("updates_%s.session" % name, updates=expected, notes=notes)

    for user in (0, -3, "text"):
        connection = corpus.telethon("user_%s.session" % user)
        connection.execute("insert into entities (id, hash) values (0, ?)", (user,))
        connection.commit()
        connection.close()
        corpus.good("user_%s.session" % user, notes=["user_id_implausible"])

    connection = corpus.telethon("no_entities_table.session")
    connection.execute("drop table entities")
    connection.commit()
    connection.close()
    corpus.good("no_entities_table.session")
    connection = corpus.telethon("broken_names.session")
    connection.execute("insert into entities (id, hash, name) values (5, 6, cast(x'ff80fe' as text))")
    connection.commit()
    connection.close()
    corpus.good("broken_names.session", notes=["not_carried"])
    connection = corpus.telethon("entities_100k.session")
    connection.executemany("insert into entities (id, hash) values (?, ?)", ((n, n) for n in range(1, 100_001)))
    connection.commit()
    connection.close()
    corpus.good("entities_100k.session", notes=["not_carried"])


def odd_schemas(corpus):
    for version, code in [(99, "unknown_version"), (9, "unknown_version"), (0, "unknown_version")]:
        name = "version_%d.session" % version
        connection = corpus.telethon(name)
        connection.execute("update version set version = ?", (version,))
        connection.commit()
        connection.close()
        corpus.refused(name, code)
    connection = corpus.telethon("version_empty.session")
    connection.execute("delete from version")
    connection.commit()
    connection.close()
    corpus.refused("version_empty.session", "unknown_schema")

    def replaced(name, code, *statements):
        connection = corpus.telethon(name)
        connection.execute("drop table sessions")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        corpus.refused(name, code)

    columns = "(dc_id, server_address, port, auth_key)"
    replaced("view.session", "not_a_table",
             "create view sessions %s as select 4, 'x', 443, zeroblob(256)" % columns)
    replaced("view_that_never_returns.session", "not_a_table",
             "create view sessions %s as with recursive r(n) as (select 1 union all select n + 1 from r) "
             "select n, n, n, n from r" % columns)
    replaced("virtual_table.session", "not_a_table",
             "create virtual table sessions using fts5(dc_id, server_address, port, auth_key)")
    replaced("computed_column.session", "not_a_table",
             "create table sessions (dc_id integer primary key, server_address text, port integer, "
             "auth_key blob as (zeroblob(256)))")
    replaced("missing_column.session", "unknown_schema",
             "create table sessions (dc_id integer primary key, server_address text, port integer)")

    # A declared type and a column name that are not UTF-8.
    connection = corpus.telethon("declared_type_not_utf8.session")
    connection.execute("pragma writable_schema = on")
    connection.execute(
        "update sqlite_master set sql = cast(replace(cast(sql as blob), 'auth_key blob', "
        "cast(x'617574685f6b657920fffe' as blob)) as text) where name = 'sessions'"
    )
    connection.commit()
    connection.close()
    corpus.good("declared_type_not_utf8.session")

    for name, pragmas in [
        ("utf16le", ["encoding = 'UTF-16le'"]),
        ("utf16be", ["encoding = 'UTF-16be'"]),
        ("page_512", ["page_size = 512"]),
        ("page_65536", ["page_size = 65536"]),
        ("autovacuum", ["auto_vacuum = full"]),
    ]:
        corpus.telethon("sqlite_%s.session" % name, pragmas=pragmas).close()
        corpus.good("sqlite_%s.session" % name)


def names(corpus):
    content = corpus.plain()
    for name in ["emoji \U0001f600", "new\nline", "quote'\"s", "-dash", "100%20", "l" * 230, "back\\slash", "שלום",
                 ".hidden", "file:x?mode=rw"]:
        corpus.write(name + ".session", content)
        corpus.good(name + ".session")
    corpus.write("UPPER.SESSION", content)
    corpus.good("UPPER.SESSION")


def journals(corpus):
    """States in which the main file alone tells a wrong or old key."""
    work = corpus.path("work.session")
    connection = corpus.telethon("work.session")
    connection.execute("pragma cache_size = 1")
    connection.executemany("insert into entities (id, hash, name) values (?, 1, ?)",
                           ((n, "n" * 500) for n in range(1, 200)))
    connection.commit()
    connection.execute("update sessions set dc_id = 2, auth_key = ?", (OTHER_KEY,))
    connection.execute("update entities set name = 'm' || name")
    shutil.copy(work, corpus.path("hot_journal.session"))
    shutil.copy(work + "-journal", corpus.path("hot_journal.session-journal"))
    connection.rollback()
    connection.close()
    os.remove(work)
    alone = sqlite3.connect("file:%s?immutable=1" % corpus.path("hot_journal.session"), uri=True)
    assert alone.execute("select dc_id, auth_key from sessions").fetchone() == (2, OTHER_KEY), "journal is not hot"
    alone.close()
    corpus.good("hot_journal.session", notes=["not_carried", "with_journal"])

    shutil.copy(corpus.path("hot_journal.session"), corpus.path("shared_journal.session"))
    shutil.copy(corpus.path("hot_journal.session-journal"), corpus.path("shared_journal.session-journal"))
    with open(corpus.path("shared_journal.session-journal"), "ab") as file:
        name = os.fsencode(corpus.path("victim"))
        file.write(struct.pack(">I", 0) + name + struct.pack(">II", len(name), sum(name)))
        file.write(bytes.fromhex("d9d505f920a163d7"))
    corpus.refused("shared_journal.session", "journal_shared")

    content = corpus.plain()
    corpus.write("empty_journal_beside.session", content)
    corpus.write("empty_journal_beside.session-journal", b"")
    corpus.good("empty_journal_beside.session")
    corpus.write("dead_journal_beside.session", content)
    corpus.write("dead_journal_beside.session-journal", bytes(1024))
    corpus.good("dead_journal_beside.session", notes=["with_journal"])

    connection = corpus.telethon("work.session", key=OTHER_KEY)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma wal_autocheckpoint = 0")
    shutil.copy(work, corpus.path("wal_header_no_siblings.session"))
    corpus.good("wal_header_no_siblings.session", key=OTHER_KEY, notes=["wal_without_log"])
    connection.execute("update sessions set auth_key = ?", (KEY,))
    connection.commit()
    for name in ("wal_has_newer_key", "wal_torn", "wal_garbage"):
        shutil.copy(work, corpus.path(name + ".session"))
        shutil.copy(work + "-wal", corpus.path(name + ".session-wal"))
    corpus.good("wal_has_newer_key.session", notes=["with_wal"])
    os.truncate(corpus.path("wal_torn.session-wal"), 2000)
    corpus.good("wal_torn.session", key=OTHER_KEY, notes=["with_wal"])
    corpus.write("wal_garbage.session-wal", make_key("noise") * 9)
    corpus.good("wal_garbage.session", key=OTHER_KEY, notes=["with_wal"])
    connection.close()
    os.remove(work)

    connection = sqlite3.connect(work)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma wal_autocheckpoint = 0")
    for statement in tables(7):
        connection.execute(statement)
    connection.execute("insert into version values (7)")
    log_in(connection)
    shutil.copy(work, corpus.path("wal_has_the_only_key.session"))
    shutil.copy(work + "-wal", corpus.path("wal_has_the_only_key.session-wal"))
    connection.close()
    os.remove(work)
    corpus.good("wal_has_the_only_key.session", notes=["with_wal"])


def string(dc=DC, ip=(149, 154, 167, 91), port=PORT, key=KEY):
    return b"1" + base64.urlsafe_b64encode(struct.pack(">B%dsH256s" % len(ip), dc, bytes(ip), port, key))


def strings(corpus):
    good = string()
    ipv6 = bytes.fromhex("2001067c04e8f004000000000000000a")
    for name, content, address, notes in [
        ("ipv4", good, "149.154.167.91:443", []),
        ("ipv6", string(ip=ipv6), "[2001:67c:4e8:f004::a]:443", []),
        ("newline", good + b"\n", "149.154.167.91:443", ["trimmed"]),
        ("spaces", b"  " + good + b" \r\n", "149.154.167.91:443", ["trimmed"]),
    ]:
        corpus.write("string_%s.txt" % name, content)
        corpus.good("string_%s.txt" % name, address=address, notes=notes, format="telethon-string")
    corpus.write("string_in_it.session", good)
    corpus.good("string_in_it.session", notes=["name_unlike_content"], format="telethon-string")

    bare = good.rstrip(b"=")
    for name, content, code in [
        ("bom", b"\xef\xbb\xbf" + good, "string_malformed"),
        ("quotes", b'"' + good + b'"', "string_malformed"),
        ("no_padding", bare, "string_malformed"),
        ("standard_alphabet", good.replace(b"-", b"+").replace(b"_", b"/"), "string_malformed"),
        ("version_2", b"2" + good[1:], "string_version"),
        ("cut", good[:200], "string_malformed"),
        ("cut_by_four", good[:-4], "string_malformed"),
        ("bad_character", good[:50] + b"!" + good[51:], "string_malformed"),
        ("pasted_twice", good + good, "string_malformed"),
        ("pasted_twice_on_lines", good + b"\n" + good, "string_malformed"),
        ("zero_key", string(key=bytes(256)), "no_key"),
        ("dc_0", string(dc=0), "dc"),
        ("dc_6", string(dc=6), "dc"),
        ("port_0", string(port=0), "port"),
        ("address_0", string(ip=(0, 0, 0, 0)), "address"),
        ("2_mib", b"1" + b"A" * (2 << 20), "string_malformed"),
        ("utf16", good.decode().encode("utf-16"), "not_utf8"),
    ]:
        corpus.write("string_%s.txt" % name, content)
        corpus.refused("string_%s.txt" % name, code)


def main():
    corpus = Corpus(sys.argv[1])
    for part in (versions, not_sessions, logged_out, odd_rows, odd_schemas, names, journals, strings,
                 *strings_of_others.PARTS, *pyrogram_files.PARTS):
        part(corpus)
    json.dump(corpus.entries, sys.stdout)


if __name__ == "__main__":
    main()
