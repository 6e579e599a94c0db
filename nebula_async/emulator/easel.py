"""Painting beside the event loop, and waiting that ends with the emulator."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import attrs

CONCURRENT_RENDERS = 4
Painted = TypeVar("Painted")


class Closing(Exception):  # noqa: N818 - an event, as in asyncio: the emulator stops, so this call ends here
    """The emulator is being stopped."""


@attrs.define(eq=False)
class Easel:
    """Paints for everyone who wants pictures, a few at a time, as long as its event loop lives."""

    closing: asyncio.Event
    _places: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(CONCURRENT_RENDERS), init=False)

    async def paint(self, work: Callable[[], Painted], *, at_once: bool) -> Painted:
        """Do the work in a thread, or `at_once` where that takes no time."""
        async with self._places:
            if self.closing.is_set():
                raise Closing
            return work() if at_once else await asyncio.to_thread(work)

    async def pause(self, seconds: float) -> None:
        """Wait, unless the emulator is stopped."""
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self.closing.wait(), seconds)
        except TimeoutError:
            return
        raise Closing
