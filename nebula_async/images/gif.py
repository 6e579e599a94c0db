"""The structure of GIF89a: blocks, each a row of sub-blocks that an empty one ends."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from nebula_async.images.limits import MOST_GIF_PARTS, Size, acceptable, part_numbers

if TYPE_CHECKING:
    from nebula_async.images.pieces import Pieces, Steps

_SCREEN = struct.Struct("<6xHHB2x")
_PLACE = struct.Struct("<HHHHB")
_END, _EXTENSION, _PICTURE = b";!,"


def read_gif(pieces: Pieces) -> Steps[Size]:
    """Read a GIF from its first byte to its trailer."""
    width, height, flags = yield from pieces.gather(_SCREEN)
    screen = acceptable(width, height)
    pieces.at += _colours_bytes(flags)
    size = yield from _read_blocks(pieces, screen)
    if size is None:
        raise ValueError("it is a GIF without picture data")
    return size


def _read_blocks(pieces: Pieces, screen: Size) -> Steps[Size | None]:
    """Read all blocks and their sub-blocks; return the size of the first picture among them, `None` without one.

    A picture that does not fit on the screen makes decoders enlarge that.
    """
    size, in_row, pictures = None, False, part_numbers()
    for _ in part_numbers(MOST_GIF_PARTS):
        if pieces.at >= pieces.size:
            yield from pieces.need()
        byte = pieces.piece[pieces.at]
        pieces.at += 1
        if in_row:  # the length of a sub-block
            pieces.at += byte
            in_row = byte > 0
            continue
        if byte == _END:
            break
        if byte == _PICTURE:
            next(pictures)
            left, top, width, height, flags = pieces.unpack(_PLACE) or (yield from pieces.gather(_PLACE))
            needed = acceptable(max(screen[0], left + width), max(screen[1], top + height))
            size = size or needed
            pieces.at += _colours_bytes(flags)
        elif byte != _EXTENSION:
            raise ValueError("it is a GIF with a damaged block")
        pieces.at += 1  # the code size of a picture, or the label of an extension
        in_row = True
    return size


def _colours_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
