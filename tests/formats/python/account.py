"""The account that the files of the corpus belong to."""

import hashlib

DC = 4
HOST = "149.154.167.91"
PORT = 443
USER = 7_000_000_001
UPDATES = [100, 2, 1_700_000_000, 3]


def make_key(seed):
    return b"".join(hashlib.sha512(b"%s %d" % (seed.encode(), n)).digest() for n in range(4))


KEY = make_key("corpus")
OTHER_KEY = make_key("another")
