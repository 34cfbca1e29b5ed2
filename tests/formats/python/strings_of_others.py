"""Strings and JSON of other libraries than Telethon, whole and damaged, for corpus.py."""

import base64
import hashlib
import json
import struct

from account import DC, HOST, KEY, PORT, USER, make_key

API = 12_345


def unpadded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def pyrogram_1(dc=DC, test=0, key=KEY, user=5, bot=0):
    return unpadded(struct.pack(">BB256sIB", dc, test, key, user, bot))


def pyrogram_2(dc=DC, test=0, key=KEY, user=USER, bot=0):
    return unpadded(struct.pack(">BB256sQB", dc, test, key, user, bot))


def pyrogram_3(dc=DC, api_id=API, test=0, key=KEY, user=USER, bot=0):
    return unpadded(struct.pack(">BIB256sQB", dc, api_id, test, key, user, bot))


def gramjs(host=HOST, dc=DC, port=PORT, key=KEY, encode=base64.b64encode):
    host = host.encode()
    return b"1" + encode(struct.pack(">BH%dsH256s" % len(host), dc, len(host), host, port, key))


def tl_bytes(data):
    head = bytes([len(data)]) if len(data) < 254 else b"\xfe" + struct.pack("<I", len(data))[:3]
    return head + data + bytes(-len(head + data) % 4)


def mtcute_dc(dc=DC, host=HOST, port=PORT, flags=0, version=2):
    return tl_bytes(bytes([version, dc, flags]) + tl_bytes(host.encode()) + struct.pack("<i", port))


def mtcute(main=None, media=None, account=(USER, False), key=KEY, flags=0, version=3):
    flags |= (1 if account else 0) | (4 if media else 0)
    data = bytes([version]) + struct.pack("<i", flags) + (main or mtcute_dc()) + (media or b"")
    if account:
        user, bot = account
        data += struct.pack("<q", user) + bytes.fromhex("b5757299" if bot else "379779bc")
    return unpadded(data + tl_bytes(key))


def mtkruto(dc="4", key=KEY):
    data, out, zeros = tl_bytes(dc.encode()) + tl_bytes(key), bytearray(), 0
    for byte in data + b"\x01":
        if byte == 0:
            zeros += 1
            continue
        if zeros:
            out += bytes([0, zeros])
            zeros = 0
        out.append(byte)
    return unpadded(bytes(out[:-1]))


ZEROS_INSIDE = KEY[:100] + bytes(9) + KEY[109:]


def pyrogram_strings(corpus):
    def good(name, content, address=None, **expect):
        corpus.write("pyrogram_%s.txt" % name, content)
        corpus.good("pyrogram_%s.txt" % name, address=address, format="pyrogram-string",
                    **{"user_id": USER, "is_bot": False, **expect})

    good("v1", pyrogram_1(), user_id=5)
    good("v1_bot", pyrogram_1(bot=1), user_id=5, is_bot=True)
    good("v1_largest_id", pyrogram_1(user=2**31 - 2), user_id=2**31 - 2)
    good("v2", pyrogram_2())
    good("v3", pyrogram_3(), api_id=API)
    good("v3_bot", pyrogram_3(bot=1), api_id=API, is_bot=True)
    good("v3_no_api_id", pyrogram_3(api_id=0))
    good("v3_largest_api_id", pyrogram_3(api_id=2**31 - 1), api_id=2**31 - 1)
    good("v3_huge_api_id", pyrogram_3(api_id=2**31), notes=["api_id_implausible"])
    good("v3_nobody", pyrogram_3(user=0), api_id=API, user_id=None, is_bot=None)
    good("v3_some_bot", pyrogram_3(user=0, bot=1), api_id=API, user_id=None, is_bot=True)
    good("v3_huge_user", pyrogram_3(user=2**63), api_id=API, user_id=None, notes=["user_id_implausible"])
    # The first byte is that of an mtcute string, version 3.
    for layout, string in [("v1", pyrogram_1), ("v2", pyrogram_2), ("v3", pyrogram_3)]:
        good("dc3_looks_like_mtcute_v3_" + layout, string(dc=3), dc=3, user_id=5 if layout == "v1" else USER,
             api_id=API if layout == "v3" else 0)
    good("test_dc", pyrogram_3(dc=2, test=1), dc=2, api_id=API, address="149.154.167.40:80",
         notes=["address_of_test_dc"])
    good("test_flag_without_dc", pyrogram_3(test=1), api_id=API, notes=["not_carried"])
    good("newline", pyrogram_3() + b"\n", api_id=API, notes=["trimmed"])
    good("spaces", b"  " + pyrogram_3() + b" \r\n", api_id=API, notes=["trimmed"])
    good("padded", pyrogram_3() + b"==", api_id=API)

    # The same as "cut_by_eleven" below, but for bytes that could be a user id: nothing tells it for sure.
    key = KEY[:252] + b"\x00\x00\x00\x05"
    good("maybe_cut", pyrogram_3(key=key)[:-11], key=(API.to_bytes(4, "big")[1:] + b"\0" + key)[:256], user_id=5,
         notes=["maybe_cut"])

    whole = pyrogram_3()
    for name, content, code in damaged(whole) + [
        ("padding_too_short", whole + b"=", "string_malformed"),
        # What is left has an older layout's length, and bytes of the key where the user id would be.
        ("cut_by_six", pyrogram_3(user=5)[:-6], "string_malformed"),
        ("cut_by_eleven", pyrogram_3(key=KEY[:252] + b"\xff\xff\xff\xff")[:-11], "string_malformed"),
        ("dc_0", pyrogram_3(dc=0), "dc"),
        ("dc_6", pyrogram_3(dc=6), "dc"),
        ("test_is_2", pyrogram_3(test=2), "string_malformed"),
        ("bot_is_2", pyrogram_3(bot=2), "string_malformed"),
        ("v1_bot_is_255", pyrogram_1(bot=255), "string_malformed"),
        ("v2_test_is_2", pyrogram_2(test=2), "string_malformed"),
        ("zero_key", pyrogram_3(key=bytes(256)), "no_key"),
        ("random_263_bytes", unpadded(make_key("r") + bytes([9] * 7)), "string_malformed"),
        ("random_271_bytes", unpadded(b"\xc8" + make_key("r") + bytes([9] * 14)), "string_malformed"),
        ("272_bytes", unpadded(make_key("r") + bytes(16)), "string_malformed"),
    ]:
        corpus.write("pyrogram_%s.txt" % name, content)
        corpus.refused("pyrogram_%s.txt" % name, code)


def damaged(whole):
    """What happens to any string on its way."""
    return [
        ("bom", b"\xef\xbb\xbf" + whole, "string_malformed"),
        ("quotes", b'"' + whole + b'"', "string_malformed"),
        ("backquotes", b"`" + whole + b"`", "string_malformed"),
        ("standard_alphabet", whole.replace(b"-", b"+").replace(b"_", b"/"), "string_malformed"),
        ("cut", whole[:200], "string_malformed"),
        ("cut_by_one", whole[:-1], "string_malformed"),
        ("cut_by_four", whole[:-4], "string_malformed"),
        ("bad_character", whole[:50] + b"!" + whole[51:], "string_malformed"),
        ("pasted_twice", whole + whole, "string_malformed"),
        ("pasted_twice_on_lines", whole + b"\n" + whole, "string_malformed"),
        ("2_mib", whole[:1] + b"A" * (2 << 20), "string_malformed"),
        ("utf16", whole.decode().encode("utf-16"), "not_utf8"),
    ]


def gramjs_strings(corpus):
    def good(name, content, address="%s:%d" % (HOST, PORT), **expect):
        corpus.write("gramjs_%s.txt" % name, content)
        corpus.good("gramjs_%s.txt" % name, address=address, format="gramjs-string", **expect)

    # Telethon reads this one too, as an IPv6 address.
    assert len(gramjs()) == 369
    good("ambiguous_telethon_ipv6", gramjs())
    good("short_address", gramjs("149.154.175.53", dc=1), dc=1, address="149.154.175.53:443")
    good("dc5", gramjs("91.108.56.130", dc=5, port=80), dc=5, address="91.108.56.130:80")
    good("host_name", gramjs("vesta.web.telegram.org"), address=None, notes=["address_is_host_name"])
    good("ipv6", gramjs("2001:67c:4e8:f004::a"), address="[2001:67c:4e8:f004::a]:443")
    good("ipv6_long", gramjs("2001:067c:04e8:f004:0000:0000:0000:000a"), address="[2001:67c:4e8:f004::a]:443")
    good("url_safe", gramjs(encode=base64.urlsafe_b64encode))
    # Its reader takes this for a negative number and connects to 80 or 443 anyway.
    good("high_port", gramjs(port=50_000), address=HOST + ":50000")
    good("test_dc", gramjs("149.154.167.40", dc=2, port=80), dc=2, address="149.154.167.40:80",
         notes=["address_of_test_dc"])
    good("newline", gramjs() + b"\n", notes=["trimmed"])

    whole = gramjs("91.108.56.130")
    for name, content, code in [case for case in damaged(whole) if case[0] != "standard_alphabet"] + [
        ("no_padding", gramjs("149.154.167.92").rstrip(b"="), "string_malformed"),
        ("version_2", b"2" + gramjs()[1:], "string_version"),
        ("zero_key", gramjs(key=bytes(256)), "no_key"),
        ("dc_0", gramjs(dc=0), "dc"),
        ("dc_6", gramjs(dc=6), "dc"),
        ("port_0", gramjs(port=0), "port"),
        ("address_garbage", gramjs("not/an/address"), "address"),
        ("address_0", gramjs("0.0.0.0"), "address"),
        ("no_address", gramjs(""), "string_malformed"),
        ("long_address", gramjs("a." * 60 + "org"), "string_malformed"),
    ]:
        corpus.write("gramjs_%s.txt" % name, content)
        corpus.refused("gramjs_%s.txt" % name, code)


def mtcute_strings(corpus):
    def good(name, content, **expect):
        corpus.write("mtcute_%s.txt" % name, content)
        corpus.good("mtcute_%s.txt" % name, format="mtcute-string", **{"user_id": USER, "is_bot": False, **expect})

    good("v3", mtcute())
    good("bot", mtcute(account=(USER, True)), is_bot=True)
    good("no_account", mtcute(account=None), user_id=None, is_bot=None)
    good("user_0", mtcute(account=(0, False)), user_id=None, notes=["user_id_implausible"])
    good("media", mtcute(media=mtcute_dc(host="149.154.167.255", flags=2)), notes=["not_carried"])
    good("same_media", mtcute(media=mtcute_dc(flags=2)))
    good("media_without_account", mtcute(media=mtcute_dc(host="149.154.167.255"), account=None), user_id=None,
         is_bot=None, notes=["not_carried"])
    good("dc_record_1", mtcute(main=mtcute_dc(version=1)))
    good("ipv6", mtcute(main=mtcute_dc(host="2001:067c:04e8:f004:0000:0000:0000:000a", flags=1)),
         address="[2001:67c:4e8:f004::a]:443")
    good("shortest_address", mtcute(main=mtcute_dc(host="1.1.1.1")), address="1.1.1.1:443")
    test = mtcute_dc(dc=2, host="149.154.167.40", flags=4)
    good("test_dc", mtcute(main=test), dc=2, address="149.154.167.40:443", notes=["address_of_test_dc"])
    good("old_test_flag", mtcute(main=mtcute_dc(dc=2, host="149.154.167.40", version=1), flags=2), dc=2,
         address="149.154.167.40:443", notes=["address_of_test_dc"])
    good("test_flag_elsewhere", mtcute(main=mtcute_dc(host="10.0.0.1", flags=4)), address="10.0.0.1:443",
         notes=["not_carried"])
    good("newline", mtcute() + b"\n", notes=["trimmed"])

    whole = mtcute()
    for name, content, code in damaged(whole) + [
        ("version_2", mtcute(version=2), "string_malformed"),
        ("version_4", mtcute(version=4), "string_malformed"),
        ("flags_unknown", mtcute(flags=8), "string_malformed"),
        ("media_flag_without_media", mtcute(account=None, flags=4), "string_malformed"),
        ("dc_record_9", mtcute(main=mtcute_dc(version=9)), "string_malformed"),
        ("dc_flags_unknown", mtcute(main=mtcute_dc(flags=64)), "string_malformed"),
        ("dc_0", mtcute(main=mtcute_dc(dc=0)), "dc"),
        ("dc_203", mtcute(main=mtcute_dc(dc=203)), "dc"),
        ("port_0", mtcute(main=mtcute_dc(port=0)), "port"),
        ("port_negative", mtcute(main=mtcute_dc(port=-443)), "port"),
        ("port_70000", mtcute(main=mtcute_dc(port=70_000)), "port"),
        ("address_garbage", mtcute(main=mtcute_dc(host="not an address")), "address"),
        ("zero_key", mtcute(key=bytes(256)), "no_key"),
        ("key_257_bytes", mtcute(key=KEY + b"x"), "key_length"),
        ("tail", unpadded(base64.urlsafe_b64decode(mtcute() + b"=" * (-len(mtcute()) % 4)) + b"\0"),
         "string_malformed"),
    ]:
        corpus.write("mtcute_%s.txt" % name, content)
        corpus.refused("mtcute_%s.txt" % name, code)


def read_only_forms(corpus):
    def mtkruto_good(name, content, address=None, **expect):
        corpus.write("mtkruto_%s.txt" % name, content)
        corpus.good("mtkruto_%s.txt" % name, address=address, format="raw",
                    **{"notes": ["read_only_form"], **expect})

    mtkruto_good("plain", mtkruto())
    mtkruto_good("zeros_inside", mtkruto(key=ZEROS_INSIDE), key=ZEROS_INSIDE)
    mtkruto_good("test", mtkruto("2-test"), dc=2, address="149.154.167.40:80",
                 notes=["read_only_form", "address_of_test_dc"])
    for name, content, code in damaged(mtkruto()) + [
        ("dc_9", mtkruto("9"), "dc"),
        ("no_number", mtkruto("two"), "string_malformed"),
    ]:
        corpus.write("mtkruto_%s.txt" % name, content)
        corpus.refused("mtkruto_%s.txt" % name, code)

    def gotd(version=1, **changes):
        data = {"Config": {"TestMode": False, "ThisDC": 4}, "DC": DC, "Addr": "%s:%d" % (HOST, PORT),
                "AuthKey": base64.b64encode(KEY).decode(),
                "AuthKeyID": base64.b64encode(hashlib.sha1(KEY).digest()[-8:]).decode(), "Salt": 5}
        return json.dumps({"Version": version, "Data": {**data, **changes}}).encode()

    for name, content, expect in [
        ("plain", gotd(), dict(notes=["read_only_form", "not_carried"])),
        ("no_address", gotd(Addr=""), dict(address=None,
                                           notes=["read_only_form", "address_missing", "not_carried"])),
        ("host_name", gotd(Addr="vesta.web.telegram.org:443", Salt=0),
         dict(address=None, notes=["read_only_form", "address_is_host_name"])),
        ("test", gotd(DC=2, Addr="149.154.167.40:443", Config={"TestMode": True}, Salt=0),
         dict(dc=2, address="149.154.167.40:443", notes=["read_only_form", "address_of_test_dc"])),
    ]:
        corpus.write("gotd_%s.json" % name, content)
        corpus.good("gotd_%s.json" % name, format="raw", **expect)
    for name, content, code in [
        ("version_2", gotd(version=2), "unknown_version"),
        ("no_key", gotd(AuthKey=None), "no_key"),
        ("short_key", gotd(AuthKey=base64.b64encode(KEY[1:]).decode()), "key_length"),
        ("key_id_of_another", gotd(AuthKeyID=base64.b64encode(bytes(8)).decode()), "string_malformed"),
        ("dc_7", gotd(DC=7), "dc"),
        ("address_garbage", gotd(Addr="nowhere"), "address"),
        ("port_garbage", gotd(Addr="vesta.web.telegram.org:https"), "port"),
        ("cut", gotd()[:-9], "json_malformed"),
        ("gutted", b'{"Version":1,"Data":{"DC":"two"}}', "json_malformed"),
    ]:
        corpus.write("gotd_%s.json" % name, content)
        corpus.refused("gotd_%s.json" % name, code)
    store = json.dumps({"type": "Buffer", "data": list(KEY)}).encode()
    corpus.write("gramjs_store_auth_key.json", store)
    corpus.refused("gramjs_store_auth_key.json", "unsupported_library")


PARTS = [pyrogram_strings, gramjs_strings, mtcute_strings, read_only_forms]
