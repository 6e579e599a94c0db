"""What picture bytes are: type, size in pixels, and whether they are complete. Headers are read, nothing is decoded."""

from __future__ import annotations

import codecs
import re
import struct
from itertools import islice
from typing import TYPE_CHECKING, TypeVar
from zlib import crc32

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

EXTENSIONS: Mapping[str, tuple[str, ...]] = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/webp": (".webp",),
    "image/gif": (".gif",),
    "image/avif": (".avif",),
}
"""The file name extensions of each media type; the first is the preferred one."""

SUFFIXES = tuple(suffix for suffixes in EXTENSIONS.values() for suffix in suffixes)

MAX_PIXELS = 64 * 2**20
"""Larger pictures are refused: a few kilobytes of PNG can ask a decoder for gigabytes."""

MOST_PARTS, MOST_GIF_PARTS = 100_000, 1_000_000
"""Many small parts take long to read. Real pictures have some thousands; those of a GIF have 255 bytes at most."""

Part = TypeVar("Part")


@frozen
class Media:
    """What picture bytes are: media type, preferred extension (with its dot), width and height in pixels."""

    media_type: str
    extension: str
    width: int
    height: int


def read_media(data: bytes) -> Media:
    """Return the type and size of a complete PNG, JPEG, WebP, GIF or AVIF.

    Raises `ValueError` with one short reason ("it is a PNG cut short"), and nothing else, whatever the bytes are. What
    follows the end of a picture is ignored, as by decoders. Takes some milliseconds for 30 MB, mostly for checksums.
    """
    form = next((form for form in _FORMS if form.magic.match(data)), None)
    if form is None:
        raise ValueError(f"it is no picture ({_describe(data)})")
    try:
        width, height = form.read_size(data)
    except (IndexError, struct.error):  # something was to follow, and the bytes are over
        raise ValueError(f"it is {form.name} cut short") from None
    if not 0 < width * height <= MAX_PIXELS:
        limit = f"more than {MAX_PIXELS >> 20} megapixels" if width * height else "which shows nothing"
        raise ValueError(f"it is {width} × {height} pixels, {limit}")  # noqa: RUF001 - a real ×
    return Media(form.media_type, EXTENSIONS[form.media_type][0], width, height)


def _limited(parts: Iterator[Part], most: int = MOST_PARTS) -> Iterator[Part]:
    yield from islice(parts, most)
    for _ in parts:
        raise ValueError(f"it is made of more than {most} parts")


def _describe(data: bytes) -> str:
    head = data[:1024]
    text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if not text:
        return "only white space" if data else "empty"
    if b"<svg" in text:
        return "SVG"
    if b"<html" in text or text.startswith(b"<!doctype html"):
        return "HTML"
    return "text" if _is_text(head) else f"unknown bytes beginning {head[:4].hex(' ')}…"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut in two
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char.isspace() for char in text)


# PNG, third edition: chunks of length, type, data and CRC.

_PNG_CHUNK = struct.Struct(">I4s")
_TWO_LONGS = struct.Struct(">II")
_LONG = struct.Struct(">I")


def _png_size(data: bytes) -> tuple[int, int]:
    if data[8:16] != b"\x00\x00\x00\rIHDR" and len(data) >= 16:
        raise ValueError("it is a PNG without a header chunk")
    if not sum(kind == b"IDAT" for kind in _limited(_png_chunks(data))):
        raise ValueError("it is a PNG without picture data")
    width, height = _TWO_LONGS.unpack_from(data, 16)
    return width, height


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """Yield the type of each chunk up to IEND, its checksum verified."""
    view, at, kind = memoryview(data), 8, b""
    while kind != b"IEND":
        length, kind = _PNG_CHUNK.unpack_from(data, at)
        end = at + _PNG_CHUNK.size + length
        (checksum,) = _LONG.unpack_from(data, end)
        if crc32(view[at + 4 : end]) != checksum:
            raise ValueError("it is a PNG with a damaged chunk")
        yield kind
        at = end + _LONG.size


# JPEG, ITU-T T.81, annex B: markers, most with a segment of stated length.

_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A marker that ends coded data: not a stuffed zero, a restart, TEM or a fill byte. One byte of look-ahead: linear."""

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA
_JPEG_END = 0xD9
_JPEG_SEGMENT = struct.Struct(">H")
_JPEG_FRAME = struct.Struct(">3xHH")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    size, scanned = None, False
    for marker, at in _limited(_jpeg_segments(data)):
        if marker in _JPEG_FRAMES and size is None:
            height, width = _JPEG_FRAME.unpack_from(data, at)
            size = width, height
        scanned = scanned or marker == _JPEG_SCAN
    if size is None or not scanned:
        raise ValueError("it is a JPEG without picture data")
    return size


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and place of each segment up to the end marker; what is between segments is skipped."""
    at = 2
    while True:
        found = _JPEG_MARKER.search(data, at)
        if found is None:
            raise IndexError
        marker, at = data[found.end() - 1], found.end()
        if marker == _JPEG_END:
            return
        (length,) = _JPEG_SEGMENT.unpack_from(data, at)
        if length < _JPEG_SEGMENT.size:
            raise ValueError("it is a JPEG with a damaged segment")
        yield marker, at
        at += length


# WebP, RFC 9649: a RIFF of chunks; the first one tells the size.

_RIFF_CHUNK = struct.Struct("<4sI")
_WEBP_PICTURES = frozenset({b"VP8 ", b"VP8L", b"ANMF"})


def _webp_size(data: bytes) -> tuple[int, int]:
    _, length = _RIFF_CHUNK.unpack_from(data)
    if 8 + length > len(data):
        raise IndexError
    if not sum(kind in _WEBP_PICTURES for kind in _limited(_webp_chunks(data, 8 + length))):
        raise ValueError("it is a WebP without picture data")
    return _WEBP_SIZES.get(data[12:16], _webp_unknown)(data)


def _webp_chunks(data: bytes, end: int) -> Iterator[bytes]:
    at = 12
    while at < end:
        kind, length = _RIFF_CHUNK.unpack_from(data, at)
        at += _RIFF_CHUNK.size + length
        if at > end:
            raise ValueError("it is a WebP with a damaged chunk")
        yield kind
        at += length & 1  # chunks begin at even places


def _webp_lossy_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 26)
    if data[23:26] != b"\x9d\x01\x2a":
        raise ValueError("it is a WebP with a damaged chunk")
    return width & 0x3FFF, height & 0x3FFF  # the two bits above are a scale for display


def _webp_lossless_size(data: bytes) -> tuple[int, int]:
    (bits,) = struct.unpack_from("<I", data, 21)
    if data[20] != 0x2F:
        raise ValueError("it is a WebP with a damaged chunk")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _webp_extended_size(data: bytes) -> tuple[int, int]:
    low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
    return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1


def _webp_unknown(_data: bytes) -> tuple[int, int]:
    raise ValueError("it is a WebP with an unknown first chunk")


_WEBP_SIZES = {b"VP8 ": _webp_lossy_size, b"VP8L": _webp_lossless_size, b"VP8X": _webp_extended_size}


# GIF89a: blocks, each a row of sub-blocks that an empty one ends.

_GIF_END, _GIF_EXTENSION, _GIF_PICTURE = b";!,"


def _gif_size(data: bytes) -> tuple[int, int]:
    width, height, _ = struct.unpack_from("<HHB", data, 6)
    if not sum(_limited(_gif_parts(data), MOST_GIF_PARTS)):
        raise ValueError("it is a GIF without picture data")
    return width, height


def _gif_parts(data: bytes) -> Iterator[bool]:
    """Yield for each block whether it is a picture, and something for each of its sub-blocks."""
    at = 13 + _gif_colours_bytes(data[10])
    while (block := data[at]) != _GIF_END:
        if block not in (_GIF_EXTENSION, _GIF_PICTURE):
            raise ValueError("it is a GIF with a damaged block")
        yield block == _GIF_PICTURE
        # an extension has a label, a picture its place, its colours and a code size before the sub-blocks
        at += 2 if block == _GIF_EXTENSION else 11 + _gif_colours_bytes(data[at + 9])
        while length := data[at]:
            yield False
            at += length + 1
        at += 1


def _gif_colours_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


# AVIF: the boxes of ISO/IEC 14496-12, and the size property (ispe) of ISO/IEC 23008-12.

_AVIF_BOX = struct.Struct(">I4s")
_AVIF_LONG_SIZE = struct.Struct(">Q")


def _avif_size(data: bytes) -> tuple[int, int]:
    boxes = {kind: place for kind, *place in _limited(_avif_boxes(data, 0, len(data))) if kind in (b"meta", b"mdat")}
    if len(boxes) < 2:
        raise IndexError
    # the tiles, thumbnail and alpha of a picture have sizes too, and none is larger
    return max(_avif_sizes(data, *boxes[b"meta"]), key=lambda size: size[0] * size[1], default=(0, 0))


def _avif_sizes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    for properties in _avif_find(data, start + 4, end, b"iprp"):  # four bytes of version and flags come first
        for container in _avif_find(data, *properties, b"ipco"):
            for at, _ in _avif_find(data, *container, b"ispe"):
                width, height = _TWO_LONGS.unpack_from(data, at + 4)
                yield width, height


def _avif_find(data: bytes, start: int, end: int, wanted: bytes) -> Iterator[tuple[int, int]]:
    return ((first, last) for kind, first, last in _limited(_avif_boxes(data, start, end)) if kind == wanted)


def _avif_boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while at < end:
        length, kind = _AVIF_BOX.unpack_from(data, at)
        start = at + _AVIF_BOX.size
        if length == 1:
            (length,) = _AVIF_LONG_SIZE.unpack_from(data, start)
            start += _AVIF_LONG_SIZE.size
        after = at + length if length else end  # no length: up to the end
        if not start <= after <= end:
            raise IndexError
        yield kind, start, after
        at = after


@frozen
class _Form:
    name: str
    media_type: str
    magic: re.Pattern[bytes]
    read_size: Callable[[bytes], tuple[int, int]]


_FORMS = (
    _Form("a PNG", "image/png", re.compile(rb"\x89PNG\r\n\x1a\n"), _png_size),
    _Form("a JPEG", "image/jpeg", re.compile(rb"\xff\xd8\xff"), _jpeg_size),
    _Form("a WebP", "image/webp", re.compile(rb"(?s)RIFF....WEBP"), _webp_size),
    _Form("a GIF", "image/gif", re.compile(rb"GIF8[79]a"), _gif_size),
    _Form("an AVIF", "image/avif", re.compile(rb"(?s)....ftyp(?:....){0,16}?avi[fs]"), _avif_size),  # any of its brands
)
