"""Where PNG, JPEG and WebP files hold their XMP packet, and another one in its place: no pixel is touched.

PNG, third edition, 11.3.3.1, and XMP part 3, 1.1.5: an `iTXt` chunk of the keyword `XML:com.adobe.xmp`. JPEG, XMP
part 3, 1.1.3: an APP1 segment. WebP, RFC 9649, 2.7.1.5: an `XMP ` chunk, which the `VP8X` header announces.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from zlib import crc32

from attrs import frozen

from nebula_async.images.limits import MOST_PARTS
from nebula_async.images.media import read_media

MAX_PACKET = 2**20
"""Bytes. What others have put into a picture is read no further than that."""

MAX_JPEG_PACKET = 65_502
"""Bytes: what a segment of 64 KiB holds beside its length and the name of XMP."""


@frozen
class Slot:
    """The place of XMP in a file: `data[start:end]` is its chunk, empty where none is; `packet` is what it holds."""

    start: int
    end: int
    packet: bytes | None = None


def read_packet(data: bytes) -> bytes | None:
    """Return the XMP packet of a picture, `None` where it has none that could be read or its type takes none.

    Raises `ValueError` for what is no whole picture.
    """
    container = _CONTAINERS.get(read_media(data).media_type)
    packet = container.find(data).packet if container else None
    return packet if packet and len(packet) <= MAX_PACKET else None


def replace_packet(data: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
    """Return the picture with `change(packet)` for its XMP packet; all other bytes stay, but for the header of a WebP.

    Raises `ValueError` for what is no whole picture, for a type that takes no XMP here, and for too much of it.
    """
    media = read_media(data)
    container = _CONTAINERS.get(media.media_type)
    if container is None:
        raise ValueError(f"the picture is {media.media_type}; only PNG, JPEG and WebP can say how they were made")
    slot = container.find(data)
    if slot.packet is not None and len(slot.packet) > MAX_PACKET:
        raise ValueError(f"its {len(slot.packet)} bytes of XMP are too many to be added to; save it without provenance")
    packet = change(slot.packet)
    if len(packet) > container.max_packet:
        limit = f"{media.media_type} holds {container.max_packet} in one piece"
        raise ValueError(f"that takes {len(packet)} bytes, and {limit}; save it without provenance")
    return container.put(data, slot, packet)


def _limited(parts: Iterator[tuple[bytes, int, int]]) -> Iterator[tuple[bytes, int, int]]:
    yield from islice(parts, MOST_PARTS)


# PNG: chunks of length, type, data and CRC.

_PNG_HEADER_END = 33
_PNG_XMP = b"XML:com.adobe.xmp\0"
_PNG_UNCOMPRESSED = b"\0\0"
_PNG_CHUNK = struct.Struct(">I4s")


def _find_in_png(data: bytes) -> Slot:
    for kind, start, end in _limited(_png_chunks(data)):
        if kind == b"iTXt" and data.startswith(_PNG_XMP, start + 8):
            return Slot(start, end, _png_text(data, start + 8 + len(_PNG_XMP), end - 4))
    return Slot(_PNG_HEADER_END, _PNG_HEADER_END)


def _png_text(data: bytes, start: int, end: int) -> bytes:
    """Return the text after compression flag and method, language and translated keyword; of a compressed one none."""
    if data[start : start + 2] != _PNG_UNCOMPRESSED:
        return b""
    _language, _, rest = data[start + 2 : end].partition(b"\0")
    return rest.partition(b"\0")[2]


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = _PNG_CHUNK.unpack_from(data, at)
        end = at + length + 12
        yield kind, at, end
        at = end


def _put_into_png(data: bytes, slot: Slot, packet: bytes) -> bytes:
    content = b"iTXt" + _PNG_XMP + _PNG_UNCOMPRESSED + b"\0\0" + packet  # neither language nor translated keyword
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", crc32(content))
    return _spliced(data, slot, chunk)


# JPEG: segments of marker, length and data, before the first scan.

_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_APP0, _JPEG_APP1, _JPEG_END, _JPEG_SCAN = b"\xe0", b"\xe1", b"\xd9", b"\xda"


def _find_in_jpeg(data: bytes) -> Slot:
    place, is_leading = 2, True
    for marker, start, end in _limited(_jpeg_segments(data)):
        if marker == _JPEG_APP1 and data.startswith(_JPEG_XMP, start + 4):
            return Slot(start, end, data[start + 4 + len(_JPEG_XMP) : end])
        is_leading = is_leading and marker in (_JPEG_APP0, _JPEG_APP1)  # JFIF and Exif want to come first
        place = end if is_leading else place
    return Slot(place, place)


def _jpeg_segments(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = 2
    while (found := _JPEG_MARKER.search(data, at)) is not None:
        marker, start = data[found.end() - 1 : found.end()], found.start()
        if marker in (_JPEG_SCAN, _JPEG_END):
            return
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
        yield marker, start, at


def _put_into_jpeg(data: bytes, slot: Slot, packet: bytes) -> bytes:
    content = _JPEG_XMP + packet
    return _spliced(data, slot, b"\xff" + _JPEG_APP1 + struct.pack(">H", len(content) + 2) + content)


# WebP: a RIFF of chunks of type, length and data; each begins at an even place.

_WEBP_HEADER = 12
_WEBP_CHUNK = struct.Struct("<4sI")
_WEBP_BEFORE_XMP = frozenset({b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L", b"EXIF"})
_WEBP_HAS_XMP, _WEBP_HAS_ALPHA = 0x04, 0x10


def _find_in_webp(data: bytes) -> Slot:
    place = _WEBP_HEADER
    for kind, start, end in _limited(_webp_chunks(data)):
        if kind == b"XMP ":
            (length,) = struct.unpack_from("<I", data, start + 4)
            return Slot(start, end, data[start + 8 : start + 8 + length])
        place = end if kind in _WEBP_BEFORE_XMP else place
    return Slot(place, place)


def _webp_end(data: bytes) -> int:
    (length,) = struct.unpack_from("<I", data, 4)
    return 8 + int(length)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of each chunk; the last one's end may be past that of the file: its padding lacks."""
    at, last = _WEBP_HEADER, _webp_end(data)
    while at < last:
        kind, length = _WEBP_CHUNK.unpack_from(data, at)
        end = at + _WEBP_CHUNK.size + length + (length & 1)
        yield kind, at, end
        at = end


def _put_into_webp(data: bytes, slot: Slot, packet: bytes) -> bytes:
    before = data[_WEBP_HEADER : min(slot.start, _webp_end(data))]
    before = before.ljust(slot.start - _WEBP_HEADER, b"\0")
    chunk = _WEBP_CHUNK.pack(b"XMP ", len(packet)) + packet + b"\0" * (len(packet) & 1)
    content = b"WEBP" + _announced(before) + chunk + data[slot.end : _webp_end(data)]
    return _WEBP_CHUNK.pack(b"RIFF", len(content)) + content + data[_webp_end(data) :]


def _announced(chunks: bytes) -> bytes:
    """Return the chunks with a header that says that there is XMP: their own, or a new one of a file without it."""
    if chunks.startswith(b"VP8X"):
        return chunks[:8] + bytes([chunks[8] | _WEBP_HAS_XMP]) + chunks[9:]
    width, height, alpha = _lossless_facts(chunks) if chunks.startswith(b"VP8L") else _lossy_facts(chunks)
    flags = _WEBP_HAS_XMP | (_WEBP_HAS_ALPHA if alpha else 0)
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _WEBP_CHUNK.pack(b"VP8X", 10) + bytes([flags, 0, 0, 0]) + size + chunks


def _lossy_facts(chunks: bytes) -> tuple[int, int, bool]:
    width, height = struct.unpack_from("<HH", chunks, 14)
    return width & 0x3FFF, height & 0x3FFF, False  # the two bits above are a scale for display


def _lossless_facts(chunks: bytes) -> tuple[int, int, bool]:
    (bits,) = struct.unpack_from("<I", chunks, 9)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)


def _spliced(data: bytes, slot: Slot, chunk: bytes) -> bytes:
    view = memoryview(data)
    return b"".join((view[: slot.start], chunk, view[slot.end :]))


@frozen
class _Container:
    find: Callable[[bytes], Slot]
    put: Callable[[bytes, Slot, bytes], bytes]
    max_packet: int = MAX_PACKET


_CONTAINERS: Mapping[str, _Container] = {
    "image/png": _Container(_find_in_png, _put_into_png),
    "image/jpeg": _Container(_find_in_jpeg, _put_into_jpeg, MAX_JPEG_PACKET),
    "image/webp": _Container(_find_in_webp, _put_into_webp),
}
