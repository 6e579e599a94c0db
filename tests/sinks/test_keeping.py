"""Pictures of one reply on their way into a sink."""

from __future__ import annotations

import pytest

from nebula_async import MemorySink
from nebula_async.sinks.keeping import IntoSink, Streaming

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n"


async def test_the_next_picture_begins_while_one_is_taken():
    """What arrives of a next picture while the sink takes a piece of the one before waits for its turn."""
    taken = []

    class Slow(MemorySink):
        """Sees the next picture begin while it takes a piece."""

        async def open(self, key):
            """Return a writer."""

            async def write(data: bytes) -> None:
                if key == "cat":
                    keeping.open(0).write(PNG)
                taken.append((key, data))

            return type("Taking", (), {"write": staticmethod(write)})()

    keeping = IntoSink(Slow(), "cat", Streaming())
    keeping.open(0).write(PNG)
    while keeping.is_full:
        await keeping.drain()

    assert [("cat", PNG), ("cat-1", PNG)] == taken
