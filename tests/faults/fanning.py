"""Work, sources and consumers for fan-outs."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel

from nebula_async.engine.fanout import FanOut


async def double(_index: int, item: int) -> int:
    """Double a number, after letting others work."""
    await anyio.lowlevel.checkpoint()
    return item * 2


async def forever(_index: int, _item: object) -> None:
    """Never end."""
    await anyio.sleep_forever()


async def endless() -> AsyncIterator[int]:
    """Yield numbers, letting others work in between, and in the end."""
    try:
        for number in itertools.count():
            await anyio.lowlevel.checkpoint()
            yield number
    finally:
        await anyio.lowlevel.checkpoint()


async def collect(fan_out: FanOut) -> list:
    """Return everything that comes out."""
    async with fan_out as results:
        return [result async for result in results]


async def five_of(source) -> None:
    """Take five results and leave."""
    async with FanOut(double, source, 3) as results:
        for _ in range(5):
            await anext(results)
    await anyio.lowlevel.checkpoint()
