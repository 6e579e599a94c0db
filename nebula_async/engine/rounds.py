"""The rounds of an asyncio loop in which replies arrive: how much is received in one, and who waits for the next."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

from attrs import define, field

TLS_RECORD_BYTES = 32 * 1024
"""Beside a piece there is room for a record of TLS, so that all fits in that asyncio decrypts of one round."""

PIECE_BYTES = 256 * 1024
ROUND_BYTES = 2**20
ENDED_IN_A_ROUND = 2
"""The loop is busy for as long as it takes to receive a piece on each connection that has one. Once so much came in a
round, the others wait for their turn: large pieces cost less, and what is begun is ended first. What follows the end of
a body takes as long as some pieces do, and many end at once. `benchmarks/loop_lag.py` measures what that does.
"""

LONG_ROUND_SECONDS = 0.005
"""After a round that took longer only half as much is received, and somewhat more after each that did not: an
application may do more for each picture than receive it, such as send it on, and all of that is in the loop's rounds.
"""

MORE_BYTES = 64 * 1024

HEARD_IN_A_ROUND = 8
"""What follows the head of a reply takes a quarter of a millisecond: its headers are read, and the memory for its body
is laid out. The replies to two hundred requests that left together come together, and would hold the loop for long.
"""


class Waiting(Protocol):
    """A connection that may have to wait for its turn to receive."""

    def take_turn(self) -> bool:
        """Receive again; return whether it was waiting for that."""
        ...


@define(eq=False)
class Rounds:
    """Keeps the rounds of a loop short: what it receives into, what came in this round, and who waits for the next."""

    memory: memoryview = field(factory=lambda: memoryview(bytearray(PIECE_BYTES + TLS_RECORD_BYTES)))
    _most: int = ROUND_BYTES
    _received: int = 0
    _waiting: deque[Waiting] = field(factory=deque)
    _ended: deque[asyncio.Future[None]] = field(factory=deque)
    _heard: deque[asyncio.Future[None]] = field(factory=deque)
    _went_on: int = 0
    _is_counting: bool = False
    _began_at: float = 0.0

    def count(self, stream: Waiting, size: int) -> bool:
        """Count a piece of a body; return whether there is room for another one of it in the next round."""
        self._received += size
        self._see_to_next()
        if self._received <= self._most:
            return True
        self._waiting.append(stream)
        return False

    def forget(self, stream: Waiting) -> None:
        """Let a stream wait no longer."""
        if stream in self._waiting:
            self._waiting.remove(stream)

    def hear(self, waiting: asyncio.Future[None]) -> bool:
        """Let who waits to hear something go on, when it is its turn; return whether it is now."""
        self._see_to_next()
        if self._went_on >= HEARD_IN_A_ROUND:
            self._heard.append(waiting)
            return False
        self._went_on += 1
        settle(waiting)
        return True

    def end(self, waiting: asyncio.Future[None] | None) -> None:
        """Let who waits for the end of a body go on, when it is its turn."""
        if waiting is not None:
            self._ended.append(waiting)
            self._see_to_next()

    def _see_to_next(self) -> None:
        if not self._is_counting:
            self._is_counting, self._began_at = True, time.monotonic()
            asyncio.get_running_loop().call_soon(self._next)  # not kept: what a loop is the key of must not hold it

    def _next(self) -> None:
        is_long = time.monotonic() - self._began_at > LONG_ROUND_SECONDS
        self._most = max(self._most // 2, PIECE_BYTES) if is_long else min(self._most + MORE_BYTES, ROUND_BYTES)
        room, self._received, self._is_counting = self._most - self._received, 0, False
        self._went_on = min(HEARD_IN_A_ROUND, len(self._heard))
        for _ in range(self._went_on):
            settle(self._heard.popleft())
        for _ in range(min(ENDED_IN_A_ROUND, len(self._ended))):
            settle(self._ended.popleft())
        while self._waiting and room > 0:
            room -= PIECE_BYTES * self._waiting.popleft().take_turn()
        if self._waiting or self._ended or self._went_on:
            self._see_to_next()


def settle(future: asyncio.Future[None] | None) -> None:
    """Let who waits for a future go on, if somebody does."""
    if future is not None and not future.done():
        future.set_result(None)
