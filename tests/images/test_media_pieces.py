"""A picture is checked while it arrives: whatever the pieces, with the same answer, early, and in little memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
from itertools import pairwise, repeat
from zlib import crc32

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
    avif,
    avif_size,
    box,
    gif,
    jpeg,
    png,
)

from nebula_async.images.media import Media, MediaReader, read_media

WHOLE = [data for _, data in PICTURES.values()]
every_form = pytest.mark.parametrize("form", CLAIMING)


def split(data: bytes, length: int) -> list[memoryview]:
    """Return the bytes in pieces of one length."""
    view = memoryview(data)
    return [view[start : start + length] for start in range(0, len(data), length)]


def answer(pieces) -> Media | str:
    """Return what is said of a picture that arrives in these pieces: what it is, or why it is refused."""
    reader = MediaReader()
    try:
        for piece in pieces:
            reader.feed(piece)
        return reader.finish()
    except ValueError as refusal:
        return str(refusal)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, (_, data) in PICTURES.items()])
def test_a_picture_in_small_pieces_is_the_same_picture(data, length):
    """However small the pieces are, down to single bytes, a picture is recognised as if it came in one."""
    assert read_media(data) == answer(split(data, length))


@pytest.mark.parametrize(
    ("data", "reason"),
    [pytest.param(data, reason, id=f"{number}") for number, (data, reason) in enumerate(REFUSED)],
)
def test_a_refusal_is_the_same_in_single_bytes(data, reason):
    """The reason of a refusal does not depend on the pieces either."""
    assert reason == answer(split(data, 1))


@pytest.mark.parametrize("kind", COUNTLESS)
def test_countless_parts_in_small_pieces_are_refused(kind):
    """Many small parts in many small pieces are refused as in one piece, and in no more than some seconds."""
    started = time.perf_counter()

    assert "parts" in answer(split(COUNTLESS[kind], 101))
    assert time.perf_counter() - started < 10


@given(st.sampled_from([*WHOLE, *(data for data, _ in REFUSED)]), st.data())
def test_the_answer_does_not_depend_on_the_pieces(data, choose):
    """A picture, whole or with bytes replaced, removed, added or cut off, gets one answer, wherever it is cut."""
    places = st.integers(0, len(data))
    start, end = sorted((choose.draw(places), choose.draw(places)))
    changed = data[:start] + choose.draw(st.binary(max_size=9)) + data[min(end, start + 9) :]
    data = changed[: choose.draw(st.integers(0, len(changed) + 9))] if choose.draw(st.booleans()) else changed
    cuts = sorted(choose.draw(st.sets(st.integers(0, len(data)), max_size=30)))

    whole = answer([data])
    assert whole == answer(data[first:last] for first, last in pairwise([0, *cuts, len(data)]))
    assert whole == answer(split(data, 1))


@every_form
def test_a_picture_too_large_is_refused_before_it_has_come(form):
    """The size stands in the first bytes, and no more than these are taken of a picture that is too large (B34)."""
    data = CLAIMING[form](16_000, 16_000)
    with pytest.raises(ValueError, match="more than 64 megapixels"):
        MediaReader().feed(data[:-1])


@pytest.mark.parametrize(
    "start",
    [
        b"<!doctype html><p>502</p>" + b" " * 1024,
        b"\x89PNG\r\n\x1a\n" + PIXELS,
        png(5, 5, PIXELS.replace(b"x", b"y"))[:-12],
        b"\xff\xd8\xff\xe0\x00\x01",
        b"RIFF\xff\0\0\0WEBPVP8L\xff\0\0\0",
        b"GIF89a\x05\x00\x05\x00\x00\x00\x00?",
        AVIF_HEAD + b"\0\0\0\x07meta",
    ],
    ids=["html", "png-header", "png-checksum", "jpeg", "webp", "gif", "avif"],
)
def test_damage_is_told_as_soon_as_it_is_met(start):
    """What cannot become a picture any more is refused at once, whatever may follow, so that nobody waits for it."""
    with pytest.raises(ValueError, match="it is"):
        MediaReader().feed(start)


def test_a_refused_picture_stays_refused():
    """Who goes on after a refusal hears its reason again, and never that the picture is good."""
    reader = MediaReader()
    reason = "^it is a JPEG with a damaged segment$"
    with pytest.raises(ValueError, match=reason):
        reader.feed(b"\xff\xd8\xff\xe0\x00\x01")
    with pytest.raises(ValueError, match=reason):
        reader.feed(PICTURES["jpeg"][1])
    for _ in range(2):
        with pytest.raises(ValueError, match=reason):
            reader.finish()


def test_a_picture_that_did_not_come_to_its_end_stays_refused():
    """What was found cut short at the end cannot be continued."""
    data, reader = PICTURES["png-rgb"][1], MediaReader()
    reader.feed(data[:-1])
    for call in (reader.finish, lambda: reader.feed(data[-1:]), reader.finish):
        with pytest.raises(ValueError, match=r"^it is a PNG cut short$"):
            call()


def test_a_reading_that_an_error_broke_off_gives_no_picture():
    """When another error comes out of `feed`, here for a piece that is no row of bytes, no answer is made up."""
    data, reader = png(5, 5, PIXELS * 100), MediaReader()
    reader.feed(data[:1024])
    with pytest.raises((BufferError, TypeError)):
        reader.feed(memoryview(bytes(2048))[::2])
    reader.feed(data[1024:])
    with pytest.raises(ValueError, match="an error broke off the reading"):
        reader.finish()


@pytest.mark.parametrize("name", ["png-rgb", "jpeg", "webp", "gif"])
def test_what_follows_the_end_in_later_pieces_is_ignored(name):
    """After the end of a picture any bytes may follow, in as many pieces as they like, and the answer stands."""
    data, reader = PICTURES[name][1], MediaReader()
    for piece in (data, b"", b"appended", data[: len(data) // 2]):
        reader.feed(piece)

    assert read_media(data) == reader.finish() == reader.finish()


def test_nothing_is_no_picture():
    """Without any bytes, or with empty pieces only, there is no picture; empty pieces between others do no harm."""
    data = PICTURES["webp"][1]

    assert "it is no picture (empty)" == answer([]) == answer([b"", b""])
    assert read_media(data) == answer([b"", data[:3], b"", data[3:40], b"", data[40:], b""])


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, (_, data) in PICTURES.items()])
def test_the_memory_of_a_piece_can_be_used_again(data):
    """No piece is kept or looked at later: one buffer serves for all, and can be resized at once."""
    reader, buffer = MediaReader(), bytearray()
    for piece in split(data, 50):
        buffer += piece
        reader.feed(memoryview(buffer))
        buffer.clear()  # raises BufferError while anyone looks at it

    assert read_media(data) == reader.finish()


LARGE = 64 * 2**20
ZEROS = bytes(2**18)
LONG_CHUNK = struct.pack(">I", LARGE) + b"IDAT"
LONG_WEBP = struct.pack("<4sI4s4sIB4x", b"RIFF", LARGE + 17, b"WEBP", b"VP8L", LARGE + 5, 0x2F)
SIZES = box(b"iprp", box(b"ipco", avif_size(5, 5)))
LONG_META = AVIF_HEAD + struct.pack(">I4s4xI4s", LARGE + 20 + len(SIZES), b"meta", LARGE + 8, b"free")


def zeros_checksum() -> bytes:
    """Return the checksum of the long chunk."""
    checksum = crc32(b"IDAT")
    for _ in range(LARGE // len(ZEROS)):
        checksum = crc32(ZEROS, checksum)
    return struct.pack(">I", checksum)


AROUND = {
    "png": lambda: (png(5, 5)[:-12] + LONG_CHUNK, zeros_checksum() + png(5, 5)[-12:]),
    "jpeg": lambda: (jpeg(5, 5)[:-2], b"\xff\xd9"),
    "webp": lambda: (LONG_WEBP, b""),
    "avif": lambda: (avif(5, 5) + struct.pack(">I4s", LARGE + 8, b"mdat"), b""),
    "avif-meta": lambda: (LONG_META, SIZES + AVIF_PIXELS),
    "appended": lambda: (gif(5, 5), b""),
}
"""By kind: the bytes before and after 64 MiB of zeros that make a picture of all."""


@pytest.mark.parametrize("kind", AROUND)
def test_a_large_picture_takes_no_memory(kind):
    """A picture of 64 MiB is read in less than 256 KiB, wherever its bytes are."""
    before, after = AROUND[kind]()
    tracemalloc.start()
    try:
        said = answer([before, *repeat(ZEROS, LARGE // len(ZEROS)), after])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert isinstance(said, Media), said
    assert peak < 2**18


@pytest.mark.parametrize("kind", COUNTLESS)
def test_many_parts_take_no_memory(kind):
    """Of the parts of a picture nothing is kept, however many they are (B35)."""
    pieces = split(COUNTLESS[kind][: 2**16], 2**10)
    tracemalloc.start()
    try:
        answer(pieces)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2**14


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 2**17,
        b"\xff\xd8\xff\xda\x00\x02" + b"\xff\x00" * 2**16,
        b"<" * 2**17,
        AVIF_HEAD + b"\0\0\0\0meta" + b"\0\0\0\x09free\0" * 2**14,
    ],
    ids=["jpeg-fill", "jpeg-stuffing", "text", "avif"],
)
def test_hostile_bytes_in_single_bytes_take_linear_time(data):
    """Bytes made to be searched again and again cost no more when they come one by one."""
    started = time.perf_counter()

    assert answer(split(data, 1)).startswith("it is ")
    assert time.perf_counter() - started < 5
