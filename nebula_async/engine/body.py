"""A reply's body on its way to its reader: within a bound, unpacked where it is gzip."""

from __future__ import annotations

import zlib

from attrs import define, field

from nebula_async.engine.reading import BodyReader
from nebula_async.errors import UnusableReplyError

PLAIN = ("", "identity")
GZIP = zlib.MAX_WBITS | 16

MOST_RATIO = 20
FREE_BYTES = 64 * 1024
"""Base64 packs to three quarters, JSON to a tenth: what unpacks to more than so many times its size, and is larger than
this, is made to fill memory.
"""

STEP_BYTES = 256 * 1024


@define(eq=False)
class BoundedBody:
    """Hands a body on to a reader: neither what came nor what it unpacks to grows over `limit` bytes.

    A kilobyte on the wire can unpack to gigabytes, so unpacking stops at the limit, and where it goes out of all
    proportion. Codings other than one layer of gzip are not unpacked. `problem` says why no more is taken; it is full
    then, and `drain` and `finish` raise an `UnusableReplyError` that says so.
    """

    coding: str
    limit: int
    reader: BodyReader
    problem: str | None = field(default=None, init=False)
    _came: int = field(default=0, init=False)
    _handed_on: int = field(default=0, init=False)
    _gzip: zlib._Decompress | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.coding in ("gzip", "x-gzip"):
            self._gzip = zlib.decompressobj(GZIP)
        elif self.coding not in PLAIN:
            self.problem = f"the reply is packed as {self.coding!r}; only gzip is read"

    @property
    def piece_bytes(self) -> int:
        """How much the reader likes to be fed at once."""
        return self.reader.piece_bytes

    @property
    def is_full(self) -> bool:
        """Whether the reader is, or nothing more is taken at all."""
        return self.problem is not None or self.reader.is_full

    def feed(self, piece: bytes | memoryview, /) -> None:
        """Hand on a piece as it came, until there is a problem."""
        if self.problem is not None:
            return
        self._came += len(piece)
        if self._gzip is None:
            self._hand_on(piece)
        else:
            self._unpack(self._gzip, piece)
        if self._came > self.limit:
            self.problem = self._too_large

    async def drain(self) -> None:
        """Let the reader make room. Raises `UnusableReplyError`."""
        self._check()
        await self.reader.drain()

    def finish(self) -> None:
        """Note that there is no more to come. Raises `UnusableReplyError`."""
        if self._gzip is not None and self._came and not self._gzip.eof and self.problem is None:
            self.problem = "the reply is gzip that ends too early"
        self._check()

    @property
    def _too_large(self) -> str:
        return f"the reply is larger than {self.limit} bytes"

    def _check(self) -> None:
        if self.problem is not None:
            raise UnusableReplyError(self.problem)

    def _hand_on(self, data: bytes | memoryview) -> None:
        room = self.limit - self._handed_on
        self._handed_on += len(data)
        self.reader.feed(data if len(data) <= room else data[:room])
        if len(data) > room:
            self.problem = self._too_large

    def _unpack(self, gzip: zlib._Decompress, piece: bytes | memoryview) -> None:
        is_full = True
        while (piece or is_full) and self.problem is None and not gzip.eof:  # what follows the end is not part of it
            try:
                data = gzip.decompress(piece, STEP_BYTES)
            except zlib.error as error:
                self.problem = f"the reply says that it is gzip, and is not: {error}"
                return
            self._hand_on(data)
            piece, is_full = gzip.unconsumed_tail, len(data) == STEP_BYTES
            if self._handed_on > MOST_RATIO * self._came + FREE_BYTES:
                self.problem = f"the reply unpacks to more than {MOST_RATIO} times its size"
