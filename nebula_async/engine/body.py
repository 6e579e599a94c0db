"""A reply's body, collected within a bound, unpacked where it is gzip."""

from __future__ import annotations

import zlib

from attrs import define, field

from nebula_async.errors import UnusableReplyError

GZIP = zlib.MAX_WBITS | 16


@define
class BoundedBody:
    """Collects the pieces of a body: neither what came nor what it unpacks to grows over `limit` bytes.

    A kilobyte on the wire can unpack to gigabytes, so unpacking stops at the limit. Codings other than one layer of
    gzip are refused with `UnusableReplyError`.
    """

    coding: str
    limit: int
    data: bytearray = field(factory=bytearray, init=False)
    _came: int = field(default=0, init=False)
    _gzip: zlib._Decompress | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.coding in ("gzip", "x-gzip"):
            self._gzip = zlib.decompressobj(GZIP)
        elif self.coding not in ("", "identity"):
            raise UnusableReplyError(f"the reply is packed as {self.coding!r}; only gzip is read")

    @property
    def is_full(self) -> bool:
        """Whether there is more than the limit allows."""
        return max(self._came, len(self.data)) > self.limit

    def feed(self, piece: bytes) -> None:
        """Add a piece as it came; at most one byte over the limit is kept."""
        self._came += len(piece)
        room = self.limit + 1 - len(self.data)
        self.data += piece[:room] if self._gzip is None else _unpacked(self._gzip, piece, room)


def _unpacked(gzip: zlib._Decompress, piece: bytes, room: int) -> bytes:
    if gzip.eof or room <= 0:  # what follows the end is not part of it
        return b""
    try:
        return gzip.decompress(piece, room)
    except zlib.error as error:
        raise UnusableReplyError(f"the reply says that it is gzip, and is not: {error}") from error
