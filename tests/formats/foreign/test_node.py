"""GramJS, mtcute and @mtcute/convert on both ends."""

import base64
import json
import os

import grpc
import pytest

HOST = "149.154.167.91"
USER = 6_123_456_789


def raw_of(key, **fields):
    """A session in the service's own form."""
    key = base64.b64encode(bytes.fromhex(key)).decode()
    return json.dumps({"format": "usm-session", "version": 1, "auth_key": key, **fields})


def key_of(document):
    return base64.b64decode(document["auth_key"]).hex()


def new_key():
    return os.urandom(256).hex()


def test_what_gramjs_writes_is_read(server, node):
    hosts = [HOST, "91.108.56.130", "2001:67c:4e8:f004::a", "vesta.web.telegram.org"]
    cases = [{"verb": "gramjs write", "dc": 4, "host": host, "port": 443, "key": new_key()} for host in hosts]
    for asked, answer in zip(cases, node(*cases), strict=True):
        document = server.raw(server.imports(answer["string"], "GRAMJS_STRING"))
        assert (document["dc_id"], key_of(document)) == (4, asked["key"])


def test_what_is_written_opens_in_gramjs_and_connects(server, node):
    minted, user = server.mint(dc=2)
    app = server.imports(raw_of(minted["auth_key"], dc_id=2, user_id=user, is_bot=False), "RAW")
    string = server.lend(app, "GRAMJS_STRING").decode()
    ports = {"2": minted["port"]}
    opened, connected = node(
        {"verb": "gramjs open", "string": string}, {"verb": "gramjs connect", "string": string, "ports": ports}
    )
    assert (opened["dc"], opened["host"], opened["key"]) == (2, "127.0.0.1", minted["auth_key"])
    # The sandbox's port may be above what GramJS takes for one.
    port = minted["port"]
    assert opened["port"] == (port if port < 32768 else port - 65536)
    assert opened["string"] == string
    assert connected == {"id": user, "string": string}


def test_what_mtcute_writes_is_read(server, node):
    dc = {"id": 3, "ipAddress": "149.154.175.100", "port": 443}
    accounts = [None, (USER, False), (USER, True)]
    cases = [
        {"verb": "mtcute write", "main": dc, "media": media, "key": new_key(),
         "self": account and {"userId": account[0], "isBot": account[1], "isPremium": False, "usernames": []}}
        for account in accounts for media in (None, {**dc, "ipAddress": "149.154.167.255", "mediaOnly": True})
    ]
    for asked, answer in zip(cases, node(*cases), strict=True):
        document = server.raw(server.imports(answer["string"], "MTCUTE_STRING"))
        assert (document["dc_id"], key_of(document)) == (3, asked["key"])
        own = asked["self"] or {"userId": None, "isBot": None}
        assert (document["user_id"], document["is_bot"]) == (own["userId"], own["isBot"])


def test_what_is_written_opens_in_mtcute(server, node):
    cases = []
    for user, bot in [(None, None), (USER, False), (USER, True)]:
        key = new_key()
        app = server.imports(raw_of(key, dc_id=3, user_id=user, is_bot=bot), "RAW")
        cases.append((key, user, bot, server.lend(app, "MTCUTE_STRING").decode()))
    answers = node(*({"verb": "mtcute open", "string": string} for *_, string in cases))
    for (key, user, bot, string), opened in zip(cases, answers, strict=True):
        main = opened["main"]
        assert (main["id"], main["ipAddress"], main["testMode"], opened["key"]) == (3, "127.0.0.1", False, key)
        own = opened["self"] or {"userId": None, "isBot": None}
        assert (own["userId"], own["isBot"]) == (user, bot)
        assert opened["string"] == string


def test_mtcute_connects_with_what_is_written(server, node):
    minted, user = server.mint(dc=2)
    app = server.imports(raw_of(minted["auth_key"], dc_id=2, user_id=user, is_bot=False), "RAW")
    (told,) = node({"verb": "mtcute connect", "string": server.lend(app, "MTCUTE_STRING").decode()})
    assert told["id"] == user
    # What it exports then is the same session: known under its name, refused under another.
    server.imports(told["string"], "MTCUTE_STRING", app)
    with pytest.raises(grpc.RpcError, match="already"):
        server.imports(told["string"], "MTCUTE_STRING")


def test_the_converter_of_mtcute_agrees(server, node):
    key = new_key()
    app = server.imports(raw_of(key, dc_id=2, user_id=USER, is_bot=True, api_id=5), "RAW")
    strings = {name: server.lend(app, name.upper() + "_STRING").decode() for name in ("pyrogram", "gramjs", "telethon")}
    (seen,) = node({"verb": "convert read", **strings})
    assert seen["pyrogram"] == {"dc": 2, "user": USER, "bot": True, "key": key}
    for name in ("gramjs", "telethon"):
        assert (seen[name]["dc"], seen[name]["key"]) == (2, key)


def test_what_the_converter_writes_is_read(server, node):
    names = {"pyrogram": "PYROGRAM_STRING", "gramjs": "GRAMJS_STRING", "telethon": "TELETHON_STRING", "mtkruto": "RAW"}
    dc = {"id": 4, "ipAddress": HOST, "port": 443}
    own = {"userId": 77, "isBot": False, "isPremium": False, "usernames": []}
    keys = [new_key() for _ in names]
    written = node(*({"verb": "mtcute write", "main": dc, "self": own, "key": key} for key in keys))
    converted = node(*({"verb": "convert write", "string": answer["string"]} for answer in written))
    for key, strings, (name, told) in zip(keys, converted, names.items(), strict=True):
        document = server.raw(server.imports(strings[name], told))
        assert (document["dc_id"], key_of(document)) == (4, key)
        assert document["user_id"] == (77 if name == "pyrogram" else None)
