"""Pyrogram 2.0, Kurigram, Hydrogram and Pyrofork on both ends."""

import base64
import json
import os

import pytest
from conftest import FAMILY

API = 12_345
CONNECTING = [library for library in FAMILY if library.name in ("pyrogram", "kurigram")]


def fields(**changes):
    return {
        "dc_id": 4, "api_id": API, "test_mode": False, "auth_key": os.urandom(256).hex(), "user_id": 6_123_456_789,
        "is_bot": False, **changes,
    }


def as_raw(told):
    """The same in the service's own form."""
    return {
        "dc_id": told["dc_id"], "api_id": told["api_id"], "user_id": told["user_id"], "is_bot": told["is_bot"],
        "auth_key": base64.b64encode(bytes.fromhex(told["auth_key"])).decode(),
    }


def raw_file(told, **changes):
    return json.dumps({"format": "usm-session", "version": 1, **as_raw(told), **changes})


def whole(folder):
    """A file as SQLite leaves it when it was closed properly; Hydrogram's are in WAL mode even so."""
    log = folder / "written.session-wal"
    assert not log.exists() or not log.stat().st_size
    return (folder / "written.session").read_bytes()


def test_what_the_library_writes_is_read(server, family, tmp_path):
    cases = [fields(), fields(is_bot=True), fields(dc_id=3), fields(dc_id=1, is_bot=True)]
    folders = [tmp_path / str(n) for n in range(len(cases))]
    for folder in folders:
        folder.mkdir()
    asked = zip(cases, folders, strict=True)
    answers = family.ask(*({"verb": "write", "folder": str(folder), "fields": told} for told, folder in asked))
    updates = {"pts": 1, "qts": 2, "date": 3, "seq": 4} if family.name == "kurigram" else None
    for n, (told, folder, answer) in enumerate(zip(cases, folders, answers, strict=True)):
        if n % 2:
            app, updates_kept = server.imports(whole(folder), "PYROGRAM_SQLITE"), updates
        else:
            assert len(answer["string"]) == 362
            app, updates_kept = server.imports(answer["string"], "PYROGRAM_STRING"), None
        document = server.raw(app)
        expected = as_raw(told)
        assert {name: document[name] for name in expected} == expected
        assert document["update_state"] == updates_kept


def test_what_is_written_opens_in_the_library(server, family, tmp_path):
    # The service's own api_id stands where a session tells none.
    cases = [fields(), fields(is_bot=True), fields(user_id=0, api_id=1)]
    asked, expected = [], []
    for n, told in enumerate(cases):
        unknown = {} if told["user_id"] else {"user_id": None, "is_bot": None, "api_id": 0}
        app = server.imports(raw_file(told, **unknown), "RAW")
        string = server.lend(app, "PYROGRAM_STRING").decode()
        assert len(string) == 362
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "ours.session").write_bytes(server.lend(app, "PYROGRAM_SQLITE"))
        asked.append({"verb": "open", "string": string})
        expected.append({"fields": told, "string": string})
        # The second time, after the library had it, upgraded it and saved it.
        for _ in range(2):
            asked.append({"verb": "open", "folder": str(folder)})
            expected.append({"fields": {**told, "peers": 0}, "string": string})
    assert family.ask(*asked) == expected


@pytest.mark.parametrize("library", CONNECTING, ids=lambda library: library.name)
def test_the_library_connects_with_what_is_written(server, library, tmp_path):
    minted, user = server.mint(dc=2)
    told = fields(dc_id=2, user_id=user, auth_key=minted["auth_key"])
    app = server.imports(raw_file(told), "RAW")
    (tmp_path / "ours.session").write_bytes(server.lend(app, "PYROGRAM_SQLITE"))
    string = server.lend(app, "PYROGRAM_STRING").decode()
    ports = {"2": minted["port"]}
    answers = library.ask(
        {"verb": "connect", "string": string, "ports": ports},
        {"verb": "connect", "folder": str(tmp_path), "ports": ports},
    )
    # And what it says of itself after that is the same session.
    assert answers == [{"id": user, "string": string}] * 2
