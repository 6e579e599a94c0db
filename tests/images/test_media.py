"""Picture bytes are recognised by what is in them, and what is cut short or damaged is refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specimens import (
    AVIF_HEAD,
    AVIF_PIXELS,
    CLAIMING,
    COUNTLESS,
    PICTURES,
    PIXELS,
    REFUSED,
    SIZE,
    avif_size,
    box,
    chunk,
    endless_box,
    gif,
    long_box,
    picture,
    png,
)

from nebula_async.images.image import read_image
from nebula_async.images.limits import MAX_PIXELS, MOST_PARTS
from nebula_async.images.media import EXTENSIONS, Media, read_media

every_picture = pytest.mark.parametrize(
    ("media_type", "data"), [pytest.param(*picture, id=name) for name, picture in PICTURES.items()]
)


@every_picture
def test_a_picture_is_recognised(media_type, data):
    """Type, extension and size come from the bytes, in every form and mode that Pillow writes."""
    assert Media(media_type, EXTENSIONS[media_type][0], *SIZE) == read_media(data)


@every_picture
def test_a_picture_cut_short_is_refused(media_type, data):
    """However few bytes are missing at the end, the picture is refused (B33)."""
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
    """A PNG carries checksums: one wrong bit anywhere is noticed without decoding (B33)."""
    data = picture("PNG")
    for at in range(len(data)):
        with pytest.raises(ValueError, match="it is"):
            read_media(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])


@pytest.mark.parametrize(
    ("data", "reason"),
    [pytest.param(data, reason, id=f"{number}") for number, (data, reason) in enumerate(REFUSED)],
)
def test_the_reason_of_a_refusal_is_said(data, reason):
    """What is no picture, damaged or too large is refused with one short sentence that says so (B32, B33)."""
    with pytest.raises(ValueError, match="it is") as refusal:
        read_media(data)

    assert reason == str(refusal.value)


@pytest.mark.parametrize("form", CLAIMING)
def test_the_largest_picture_is_accepted(form):
    """The limit itself is allowed in every form: 8192 × 8192 pixels."""
    media = read_media(CLAIMING[form](8192, 8192))

    assert (8192, 8192) == (media.width, media.height)


@pytest.mark.parametrize("size", [(8192, 8193), (8193, 8192), (16_383, 16_383)])
@pytest.mark.parametrize("form", CLAIMING)
def test_a_picture_larger_than_the_limit_is_refused(form, size):
    """Above 64 megapixels a picture is refused in every form: a few bytes may ask a decoder for gigabytes (B34)."""
    with pytest.raises(ValueError, match=rf"^it is {size[0]} . {size[1]} pixels, more than 64 megapixels$"):
        read_media(CLAIMING[form](*size))


@pytest.mark.parametrize("form", ["png", "jpeg", "webp-lossy", "gif", "avif"])
def test_a_picture_without_pixels_is_refused(form):
    """Where a form can say that a picture is nothing wide or high, it is refused."""
    for size in [(0, 5), (5, 0)]:
        with pytest.raises(ValueError, match=r"pixels, which shows nothing$"):
            read_media(CLAIMING[form](*size))


@pytest.mark.parametrize("wrong", [-2, 2, 2**31])
def test_a_webp_with_a_wrong_riff_size_is_refused(wrong):
    """A WebP whose stated size does not fit its chunks was damaged on its way (B33)."""
    data = picture("WEBP")
    size = int.from_bytes(data[4:8], "little") + wrong
    with pytest.raises(ValueError, match=r"damaged chunk|cut short"):
        read_media(data[:4] + size.to_bytes(4, "little") + data[8:])


PROPERTIES = box(b"ipco", avif_size(320, 240), avif_size(640, 480), avif_size(64, 480))


@pytest.mark.parametrize(
    "boxes",
    [
        long_box(b"meta", bytes(4), long_box(b"iprp", PROPERTIES)) + endless_box(b"mdat", b"pixels"),
        box(b"meta", bytes(4), endless_box(b"iprp", PROPERTIES)) + long_box(b"mdat", b"pixels"),
        AVIF_PIXELS + endless_box(b"meta", bytes(4), box(b"hdlr"), box(b"iprp", PROPERTIES), endless_box(b"free")),
        AVIF_PIXELS + endless_box(b"meta", bytes(4), endless_box(b"iprp", PROPERTIES)),
    ],
    ids=["long-endless", "endless-within", "endless-meta", "endless-all"],
)
def test_any_length_of_an_avif_box_is_understood(boxes):
    """Boxes whose length is written in 64 bits, or not at all, are read like others; the largest size is the size."""
    assert Media("image/avif", ".avif", 640, 480) == read_media(AVIF_HEAD + boxes)


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


@pytest.mark.parametrize("kind", COUNTLESS)
def test_a_picture_of_countless_parts_is_refused(kind):
    """A large file of nothing but tiny parts is no picture, and is not read to its end (B35)."""
    with pytest.raises(ValueError, match=r"^it is made of more than [0-9]+ parts$"):
        read_media(COUNTLESS[kind])


def test_a_picture_of_very_many_parts_is_accepted():
    """Many parts alone are no fault: an animation of a thousand pictures, each in a hundred parts, is read (B35)."""
    frame = b"," + bytes(9) + b"\x02" + b"\x01a" * 100 + b"\0"

    assert Media("image/gif", ".gif", 5, 5) == read_media(gif(5, 5, frame * 1000))
    assert Media("image/png", ".png", 5, 5) == read_media(png(5, 5, PIXELS * (MOST_PARTS - 1)))


@pytest.mark.parametrize(
    "more", [chunk(b"iTXt", b"note\0\0\0\0\0" + b"x" * 2**23), chunk(b"eXIf", bytes(2**23))], ids=["iTXt", "eXIf"]
)
def test_a_picture_of_very_much_text_is_kept_as_it_is(more):
    """Text and camera data of megabytes are no fault, and none of it is read, or left out (B35)."""
    data = png(5, 5, more, PIXELS)

    assert (data, 5) == ((kept := read_image(data)).data, kept.width)
