"""The relay does what the faults ask of it."""

import asyncio
import time

from links import Relay


async def through(harm):
    """Sends two words and an end through a relay; returns what arrived, and after how many seconds."""
    heard = []

    async def listen(reader, writer):
        while True:
            word = await reader.read(64)
            heard.append((word, time.monotonic()))
            if not word:
                return writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        relay = await Relay(server.sockets[0].getsockname()[1]).start()
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"one")
        while not heard:
            await asyncio.sleep(0.01)
        (pair,) = relay.pairs
        harm(relay, pair.source)
        begin = time.monotonic()
        writer.write(b"two")
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 5)
        await relay.stop()
        writer.close()
    return [word for word, _ in heard], [at - begin for _, at in heard[1:]]


def test_what_travels_long_arrives_late_and_in_order():
    words, (two, end) = asyncio.run(through(lambda relay, source: relay.travel_long(source, 0.4)))
    assert words == [b"one", b"two", b""] and 0.4 <= two <= end


def test_an_end_that_is_late_leaves_the_words_alone():
    words, (two, end) = asyncio.run(through(lambda relay, source: relay.end_late(source, 0.4)))
    assert words == [b"one", b"two", b""] and two < 0.3 and end >= 0.4
