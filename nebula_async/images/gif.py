"""The structure of GIF89a: blocks, each a row of sub-blocks that an empty one ends."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from nebula_async.images.limits import MOST_GIF_PARTS, Size, acceptable, part_numbers

if TYPE_CHECKING:
    from nebula_async.images.pieces import Pieces, Steps

_SCREEN = struct.Struct("<6xHHB2x")
_PLACE = struct.Struct("<8xB")
_END, _EXTENSION, _PICTURE = b";!,"


def read_gif(pieces: Pieces) -> Steps[Size]:
    """Read a GIF from its first byte to its trailer."""
    width, height, flags = yield from pieces.gather(_SCREEN)
    size = acceptable(width, height)
    pieces.at += _colours_bytes(flags)
    if not (yield from _read_blocks(pieces)):
        raise ValueError("it is a GIF without picture data")
    return size


def _read_blocks(pieces: Pieces) -> Steps[bool]:
    """Read all blocks and their sub-blocks; return whether there was a picture among them."""
    pictured, in_row = False, False
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
            (flags,) = pieces.unpack(_PLACE) or (yield from pieces.gather(_PLACE))
            pieces.at += _colours_bytes(flags)
            pictured = True
        elif byte != _EXTENSION:
            raise ValueError("it is a GIF with a damaged block")
        pieces.at += 1  # the code size of a picture, or the label of an extension
        in_row = True
    return pictured


def _colours_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
