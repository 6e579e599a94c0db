"""PNG files of noise, of any size in bytes: real, complete pictures that no encoder is needed for."""

from __future__ import annotations

import struct
import zlib
from math import isqrt
from random import Random

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNK_BYTES = 64 * 1024
"""How much picture data a chunk holds, as Pillow writes it."""

COMMENT = b"Comment\0"
RGB = struct.pack(">5B", 8, 2, 0, 0, 0)
"""Eight bits a channel, red, green and blue, not interlaced."""


def noise_png(size: int) -> bytes:
    """Return a PNG of `size` bytes, always the same; where that is too few for one, the smallest there is.

    The picture data is stored, not compressed, which noise could not be; a comment fills up what is missing.
    """
    width = max(1, min(1024, isqrt(max(0, size - 128) // 3)))
    row = 1 + 3 * width  # a filter byte, then the pixels
    height = max(1, (size - 128 - size // 1000) // row)  # a thousandth is more than the frames of chunks and blocks
    pixels = bytearray(Random(size).randbytes(height * row))  # noqa: S311 - noise that is the same in every run
    pixels[::row] = bytes(height)
    data = zlib.compress(pixels, 0)
    header = _chunk(b"IHDR", struct.pack(">II", width, height) + RGB)
    parts = [_chunk(b"IDAT", data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)]
    picture = [SIGNATURE, header, *parts, _chunk(b"IEND", b"")]
    missing = size - sum(map(len, picture)) - len(_chunk(b"tEXt", COMMENT))
    if missing >= 0:
        picture.insert(2, _chunk(b"tEXt", COMMENT + b"x" * missing))
    return b"".join(picture)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
