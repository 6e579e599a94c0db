"""The structure of WebP (RFC 9649): a RIFF of chunks, the first of which tells the size."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from nebula_async.images.limits import Size, acceptable, part_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nebula_async.images.pieces import Pieces, Steps

_RIFF = struct.Struct("<4xI4x")
_CHUNK = struct.Struct("<4sI")
_PICTURES = frozenset({b"VP8 ", b"VP8L", b"ANMF"})


def read_webp(pieces: Pieces) -> Steps[Size]:
    """Read a WebP from its first byte to the end of its RIFF."""
    (length,) = yield from pieces.gather(_RIFF)
    end, parts = 8 + length, part_numbers()
    size, pictured = None, False
    while pieces.place < end:
        first = next(parts) == 1
        kind, length = pieces.unpack(_CHUNK) or (yield from pieces.gather(_CHUNK))
        after = pieces.place + length
        if first and kind in _SIZES and after <= end:
            size = yield from _read_size(pieces, kind)
        if not pieces.place <= after <= end:
            raise _damaged()
        pieces.go_to(min(after + (length & 1), end))  # chunks begin at even places
        pictured = pictured or kind in _PICTURES
    yield from pieces.arrive()
    if not pictured:
        raise ValueError("it is a WebP without picture data")
    if size is None:
        raise ValueError("it is a WebP with an unknown first chunk")
    return size


def _read_size(pieces: Pieces, kind: bytes) -> Steps[Size]:
    layout, size_of = _SIZES[kind]
    return acceptable(*size_of(*(yield from pieces.gather(layout))))


def _lossy_size(start_code: bytes, width: int, height: int) -> Size:
    if start_code != b"\x9d\x01\x2a":
        raise _damaged()
    return width & 0x3FFF, height & 0x3FFF  # the two bits above are a scale for display


def _lossless_size(signature: int, bits: int) -> Size:
    if signature != 0x2F:
        raise _damaged()
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _extended_size(low_width: int, high_width: int, low_height: int, high_height: int) -> Size:
    return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1


def _damaged() -> ValueError:
    return ValueError("it is a WebP with a damaged chunk")


_SIZES: Mapping[bytes, tuple[struct.Struct, Callable[..., Size]]] = {
    b"VP8 ": (struct.Struct("<3x3sHH"), _lossy_size),
    b"VP8L": (struct.Struct("<BI"), _lossless_size),
    b"VP8X": (struct.Struct("<4xHBHB"), _extended_size),
}
