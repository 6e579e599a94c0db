"""Picture bytes: type and size or one refusal, the same in any pieces, beside what Pillow says of them."""

from __future__ import annotations

import io
import struct
import warnings
from zlib import crc32

from PIL import Image as Pillow
from PIL import UnidentifiedImageError
from reference import in_pieces_of
from specimens import PICTURES, REFUSED

from nebula_async.images.media import Media, MediaReader, read_media
from targets import same

REFERENCE = "Pillow"

PILLOWS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "AVIF": "image/avif"}
SIGNATURE = b"\x89PNG\r\n\x1a\n"

WORDS = [
    SIGNATURE, b"\xff\xd8\xff", b"RIFF", b"WEBP", b"GIF89a", b"\0\0\0\x1cftypavif", b"IHDR", b"IDAT", b"IEND", b"iTXt",
    b"VP8 ", b"VP8L", b"VP8X", b"ANMF", b"\xff\xda", b"\xff\xd9", b"\xff\xc0\0\x0b\x08", b"\x9d\x01\x2a", b"meta",
    b"iprp", b"ipco", b"ispe", b"mdat", b"\0\0\0\1", b"\0\0\0\0", b"\xff\xff\xff\xff", b"!\xfe", b",", b";", b"<svg",
]  # fmt: skip

SEEDS = [data for _, data in PICTURES.values()] + [data for data, _ in REFUSED if len(data) < 1024]


def check(data: bytes) -> None:
    """Read bytes as they are, and as a PNG whose checksums are true: those a search would never find."""
    check_bytes(data)
    if data.startswith(SIGNATURE):
        check_bytes(with_checksums(data))


def check_bytes(data: bytes) -> None:
    """Read bytes whole, in pieces, and by Pillow."""
    found = read(data, len(data) or 1)
    same(found, read(data, 1), data)
    same(found, read(data, 61), data)
    if isinstance(found, Media):
        same(found, read_media(data), data)
        for theirs in by_pillow(data):
            same(theirs, (found.media_type, found.width, found.height), data)


def read(data: bytes, size: int) -> Media | str:
    """Return what a reader says of bytes that come in pieces of a size."""
    reader = MediaReader()
    try:
        for piece in in_pieces_of(size, data):
            reader.feed(piece)
        return reader.finish()
    except ValueError as refusal:
        return str(refusal)


def by_pillow(data: bytes) -> list[tuple[str, int, int]]:
    """Return what Pillow says of a picture, nothing where it does not know it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP", "GIF"]) as picture:
                return [(PILLOWS[str(picture.format)], *picture.size)]
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error, IndexError, TypeError, EOFError):
        return []
    except Pillow.DecompressionBombError:
        return []


def with_checksums(data: bytes) -> bytes:
    """Return a PNG with the checksums that its chunks have to have."""
    repaired, at = bytearray(data), len(SIGNATURE)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            break
        repaired[end : end + 4] = struct.pack(">I", crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(repaired)
