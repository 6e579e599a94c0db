"""Pictures to be recognised, and bytes to be refused: written by Pillow, or by hand where no writer writes such."""

# ruff: noqa: RUF001 - sizes are written with a real ×

from __future__ import annotations

import io
import struct
from zlib import crc32

from PIL import Image as Pillow
from PIL import features

from nebula_async.images.limits import MOST_GIF_PARTS, MOST_PARTS

SIZE = (19, 7)


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = SIZE, **options: object) -> bytes:
    """Return a small picture with some detail, written by Pillow."""
    gradient = Pillow.linear_gradient("L").resize(size).convert(mode)
    buffer = io.BytesIO()
    gradient.save(buffer, form, **options)
    return buffer.getvalue()


def animation(form: str) -> bytes:
    """Return a picture of three frames."""
    frames = [Pillow.new("RGB", SIZE, colour) for colour in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with a true checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a PNG of these chunks that claims a size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """Return a JPEG without coded data that claims a size."""
    return b"\xff\xd8\xff\xc0\x00\x08\x08" + struct.pack(">HHB", height, width, 1) + b"\xff\xda\x00\x02\xff\xd9"


def webp(kind: bytes, fields: bytes, *rest: bytes) -> bytes:
    """Return a WebP with a first chunk of these fields, and with others."""
    body = b"WEBP" + kind + struct.pack("<I", len(fields)) + fields + b"".join(rest)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def lossy_webp(width: int, height: int) -> bytes:
    """Return a WebP without coded data that claims a size, of 14 bits."""
    return webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height) + b"\0\0")


def lossless_webp(width: int, height: int) -> bytes:
    """Return a lossless WebP without coded data that claims a size, of 14 bits."""
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + b"\0")


def extended_webp(width: int, height: int) -> bytes:
    """Return a WebP of the extended form that claims a size, of 24 bits."""
    fields = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", fields, b"VP8L\0\0\0\0")


def gif(width: int, height: int, blocks: bytes = b"," + bytes(11)) -> bytes:
    """Return a GIF of these blocks that claims a size."""
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0" + blocks + b";"


def box(kind: bytes, *contents: bytes) -> bytes:
    """Return a box of AVIF."""
    return struct.pack(">I4s", 8 + sum(map(len, contents)), kind) + b"".join(contents)


def long_box(kind: bytes, *contents: bytes) -> bytes:
    """Return a box of AVIF whose length is written in 64 bits."""
    return struct.pack(">I4sQ", 1, kind, 16 + sum(map(len, contents))) + b"".join(contents)


def endless_box(kind: bytes, *contents: bytes) -> bytes:
    """Return a box of AVIF that goes on to the end, of the box or the file in which it lies."""
    return struct.pack(">I4s", 0, kind) + b"".join(contents)


AVIF_HEAD = box(b"ftyp", b"mif1\0\0\0\0avif")
AVIF_PIXELS = box(b"mdat", b"pixels")


def avif_size(width: int, height: int) -> bytes:
    """Return the property of AVIF that claims a size."""
    return box(b"ispe", struct.pack(">III", 0, width, height))


def avif(width: int, height: int) -> bytes:
    """Return an AVIF without coded data that claims a size."""
    properties = box(b"iprp", box(b"ipco", avif_size(width, height)))
    return AVIF_HEAD + box(b"meta", bytes(4), box(b"hdlr", b"pict"), properties) + AVIF_PIXELS


PICTURES = {
    "png-rgb": ("image/png", picture("PNG")),
    "png-rgba": ("image/png", picture("PNG", "RGBA")),
    "png-grey-alpha": ("image/png", picture("PNG", "LA")),
    "png-palette": ("image/png", picture("PNG", "P")),
    "png-bilevel": ("image/png", picture("PNG", "1")),
    "png-16-bit": ("image/png", picture("PNG", "I;16")),
    "png-animated": ("image/png", animation("PNG")),
    "jpeg": ("image/jpeg", picture("JPEG")),
    "jpeg-grey": ("image/jpeg", picture("JPEG", "L")),
    "jpeg-cmyk": ("image/jpeg", picture("JPEG", "CMYK")),
    "jpeg-progressive": ("image/jpeg", picture("JPEG", progressive=True)),
    "jpeg-progressive-cmyk-restarts": (
        "image/jpeg",
        picture("JPEG", "CMYK", progressive=True, restart_marker_blocks=1),
    ),
    "jpeg-restarts": ("image/jpeg", picture("JPEG", restart_marker_blocks=1)),
    "jpeg-thumbnail": ("image/jpeg", picture("JPEG", exif=b"Exif\x00\x00" + picture("JPEG", size=(4, 4)))),
    "webp": ("image/webp", picture("WEBP")),
    "webp-alpha": ("image/webp", picture("WEBP", "RGBA", exact=True)),
    "webp-lossless": ("image/webp", picture("WEBP", lossless=True)),
    "webp-lossless-alpha": ("image/webp", picture("WEBP", "RGBA", lossless=True)),
    "webp-metadata": ("image/webp", picture("WEBP", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00")),
    "webp-animated": ("image/webp", animation("WEBP")),
    "gif": ("image/gif", picture("GIF")),
    "gif-animated": ("image/gif", animation("GIF")),
}
if features.check("avif"):
    PICTURES |= {
        "avif": ("image/avif", picture("AVIF")),
        "avif-alpha": ("image/avif", picture("AVIF", "RGBA")),
        "avif-animated": ("image/avif", animation("AVIF")),
    }

PIXELS = chunk(b"IDAT", b"x")

CLAIMING = {
    "png": lambda width, height: png(width, height, PIXELS),
    "jpeg": jpeg,
    "webp-lossy": lossy_webp,
    "webp-lossless": lossless_webp,
    "webp-extended": extended_webp,
    "gif": gif,
    "avif": avif,
}
"""By form: how to make what claims to be a picture of some width and height."""

REFUSED = [
    (b"", "it is no picture (empty)"),
    (b" \n", "it is no picture (only white space)"),
    (b'<?xml version="1.0"?>\n<SVG xmlns="x"/>', "it is no picture (SVG)"),
    (b"\xef\xbb\xbf<!DOCTYPE html><title>502</title>", "it is no picture (HTML)"),
    (b'{"error": "caf\xc3\xa9"}', "it is no picture (text)"),
    (("é" * 600).encode()[:-1], "it is no picture (text)"),
    (b"BM\x36\x00\x00\x00", "it is no picture (unknown bytes beginning 42 4d 36 00…)"),
    (b"<\xff\x00", "it is no picture (unknown bytes beginning 3c ff 00…)"),
    (b"\x00\x00\x00\x14ftypheic\x00\x00\x00\x00heic", "it is no picture (unknown bytes beginning 00 00 00 14…)"),
    (b"\x89PNG\r\n\x1a\n", "it is a PNG cut short"),
    (b"\x89PNG\r\n\x1a\n" + PIXELS + chunk(b"IEND", b""), "it is a PNG without a header chunk"),
    (picture("PNG").replace(b"IDAT", b"IDAU"), "it is a PNG with a damaged chunk"),
    (png(5, 5, png(9_000, 9_000)[8:33], PIXELS), "it is a PNG with two header chunks"),
    (png(5, 5), "it is a PNG without picture data"),
    (png(0, 5, PIXELS), "it is 0 × 5 pixels, which shows nothing"),
    (png(20_000, 20_000, PIXELS), "it is 20000 × 20000 pixels, more than 64 megapixels"),
    (png(2**32 - 1, 2**32 - 1, PIXELS), "it is 4294967295 × 4294967295 pixels, more than 64 megapixels"),
    (b"\xff\xd8\xff\xd9", "it is a JPEG without picture data"),
    (b"\xff\xd8\xff\xe0\x00\x01\xff\xd9", "it is a JPEG with a damaged segment"),
    (b"\xff\xd8\xff\xc0\x00\x06\x08\x00\x05\x00\x05\xff\xda\x00\x02\xff\xd9", "it is a JPEG with a damaged segment"),
    (jpeg(5, 5)[:-6] + jpeg(60_000, 60_000)[2:], "it is a JPEG with two frames"),
    (webp(b"VP8X", b"", b"VP8L" + bytes(14)), "it is a WebP with a damaged chunk"),
    (b"RIFF\x04\x00\x00\x00WEBP", "it is a WebP without picture data"),
    (b"RIFF\x0c\x00\x00\x00WEBPVP8 \x01\x00\x00\x00", "it is a WebP with a damaged chunk"),
    (
        b"RIFF\x14\x00\x00\x00WEBPEXIF\x00\x00\x00\x00VP8 \x00\x00\x00\x00",
        "it is a WebP with an unknown first chunk",
    ),
    (b"RIFF\x16\x00\x00\x00WEBPVP8L\x0a\x00\x00\x00" + bytes(10), "it is a WebP with a damaged chunk"),
    (b"RIFF\x16\x00\x00\x00WEBPVP8 \x0a\x00\x00\x00" + bytes(10), "it is a WebP with a damaged chunk"),
    (b"GIF89a\x05\x00\x05\x00\x00\x00\x00;", "it is a GIF without picture data"),
    (b"GIF89a\x05\x00\x05\x00\x00\x00\x00?", "it is a GIF with a damaged block"),
    (
        b"\x00\x00\x00\x0cftypavif\x00\x00\x00\x08meta\x00\x00\x00\x08mdat",
        "it is 0 × 0 pixels, which shows nothing",
    ),
    (AVIF_HEAD + AVIF_PIXELS, "it is an AVIF cut short"),
    (AVIF_HEAD + endless_box(b"mdat", avif(5, 5)), "it is an AVIF cut short"),
    (avif(5, 5).removesuffix(AVIF_PIXELS), "it is an AVIF cut short"),
    (AVIF_HEAD + AVIF_PIXELS + endless_box(b"meta", bytes(4), box(b"iprp", bytes(9))[:-1]), "it is an AVIF cut short"),
    (AVIF_HEAD + struct.pack(">I4s", 7, b"meta"), "it is an AVIF with a damaged box"),
    (AVIF_HEAD + box(b"meta", bytes(4), struct.pack(">I4s", 9, b"iprp")), "it is an AVIF with a damaged box"),
    (
        AVIF_HEAD + box(b"meta", bytes(4), box(b"iprp", box(b"ipco", box(b"ispe", bytes(11))))) + AVIF_PIXELS,
        "it is an AVIF with a damaged box",
    ),
]

MANY, MANY_IN_GIF = MOST_PARTS + 1, MOST_GIF_PARTS + 1
COUNTLESS = {
    "png": picture("PNG")[:33] + chunk(b"teXt", b"") * MANY,
    "webp": b"RIFF" + struct.pack("<I", 4 + 8 * MANY) + b"WEBP" + b"JUNK\0\0\0\0" * MANY,
    "jpeg": b"\xff\xd8" + b"\xff\xfe\x00\x02" * MANY,
    "gif": gif(5, 5, b"," + bytes(9) + b"\x02" + b"\x01a" * MANY_IN_GIF),
    "gif-blocks": gif(5, 5, b"!\xff\0" * MANY_IN_GIF),
    "avif": AVIF_HEAD + box(b"free") * MANY,
    "avif-sizes": AVIF_HEAD + box(b"meta", bytes(4), box(b"iprp", box(b"ipco", avif_size(5, 5) * MANY))),
}
