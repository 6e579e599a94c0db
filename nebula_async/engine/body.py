"""A reply's body, collected within a bound, unpacked where it is gzip."""

from __future__ import annotations

import zlib

from attrs import define, field

GZIP = zlib.MAX_WBITS | 16


@define
class BoundedBody:
    """Collects the pieces of a body: neither what came nor what it unpacks to grows over `limit` bytes.

    A kilobyte on the wire can unpack to gigabytes, so unpacking stops at the limit. Codings other than one layer of
    gzip are not unpacked. `problem` says why no more is taken.
    """

    coding: str
    limit: int
    data: bytearray = field(factory=bytearray, init=False)
    problem: str | None = field(default=None, init=False)
    _came: int = field(default=0, init=False)
    _gzip: zlib._Decompress | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.coding in ("gzip", "x-gzip"):
            self._gzip = zlib.decompressobj(GZIP)
        elif self.coding not in ("", "identity"):
            self.problem = f"the reply is packed as {self.coding!r}; only gzip is read"

    def feed(self, piece: bytes) -> None:
        """Add a piece as it came, until there is a problem."""
        if self.problem is None:
            self._came += len(piece)
            room = self.limit + 1 - len(self.data)
            self.data += piece[:room] if self._gzip is None else self._unpacked(self._gzip, piece, room)
        if max(self._came, len(self.data)) > self.limit:
            self.problem = f"the reply is larger than {self.limit} bytes"
            del self.data[self.limit :]

    def _unpacked(self, gzip: zlib._Decompress, piece: bytes, room: int) -> bytes:
        if gzip.eof:  # what follows the end is not part of it
            return b""
        try:
            return gzip.decompress(piece, room)
        except zlib.error as error:
            self.problem = f"the reply says that it is gzip, and is not: {error}"
            return b""
