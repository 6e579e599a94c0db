"""Bodies, packed or not, on the way to their reader: the same in any pieces, within bounds, beside `zlib`."""

from __future__ import annotations

import gzip
import zlib

from attrs import define, field
from reference import in_pieces_of

from nebula_async.engine.body import FREE_BYTES, MOST_RATIO, STEP_BYTES, BoundedBody
from nebula_async.errors import UnusableReplyError
from targets import same

REFERENCE = "zlib"

LIMIT = 2**17
CODINGS = ("gzip", "", "x-gzip", "br")

WORDS = [
    gzip.compress(b""), gzip.compress(b"a" * 5000), b"\x1f\x8b\x08\0", b"\0\0\xff\xff", b"\x1f\x8b\x08\x1f", b"\3\0",
]  # fmt: skip
SEEDS = [
    b"\0" + gzip.compress(b'{"data": []}'), b"\0" + gzip.compress(bytes(200_000)), b"\1plain", b"\3x",
    b"\0" + gzip.compress(b"one") + gzip.compress(b"two"),
]  # fmt: skip


@define
class Keeping:
    """Keeps what it is fed."""

    data: bytearray = field(factory=bytearray)
    piece_bytes: int = 2**16
    is_full: bool = False

    def feed(self, data: bytes | memoryview) -> None:
        """Keep it."""
        self.data += data


def check(data: bytes) -> None:
    """Read a body of the coding that the first byte says, whole and in pieces."""
    coding, body = CODINGS[(data[0] if data else 0) % 4], data[1:]
    found, problem = read(coding, [body])
    assert len(found) <= LIMIT, data
    if problem is None:
        same(unpacked(body) if "gzip" in coding and body else body, found, data)
        same((found, None), read(coding, in_pieces_of(3, body)), data)
    if "gzip" in coding:
        assert len(found) <= MOST_RATIO * len(body) + FREE_BYTES + STEP_BYTES, data


def read(coding: str, pieces: list[bytes]) -> tuple[bytes, str | None]:
    """Return what the reader of a body was fed, and what was wrong."""
    reader = Keeping()
    body = BoundedBody(coding, LIMIT, reader)
    try:
        for piece in pieces:
            body.feed(piece)
        body.finish()
    except UnusableReplyError as error:
        return bytes(reader.data), error.message
    return bytes(reader.data), None


def unpacked(body: bytes) -> bytes:
    """Return the first layer of gzip, as others unpack it."""
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body)
