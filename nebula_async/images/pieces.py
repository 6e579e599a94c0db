"""A picture that arrives in pieces, as those who read its structure see it: a place, and what to do there."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from attrs import define

if TYPE_CHECKING:
    import re
    import struct

Value = TypeVar("Value")

Steps: TypeAlias = Generator[None, None, Value]
"""Reading that can be left and resumed: it yields when it needs the next piece, and returns what it has read.

It raises `EOFError` where it needs more of a picture that has ended, and keeps no part of a piece while it waits.
"""

_NOTHING = memoryview(b"")


@define(eq=False)
class Pieces:
    """The piece that is here, and a place in it. Skipping is adding to `at`, which may lie far beyond the piece."""

    piece: memoryview = _NOTHING
    size: int = 0
    at: int = 0
    passed: int = 0
    """The bytes of all pieces before this one."""

    ended: bool = False

    def show(self, piece: bytes | memoryview, steps: Steps[Value]) -> None:
        """Let reading go on in this piece until it needs the next; what it raises (`StopIteration` too) comes out."""
        self.piece, self.size = memoryview(piece), len(piece)
        try:
            next(steps)
        finally:
            self.passed += self.size
            self.at -= self.size
            self.piece, self.size = _NOTHING, 0

    @property
    def place(self) -> int:
        """How many bytes of the picture are behind."""
        return self.passed + self.at

    def go_to(self, place: int) -> None:
        """Skip what is before a place."""
        self.at = place - self.passed

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Return the values of a structure that is next; nothing unless all of it is here, for `gather` to wait for."""
        start, end = self.at, self.at + layout.size
        if end > self.size:
            return ()
        self.at = end
        return layout.unpack_from(self.piece, start)

    def gather(self, layout: struct.Struct) -> Steps[tuple[Any, ...]]:
        """Return the values of a structure that is next, from as many pieces as it takes."""
        gathered = bytearray()
        while left := layout.size - len(gathered):
            yield from self.need()
            gathered += self.piece[self.at : self.at + left]
            self.at = min(self.at + left, self.size)
        return layout.unpack(gathered)

    def find(self, pattern: re.Pattern[bytes]) -> bool:
        """Go behind the next match in this piece and return true, or else to the end of the piece."""
        found = pattern.search(self.piece, self.at)
        self.at = found.end() if found else max(self.at, self.size)
        return found is not None

    def arrive(self) -> Steps[None]:
        """Wait for all that is skipped."""
        while self.at > self.size and not self.ended:
            yield
        if self.at > self.size:
            raise EOFError

    def follow(self) -> Steps[bool]:
        """Wait for the next byte; return whether there is one."""
        while self.at >= self.size and not self.ended:
            yield
        yield from self.arrive()
        return self.at < self.size

    def need(self) -> Steps[None]:
        """Wait for the next byte."""
        if not (yield from self.follow()):
            raise EOFError
