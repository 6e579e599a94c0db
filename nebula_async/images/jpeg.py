"""The structure of JPEG (ITU-T T.81, annex B): markers, most with a segment of stated length."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from nebula_async.images.limits import Size, acceptable, part_numbers

if TYPE_CHECKING:
    from nebula_async.images.pieces import Pieces, Steps

_NO_MARKER = frozenset({0x00, 0x01, *range(0xD0, 0xD8), 0xFF})
"""What follows 0xff in coded data and between segments: a stuffed zero, TEM, a restart, a fill byte."""

_PERHAPS_MARKER = re.compile(rb"\xff(?![\x00\x01\xd0-\xd7\xff])")
"""The first byte of a marker, or the last byte of a piece. One byte of look-ahead: linear."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
_END = 0xD9
_MARKER = struct.Struct("B")
_SEGMENT = struct.Struct(">H")
_FRAME = struct.Struct(">xHH")


def read_jpeg(pieces: Pieces) -> Steps[Size]:
    """Read a JPEG from its first byte to its end marker; what is between segments is skipped."""
    pieces.at += 2
    size, scanned, parts = None, False, part_numbers()
    while (marker := (yield from _next_marker(pieces))) != _END:
        next(parts)
        (length,) = pieces.unpack(_SEGMENT) or (yield from pieces.gather(_SEGMENT))
        left = length - _SEGMENT.size
        if marker in _FRAMES:
            if size is not None:  # decoders would make room for the larger one
                raise ValueError("it is a JPEG with two frames")
            height, width = yield from pieces.gather(_FRAME)
            size, left = acceptable(width, height), left - _FRAME.size
        if left < 0:
            raise ValueError("it is a JPEG with a damaged segment")
        pieces.at += left
        scanned = scanned or marker == _SCAN
    if size is None or not scanned:
        raise ValueError("it is a JPEG without picture data")
    return size


def _next_marker(pieces: Pieces) -> Steps[int]:
    while True:
        while not pieces.find(_PERHAPS_MARKER):
            yield from pieces.need()
        marker: int = (pieces.unpack(_MARKER) or (yield from pieces.gather(_MARKER)))[0]
        if marker not in _NO_MARKER:
            return marker
        if marker == 0xFF:
            pieces.at -= 1  # a marker may begin here
