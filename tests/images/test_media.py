"""Picture bytes are recognised by what is in them, and what is cut short or damaged is refused."""

# ruff: noqa: RUF001 - sizes are written with a real ×

from __future__ import annotations

import io
import struct
import time
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import features

from nebula_async.images.media import EXTENSIONS, MAX_PIXELS, MOST_PARTS, Media, read_media

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

every_picture = pytest.mark.parametrize(
    ("media_type", "data"), [pytest.param(*picture, id=name) for name, picture in PICTURES.items()]
)


@every_picture
def test_a_picture_is_recognised(media_type, data):
    """Type, extension and size come from the bytes, in every form and mode that Pillow writes."""
    assert Media(media_type, EXTENSIONS[media_type][0], *SIZE) == read_media(data)


@every_picture
def test_a_picture_cut_short_is_refused(media_type, data):
    """However few bytes are missing at the end, the picture is refused."""
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"cut short|no picture"):
            read_media(data[:length])


@pytest.mark.parametrize("name", ["png-rgb", "jpeg", "jpeg-progressive", "webp", "webp-animated", "gif"])
def test_what_follows_the_end_is_ignored(name):
    """Bytes that a camera or an editor put after the end of a picture do no harm, as in every viewer."""
    media_type, data = PICTURES[name]

    assert media_type == read_media(data + b"\x00appended\xff").media_type


@pytest.mark.parametrize("size", [(1, 1), (255, 256), (4097, 3)])
@pytest.mark.parametrize("options", [{"form": "PNG"}, {"form": "JPEG"}, {"form": "WEBP", "lossless": True}])
def test_sizes_are_exact(options, size):
    """Width and height are not mixed up, and are right in all their bits."""
    media = read_media(picture(size=size, **options))

    assert size == (media.width, media.height)


def test_any_flipped_bit_of_a_png_is_refused():
    """A PNG carries checksums: one wrong bit anywhere is noticed without decoding."""
    data = picture("PNG")
    for at in range(len(data)):
        with pytest.raises(ValueError, match="it is"):
            read_media(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])


PIXELS = chunk(b"IDAT", b"x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
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
        (png(5, 5), "it is a PNG without picture data"),
        (png(0, 5, PIXELS), "it is 0 × 5 pixels, which shows nothing"),
        (png(20_000, 20_000, PIXELS), "it is 20000 × 20000 pixels, more than 64 megapixels"),
        (png(2**32 - 1, 2**32 - 1, PIXELS), "it is 4294967295 × 4294967295 pixels, more than 64 megapixels"),
        (b"\xff\xd8\xff\xd9", "it is a JPEG without picture data"),
        (b"\xff\xd8\xff\xe0\x00\x01\xff\xd9", "it is a JPEG with a damaged segment"),
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
    ],
)
def test_the_reason_of_a_refusal_is_said(data, reason):
    """What is no picture, damaged or too large is refused with one short sentence that says so."""
    with pytest.raises(ValueError, match="it is") as refusal:
        read_media(data)

    assert reason == str(refusal.value)


def test_the_largest_picture_is_accepted():
    """The limit itself is allowed: 8192 × 8192 pixels."""
    assert Media("image/png", ".png", 8192, 8192) == read_media(png(8192, 8192, PIXELS))


@pytest.mark.parametrize("wrong", [-2, 2, 2**31])
def test_a_webp_with_a_wrong_riff_size_is_refused(wrong):
    """A WebP whose stated size does not fit its chunks was damaged on its way."""
    data = picture("WEBP")
    size = int.from_bytes(data[4:8], "little") + wrong
    with pytest.raises(ValueError, match=r"damaged chunk|cut short"):
        read_media(data[:4] + size.to_bytes(4, "little") + data[8:])


def test_a_long_avif_box_is_understood():
    """Boxes whose length is written in 64 bits, or not at all, are read like others."""
    size = struct.pack(">I4s", 20, b"ispe") + struct.pack(">III", 0, 640, 480)
    properties = struct.pack(">I4s", 8 + len(size), b"ipco") + size
    meta = bytes(4) + struct.pack(">I4s", 8 + len(properties), b"iprp") + properties
    boxes = struct.pack(">I4sQ", 1, b"meta", 16 + len(meta)) + meta + struct.pack(">I4s", 0, b"mdat") + b"pixels"

    assert Media("image/avif", ".avif", 640, 480) == read_media(b"\x00\x00\x00\x14ftypmif1\x00\x00\x00\x00avif" + boxes)


@given(
    st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBP", b"GIF89a", b"\0\0\0\x0cftypavif"]
    ),
    st.binary(max_size=200),
)
def test_arbitrary_bytes_raise_nothing_but_value_error(magic, data):
    """Whatever arrives, the answer is a picture's type and size or a `ValueError`."""
    read_or_refuse(magic + data)


@given(st.sampled_from(sorted(PICTURES)), st.data())
def test_mutated_pictures_raise_nothing_but_value_error(name, choose):
    """A picture with some bytes replaced, removed or doubled is read or refused, and never an accident."""
    data = PICTURES[name][1]
    start = choose.draw(st.integers(0, len(data)))
    end = choose.draw(st.integers(start, min(start + 9, len(data))))
    read_or_refuse(data[:start] + choose.draw(st.binary(max_size=9)) + data[end:])


def read_or_refuse(data: bytes) -> None:
    """Read the bytes; hold the answer to its bounds."""
    try:
        media = read_media(data)
    except ValueError as refusal:
        said = str(refusal)
    else:
        said = f"it is {media.media_type}"
        assert media.width * media.height in range(1, MAX_PIXELS + 1)
    assert said.startswith("it is ")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 2**21,
        b"\xff\xd8\xff\xda\x00\x02" + b"\xff\x00" * 2**20,
        b"<" * 2**21,
        b"GIF89a\x01\x00\x01\x00\x00\x00\x00!\x00" + b"\x01a" * 2**20,
    ],
    ids=["jpeg-fill", "jpeg-stuffing", "text", "gif"],
)
def test_hostile_bytes_take_linear_time(data):
    """Bytes made to be searched again and again are refused at once: a quadratic search would take hours."""
    started = time.perf_counter()
    with pytest.raises(ValueError, match="it is"):
        read_media(data)

    assert time.perf_counter() - started < 5


def test_extensions_are_told_apart():
    """Each extension belongs to one media type, so a file name tells the type."""
    extensions = [extension for group in EXTENSIONS.values() for extension in group]

    assert sorted(set(extensions)) == sorted(extensions)


MANY = MOST_PARTS + 1
COUNTLESS = {
    "png": picture("PNG")[:33] + chunk(b"teXt", b"") * MANY,
    "webp": b"RIFF" + struct.pack("<I", 4 + 8 * MANY) + b"WEBP" + b"JUNK\0\0\0\0" * MANY,
    "jpeg": b"\xff\xd8" + b"\xff\xfe\x00\x02" * MANY,
}


@pytest.mark.parametrize("kind", COUNTLESS)
def test_a_picture_of_countless_parts_is_refused(kind):
    """A large file of nothing but tiny parts is no picture, and is not read to its end (B35)."""
    with pytest.raises(ValueError, match=f"more than {MOST_PARTS} parts"):
        read_media(COUNTLESS[kind])
