"""The structure of PNG (third edition): chunks of length, type, data and CRC."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from zlib import crc32

from nebula_async.images.limits import Size, acceptable, part_numbers

if TYPE_CHECKING:
    from nebula_async.images.pieces import Pieces, Steps

_CHUNK = struct.Struct(">I4s")
_HEADER = struct.Struct(">13s")
_CHECKSUM = struct.Struct(">I")


def read_png(pieces: Pieces) -> Steps[Size]:
    """Read a PNG from its first byte to the end of IEND, its checksums verified."""
    pieces.at += 8
    if (yield from pieces.gather(_CHUNK)) != (_HEADER.size, b"IHDR"):
        raise ValueError("it is a PNG without a header chunk")
    (header,) = yield from pieces.gather(_HEADER)
    _verify((yield from pieces.gather(_CHECKSUM)), crc32(b"IHDR" + header))
    size = acceptable(*struct.unpack_from(">II", header))
    if not (yield from _read_chunks(pieces)):
        raise ValueError("it is a PNG without picture data")
    return size


def _read_chunks(pieces: Pieces) -> Steps[bool]:
    """Read all chunks after the header; return whether there was picture data among them."""
    pictured = False
    for _ in part_numbers():
        length, kind = pieces.unpack(_CHUNK) or (yield from pieces.gather(_CHUNK))
        if kind == b"IHDR":  # decoders would make room for the larger one
            raise ValueError("it is a PNG with two header chunks")
        checksum = crc32(kind)
        while length:
            if pieces.at >= pieces.size:
                yield from pieces.need()
            start, pieces.at = pieces.at, min(pieces.at + length, pieces.size)
            checksum = crc32(pieces.piece[start : pieces.at], checksum)
            length -= pieces.at - start
        _verify(pieces.unpack(_CHECKSUM) or (yield from pieces.gather(_CHECKSUM)), checksum)
        pictured = pictured or kind == b"IDAT"
        if kind == b"IEND":
            break
    return pictured


def _verify(stated: tuple[int, ...], checksum: int) -> None:
    if stated != (checksum,):
        raise ValueError("it is a PNG with a damaged chunk")
