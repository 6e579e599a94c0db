"""How much of many replies is begun and received in one round of an asyncio loop."""

import asyncio
import socket
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from nebula_async.engine.asyncio_sockets import AsyncioBackend
from nebula_async.engine.rounds import HEARD_IN_A_ROUND, LONG_ROUND_SECONDS, PIECE_BYTES, ROUND_BYTES, Rounds

pytestmark = pytest.mark.asyncio

MANY = 5 * HEARD_IN_A_ROUND
WAITED_SECONDS = 10


@pytest_asyncio.fixture
async def connections():
    """Many connections: for each the end that the engine reads from, and the socket that a server writes to."""
    async with AsyncExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0), backlog=MANY) as listener:
            pairs = []
            for _ in range(MANY):
                stream = await AsyncioBackend().connect_tcp("127.0.0.1", listener.getsockname()[1])
                stack.push_async_callback(stream.aclose)
                pairs.append((stream, stack.enter_context(listener.accept()[0])))
        yield pairs


async def count_rounds(rounds):
    """Count the rounds of the loop."""
    while True:
        rounds.append(None)
        await asyncio.sleep(0)


async def test_replies_that_come_together_are_begun_a_few_in_a_round(connections):
    """Two hundred replies in the same moment do not hold the loop while the heads of all are read."""
    rounds, begun = [], Counter()

    async def read(stream):
        data = await stream.read(100, WAITED_SECONDS)
        begun[len(rounds)] += 1
        return data

    counting = asyncio.create_task(count_rounds(rounds))
    reading = [asyncio.create_task(read(stream)) for stream, _ in connections]
    await asyncio.sleep(0)
    for number, (_, server) in enumerate(connections):
        server.sendall(b"%d" % number)
    assert await asyncio.gather(*reading) == [b"%d" % number for number in range(MANY)]
    counting.cancel()
    assert max(begun.values()) <= HEARD_IN_A_ROUND
    assert begun.total() == MANY


async def test_what_came_in_time_is_read_however_late_its_turn_is(connections):
    """A timeout is for the server's silence; that others are read first is no silence."""
    for number, (_, server) in enumerate(connections):
        server.sendall(b"%d" % number)
    replies = await asyncio.gather(*(stream.read(100, 0) for stream, _ in connections))
    assert replies == [b"%d" % number for number in range(MANY)]


async def test_a_long_reply_is_whole_after_it_waited_for_its_turn(connections):
    """What follows the first bytes of a reply that waits is neither lost nor read out of order."""
    size = 200_000

    async def read_all(stream):
        data = b""
        while len(data) < size:
            data += await stream.read(size, WAITED_SECONDS)
        return data

    for number, (_, server) in enumerate(connections):
        server.sendall(bytes([number]) * size)
    replies = await asyncio.gather(*(read_all(stream) for stream, _ in connections))
    assert replies == [bytes([number]) * size for number in range(MANY)]


async def test_a_reader_that_is_cancelled_in_the_queue_takes_nobody_s_turn_for_good(connections):
    """Cancelled readers leave the queue, and everyone behind them is read."""
    reading = [asyncio.create_task(stream.read(100, WAITED_SECONDS)) for stream, _ in connections]
    await asyncio.sleep(0)
    for number, (_, server) in enumerate(connections):
        server.sendall(b"%d" % number)
    await asyncio.sleep(0)
    for task in reading[::2]:
        task.cancel()
    replies = await asyncio.gather(*reading, return_exceptions=True)
    assert replies[1::2] == [b"%d" % number for number in range(1, MANY, 2)]


class Turns:
    """A connection that counts its turns."""

    def __init__(self):
        self.turns = 0

    def take_turn(self):
        """Receive again."""
        self.turns += 1
        return True


async def pieces_of_a_round(rounds, *, long=False):
    """Return how many pieces there is room for in a round, which may be a long one, and let it end."""
    pieces = 1
    while rounds.count(Turns(), PIECE_BYTES):
        pieces += 1
    if long:
        time.sleep(2 * LONG_ROUND_SECONDS)  # noqa: ASYNC251 - it is to hold the loop
    for _ in range(4):
        await asyncio.sleep(0)
    return pieces


async def test_less_is_received_while_rounds_are_long():
    """A loop that does much else for each picture is not held by what arrives as well; a free one receives more."""
    rounds, most = Rounds(), ROUND_BYTES // PIECE_BYTES + 1
    assert await pieces_of_a_round(rounds, long=True) == most
    after_a_long_one = await pieces_of_a_round(rounds, long=True)
    assert after_a_long_one < most
    assert max([await pieces_of_a_round(rounds) for _ in range(50)]) == most
