"""The structure of AVIF: the boxes of ISO/IEC 14496-12, and the size property (ispe) of ISO/IEC 23008-12."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from nebula_async.images.limits import Size, acceptable, part_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nebula_async.images.pieces import Pieces, Steps

_BOX = struct.Struct(">I4s")
_LONG_SIZE = struct.Struct(">Q")
_SIZE = struct.Struct(">4xII")
_VERSION_BYTES = 4

_ENDLESS = 2**65
"""The end of a box without a stated length, beyond any that can be stated: it goes on to the end of the file."""

_WAY = (b"iprp", b"ipco", b"ispe")
"""Within `meta`, sizes lie in boxes within boxes: of tiles, thumbnail and alpha plane too, and none is larger."""


def read_avif(pieces: Pieces) -> Steps[Size]:
    """Read an AVIF from its first byte to the end of the file; it is complete where a box ends and all are there."""
    size, pictured, parts = None, False, part_numbers()
    while pieces.place < _ENDLESS and (yield from pieces.follow()):
        kind, end = yield from _enter(pieces, _ENDLESS, parts)
        pictured = pictured or kind == b"mdat"
        if kind == b"meta":
            size = yield from _read_meta(pieces, end, parts)
        pieces.go_to(end)
    if size is None or not pictured:
        raise EOFError
    return size


def _read_meta(pieces: Pieces, end: int, parts: Iterator[int]) -> Steps[Size]:
    pieces.at += min(_VERSION_BYTES, end - pieces.place)
    size = yield from _largest(pieces, end, parts, _WAY)
    if end < _ENDLESS:
        yield from pieces.arrive()
    return acceptable(*size)


def _largest(pieces: Pieces, end: int, parts: Iterator[int], way: tuple[bytes, ...]) -> Steps[Size]:
    """Return the largest of the sizes to which a way through the boxes up to `end` leads; 0 × 0 if there is none."""
    largest = 0, 0
    while pieces.place < end and (yield from pieces.follow()):
        kind, after = yield from _enter(pieces, end, parts)
        if kind == way[0]:
            size = yield from _largest(pieces, after, parts, way[1:]) if way[1:] else pieces.gather(_SIZE)
            largest = max(largest, size, key=lambda size: size[0] * size[1])
        if pieces.place > after:
            raise _damaged()
        pieces.go_to(after)
    pieces.go_to(end)
    return largest


def _enter(pieces: Pieces, end: int, parts: Iterator[int]) -> Steps[tuple[bytes, int]]:
    """Read the head of a box within what goes on up to `end`; return its kind, and where it ends."""
    next(parts)
    start = pieces.place
    length, kind = pieces.unpack(_BOX) or (yield from pieces.gather(_BOX))
    if length == 1:
        (length,) = yield from pieces.gather(_LONG_SIZE)
    after = start + length if length else end
    if not pieces.place <= after <= end:
        raise _damaged()
    return kind, after


def _damaged() -> ValueError:
    return ValueError("it is an AVIF with a damaged box")
