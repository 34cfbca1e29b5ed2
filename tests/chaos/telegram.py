"""What Telegram saw: the connections of each authorization that called it, from the first packet to their end."""

import asyncio
import base64
import json
import socket
import struct

# The sandbox forgives a client that closed one connection and opened another 250 ms: slightly less than that.
GRACE = 0.24


class Connection:
    def __init__(self):
        self.key, self.source, self.first, self.closed, self.calls = None, None, None, None, 0


class Watch:
    """Follows the sandbox's record of calls, so that no connection between two looks is missed."""

    def __init__(self, sandbox, home, path):
        self.sandbox, self.home, self.since, self.conns = sandbox, home, 0, {}
        self.overlaps, self.duplicates, self._known, self.file = [], 0, set(), open(path, "w", buffering=1)

    def look(self):
        for call in self.sandbox.ask(f"/calls?since={self.since}"):
            self.since = max(self.since, call["n"])
            self.file.write(json.dumps(call) + "\n")
            if call["dc"] == self.home:
                self.take(call)
        self.find()
        self.duplicates = self.sandbox.ask("/state")["counters"]["duplicates"]

    def take(self, call):
        conn = self.conns.setdefault(call["conn"], Connection())
        conn.source = call["src"]
        if call["key"] and conn.first is None:
            # A call is noted when it is answered: it came at the first sign of the key, or a little later.
            conn.key, conn.first = call["key"], call["t"]
        if call["kind"] == "rpc":
            conn.calls += 1
        elif call["kind"] == "transport" and call["method"] == "close":
            conn.closed = call["t"]

    def find(self):
        """Pairs of connections of one authorization that were open at once for longer than is forgiven."""
        now = max((it.closed or it.first or 0.0 for it in self.conns.values()), default=0.0)
        keys = {}
        for number, conn in self.conns.items():
            if conn.calls:
                keys.setdefault(conn.key, []).append((conn.first, conn.closed or now, number))
        for key, spans in keys.items():
            spans.sort()
            for at, (_, end, number) in enumerate(spans):
                for begin, other_end, other in spans[at + 1:]:
                    shared = min(end, other_end) - begin
                    if shared > GRACE and (number, other) not in self._known:
                        self._known.add((number, other))
                        self.overlaps.append({"key": key, "conns": [number, other], "at": begin, "seconds": shared})

    async def run(self, every=0.5):
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(every)


class Account:
    """An authorization, ready to be imported as a session."""

    def __init__(self, sandbox, user_id, port, dc=2):
        sandbox.ask("/users", {"id": user_id, "first_name": "Ada", "dc": dc})
        minted = sandbox.ask("/mint", {"dc": dc, "user_id": user_id})
        self.user_id, self.key, self.secret = user_id, minted["key"], bytes.fromhex(minted["auth_key"])
        packed = struct.pack(">B4sH256s", dc, socket.inet_aton("127.0.0.1"), port, self.secret)
        self.string = "1" + base64.urlsafe_b64encode(packed).decode()

    def secrets(self):
        return [self.secret.hex(), base64.b64encode(self.secret).decode()[:80], self.string[20:100]]
