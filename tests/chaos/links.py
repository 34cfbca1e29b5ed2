"""TCP in between: relays whose connections can be cut, held, slowed, or whose ends travel late."""

import asyncio
import socket
import struct
import time

_CHUNK = 65536
# Reset instead of an orderly end.
_RESET = struct.pack("ii", 1, 0)


class Pair:
    """One relayed connection."""

    def __init__(self, relay, reader, writer, inner_reader, inner_writer):
        self.relay, self.ends, self.end_delay = relay, (writer, inner_writer), 0.0
        # How long it takes what goes to the inner side; what came before is not overtaken.
        self.travel = 0.0
        self.source = inner_writer.get_extra_info("sockname")[1]
        self.ways = [
            asyncio.create_task(self.pass_on(reader, inner_writer, inward=True)),
            asyncio.create_task(self.pass_on(inner_reader, writer)),
        ]

    async def pass_on(self, reader, writer, inward=False):
        underway = asyncio.Queue()
        arriving = asyncio.create_task(self.arrive(underway, writer))
        try:
            while chunk := await reader.read(_CHUNK):
                underway.put_nowait((time.monotonic() + (self.travel if inward else 0.0), chunk))
        except OSError:
            pass
        except asyncio.CancelledError:
            arriving.cancel()
            raise
        underway.put_nowait((0.0, None))
        await arriving
        # An end travels like everything else: held, slowed, or later than the rest.
        await asyncio.sleep(self.end_delay)
        await self.relay.let_pass()
        if writer.can_write_eof():
            try:
                writer.write_eof()
            except OSError:
                pass

    async def arrive(self, underway, writer):
        try:
            while (sent := await underway.get())[1] is not None:
                await asyncio.sleep(max(0.0, sent[0] - time.monotonic()))
                await self.relay.let_pass()
                writer.write(sent[1])
                await writer.drain()
        except OSError:
            pass

    async def run(self):
        await asyncio.gather(*self.ways, return_exceptions=True)
        self.close()

    def cut(self):
        for way in self.ways:
            way.cancel()
        for end in self.ends:
            if (door := end.get_extra_info("socket")) is not None:
                try:
                    door.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                except OSError:
                    pass
            end.transport.abort()

    def close(self):
        for end in self.ends:
            end.close()


class Relay:
    """A way to one address."""

    def __init__(self, to_port):
        self.to_port, self.pairs, self.tasks = to_port, set(), set()
        self.delay, self.refuses = 0.0, False
        self.open = asyncio.Event()
        self.open.set()

    async def start(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def let_pass(self):
        await self.open.wait()
        if self.delay:
            await asyncio.sleep(self.delay)

    async def accept(self, reader, writer):
        if self.refuses:
            writer.transport.abort()
            return
        try:
            inner = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(self, reader, writer, *inner)
        self.pairs.add(pair)
        try:
            await pair.run()
        except asyncio.CancelledError:
            pair.cut()  # the run is over
        finally:
            self.pairs.discard(pair)

    def cut(self, source=None):
        """Resets all connections, or the one that comes from this port at the other side."""
        for pair in [it for it in self.pairs if source in (None, it.source)]:
            pair.cut()

    def end_late(self, source, seconds):
        """The end of this connection arrives so much later."""
        for pair in self.pairs:
            if pair.source == source:
                pair.end_delay = seconds

    def travel_long(self, source, seconds):
        """What goes in on this connection arrives so much later."""
        for pair in self.pairs:
            if pair.source == source:
                pair.travel = seconds

    async def hold(self, rest):
        """Nothing passes for so long, and nothing is lost."""
        self.open.clear()
        await rest()
        self.open.set()

    async def part(self, rest):
        """No way through for so long."""
        self.refuses = True
        self.cut()
        await rest()
        self.refuses = False

    async def slow(self, rest, delay):
        self.delay = delay
        await rest()
        self.delay = 0.0

    async def stop(self):
        self.server.close()
        self.cut()
