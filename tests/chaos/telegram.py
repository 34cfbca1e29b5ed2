"""What Telegram saw: the connections of each authorization, from their first call to their end."""

import asyncio
import base64
import socket
import struct

# What the sandbox forgives a client that closed one connection and opened another, and the reading of its clock.
GRACE = 0.35


class Connection:
    def __init__(self):
        self.key, self.source, self.first_call, self.closed = None, None, None, None


class Watch:
    """Follows the sandbox's record of calls, so that no connection between two looks is missed."""

    def __init__(self, sandbox, home):
        self.sandbox, self.home, self.since, self.conns = sandbox, home, 0, {}
        self.overlaps, self._known = [], set()

    def look(self):
        for call in self.sandbox.ask(f"/calls?since={self.since}"):
            self.since = max(self.since, call["n"])
            if call["dc"] == self.home:
                self.take(call)
        self.find()

    def take(self, call):
        conn = self.conns.setdefault(call["conn"], Connection())
        conn.source = call["src"]
        if call["kind"] == "rpc":
            conn.key = call["key"]
            conn.first_call = call["t"] if conn.first_call is None else conn.first_call
        elif call["kind"] == "transport" and call["method"] == "close":
            conn.closed = call["t"]

    def find(self):
        """Pairs of connections of one authorization that were open at once for longer than is forgiven."""
        now = max((it.closed or it.first_call or 0.0 for it in self.conns.values()), default=0.0)
        keys = {}
        for number, conn in self.conns.items():
            if conn.key and conn.first_call is not None:
                keys.setdefault(conn.key, []).append((conn.first_call, conn.closed or now, number))
        for key, spans in keys.items():
            spans.sort()
            for at, (_, end, number) in enumerate(spans):
                for begin, other_end, other in spans[at + 1:]:
                    shared = min(end, other_end) - begin
                    if shared > GRACE and (number, other) not in self._known:
                        self._known.add((number, other))
                        self.overlaps.append({"key": key, "conns": [number, other], "at": begin, "seconds": shared})

    def duplicates(self):
        return self.sandbox.ask("/state")["counters"]["duplicates"]

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
