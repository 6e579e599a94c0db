"""What takes the body of a reply as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar, runtime_checkable

import anyio
from anyio.lowlevel import checkpoint
from attrs import define, evolve, field

from nebula_async.api.messages import Reply

PIECES_AT_ONCE = 256
CLOSING_SECONDS = 0.1
"""How long a body that was closed may take to end; one of a transport of the user's own may never do."""

Value = TypeVar("Value")
Value_co = TypeVar("Value_co", covariant=True)


class BodyReader(Protocol):
    """Takes the body of one reply, piece by piece, in the order of its bytes."""

    def feed(self, piece: bytes | memoryview, /) -> None:
        """Take a piece. A view is good during the call alone: the memory below it is received into again."""
        ...

    @property
    def piece_bytes(self) -> int:
        """How much it likes to be fed at once; it may come in smaller pieces, or in larger ones."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be taken until `drain` has returned."""
        ...

    async def drain(self) -> None:
        """Make room. What it raises ends the reading, and comes out of it."""
        ...


class ReplyReader(BodyReader, Protocol[Value_co]):
    """Makes a value of one reply, while it arrives; another one is made for each attempt."""

    def begin(self, size: int | None) -> None:
        """Take note of how many bytes the body will have, if that is known: as much as the server says, and no more
        than may be.
        """
        ...

    async def finish(self, reply: Reply) -> Value_co:
        """Return what the reply is, of which all has been fed; `reply` has no body. What it raises, `call` judges.

        It is here and paid for: what takes time is shielded from cancellation.
        """
        ...

    async def salvage(self, reply: Reply) -> Value_co | None:
        """Return what the reply is where it broke off and nothing that was asked for is missing, else `None`.

        As `finish` in all else.
        """
        ...

    async def discard(self) -> None:
        """Let go of what is kept and was not returned: nothing more comes. Told after every attempt, also the best.

        What takes time is shielded from cancellation.
        """
        ...


@define(eq=False)
class WholeBody:
    """Collects a body."""

    data: bytearray = field(factory=bytearray, init=False)
    piece_bytes: int = field(default=64 * 1024, init=False)
    is_full: bool = field(default=False, init=False)

    def feed(self, piece: bytes | memoryview, /) -> None:
        """Add a piece."""
        self.data += piece

    async def drain(self) -> None:
        """Go on: there is always room."""


@define(eq=False)
class WholeReply(WholeBody, Generic[Value]):
    """Reads a reply that is small, once it is there."""

    read: Callable[[Reply], Awaitable[Value]]

    def begin(self, size: int | None) -> None:
        """Begin."""

    async def finish(self, reply: Reply) -> Value:
        """Return what `read` makes of the reply and its body."""
        with anyio.CancelScope(shield=True):
            value = await self.read(evolve(reply, body=bytes(self.data)))
        return value  # noqa: RET504 - for all that mypy knows, a scope swallows exceptions

    async def salvage(self, reply: Reply) -> Value | None:  # noqa: ARG002 - what is small is asked for again
        """Return nothing."""
        return None

    async def discard(self) -> None:
        """Let go of it."""
        self.data.clear()


@runtime_checkable
class Receiving(Protocol):
    """A connection that feeds a reader by itself, as data arrives, and hears what arrives while it sends."""

    async def receive(self, size: int, reader: BodyReader, timeout: float | None = None, /) -> int:
        """Feed the next `size` bytes to a reader; return how many are missing where the connection ended.

        `timeout` is for each wait between two pieces.
        """
        ...

    async def write_unless_heard(self, buffer: bytes | memoryview, timeout: float | None = None, /) -> bool:
        """Send, but do not wait on where something arrives, or the connection ends; return whether nothing did."""
        ...


async def feed_all(pieces: AsyncIterable[bytes], reader: BodyReader, close: Callable[[], Awaitable[None]]) -> None:
    """Feed a body to a reader, and let others go on meanwhile: where a server sends chunks of a byte, they are many.

    `close` ends the body: one that is not read to its end is closed, and then ends by itself. Its generators would
    otherwise be left for the event loop to find.
    """
    taken, stream = 0, aiter(pieces)
    async for piece in stream:
        reader.feed(piece)
        taken += 1
        try:
            if reader.is_full:
                await reader.drain()
            elif taken % PIECES_AT_ONCE == 0:
                await checkpoint()
        except BaseException:
            with anyio.move_on_after(CLOSING_SECONDS, shield=True), suppress(Exception):
                await close()
                async for _ in stream:
                    await checkpoint()
            raise
