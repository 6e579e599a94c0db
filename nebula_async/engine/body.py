"""A reply's body, collected within a bound, unpacked where it is gzip."""

from __future__ import annotations

import zlib
from io import BytesIO

from attrs import define, field

GZIP = zlib.MAX_WBITS | 16

MOST_RATIO = 20
FREE_BYTES = 64 * 1024
"""Base64 packs to three quarters, JSON to a tenth: what unpacks to more than so many times its size, and is larger than
this, is made to fill memory.
"""

STEP_BYTES = 256 * 1024


@define
class BoundedBody:
    """Collects the pieces of a body: neither what came nor what it unpacks to grows over `limit` bytes.

    A kilobyte on the wire can unpack to gigabytes, so unpacking stops at the limit, and where it goes out of all
    proportion. Codings other than one layer of gzip are not unpacked. `problem` says why no more is taken.
    """

    coding: str
    limit: int
    problem: str | None = field(default=None, init=False)
    _data: BytesIO = field(factory=BytesIO, init=False)
    _came: int = field(default=0, init=False)
    _gzip: zlib._Decompress | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.coding in ("gzip", "x-gzip"):
            self._gzip = zlib.decompressobj(GZIP)
        elif self.coding not in ("", "identity"):
            self.problem = f"the reply is packed as {self.coding!r}; only gzip is read"

    @property
    def data(self) -> bytes:
        """What has been collected, without a copy."""
        return self._data.getvalue()

    def feed(self, piece: bytes) -> None:
        """Add a piece as it came, until there is a problem."""
        if self.problem is not None:
            return
        self._came += len(piece)
        if self._gzip is None:
            self._add(piece)
        else:
            self._unpack(self._gzip, piece)
        if self._came > self.limit:
            self.problem = self._too_large

    def finish(self) -> None:
        """Note that there is no more to come."""
        if self._gzip is not None and self._came and not self._gzip.eof and self.problem is None:
            self.problem = "the reply is gzip that ends too early"

    @property
    def _too_large(self) -> str:
        return f"the reply is larger than {self.limit} bytes"

    def _add(self, data: bytes) -> None:
        room = self.limit - self._data.tell()
        self._data.write(data[:room])
        if len(data) > room:
            self.problem = self._too_large

    def _unpack(self, gzip: zlib._Decompress, piece: bytes) -> None:
        is_full = True
        while (piece or is_full) and self.problem is None and not gzip.eof:  # what follows the end is not part of it
            try:
                data = gzip.decompress(piece, STEP_BYTES)
            except zlib.error as error:
                self.problem = f"the reply says that it is gzip, and is not: {error}"
                return
            self._add(data)
            piece, is_full = gzip.unconsumed_tail, len(data) == STEP_BYTES
            if self._data.tell() > MOST_RATIO * self._came + FREE_BYTES:
                self.problem = f"the reply unpacks to more than {MOST_RATIO} times its size"
