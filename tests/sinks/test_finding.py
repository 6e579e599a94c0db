"""Every sink that can tell what it holds tells it truly: what runs again asks it before it buys a picture."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image as Pillow

from nebula_async import DirectorySink, MemorySink, ObjectStoreSink
from nebula_async.sinks.kept_once import KeptOnce
from nebula_async.sinks.sink import SearchableSink, Sink
from nebula_async.testing import RecordingSink

pytestmark = pytest.mark.anyio

KEY = "3f2/a-flying-cat-9c41"
PNG, WEBP = ("image/png", ".png"), ("image/webp", ".webp")


def picture() -> bytes:
    """Return a small PNG."""
    with BytesIO() as file:
        Pillow.new("RGB", (8, 8), "red").save(file, "PNG")
        return file.getvalue()


DATA = picture()


@pytest.fixture(params=["memory", "recording", "directory", "memory://", "file://", "moto", "rclone"])
def sink(request, tmp_path) -> SearchableSink:
    """Each sink, empty: object stores too, two of them real servers."""
    match request.param:
        case "memory":
            return MemorySink()
        case "recording":
            return RecordingSink()
        case "directory":
            return DirectorySink(tmp_path / "out")
        case "memory://":
            return ObjectStoreSink("memory://")
        case "file://":
            return ObjectStoreSink((tmp_path / "out").as_uri())
    server = request.getfixturevalue(f"{request.param}_server")
    return ObjectStoreSink(f"{server.fresh_url()}/", store_options=server.options)


async def store(sink: Sink, key: str = KEY, data: bytes = DATA, kind: tuple[str, str] = PNG) -> str:
    """Store a picture, and return where it is."""
    writer = await sink.open(key)
    await writer.write(data)
    return await writer.publish(*kind)


async def test_nothing_is_found_where_nothing_is(sink):
    """An empty sink holds nothing, nor is a picture found by the beginning of its key."""
    assert isinstance(sink, SearchableSink)
    assert await sink.find(KEY) is None
    await store(sink)
    assert await sink.find(KEY[:-1]) is None
    assert await sink.find("3f2") is None


async def test_what_was_published_is_found(sink):
    """The place is the one that `publish` told, and the type that of the picture."""
    place = await store(sink)
    found = await sink.find(KEY)
    assert (place, "image/png") == (found.place, found.media_type)


async def test_what_is_being_written_is_not_found(sink):
    """A picture is there when it is whole, and not when it was discarded."""
    writer = await sink.open(KEY)
    await writer.write(DATA)
    assert await sink.find(KEY) is None
    await writer.discard()
    assert await sink.find(KEY) is None


@pytest.mark.parametrize("key", ["", "..", "/etc/cat", "../cat", "a//cat", "a\\cat", "cat\0"], ids=range(7))
async def test_an_unsafe_key_is_refused(sink, key):
    """Nothing outside of the sink is looked at."""
    with pytest.raises(ValueError, match="cannot be the key of a picture"):
        await sink.find(key)


@pytest.mark.parametrize("damage", [b"", DATA[:50], b"no picture", DATA[:-1]], ids=["empty", "cut", "text", "last"])
async def test_a_damaged_file_is_passed_over(tmp_path, damage):
    """What a power cut left is no picture; the one that was bought in its place is found."""
    sink = DirectorySink(tmp_path)
    Path(await store(sink)).write_bytes(damage)  # noqa: ASYNC240 - of a few bytes
    assert await sink.find(KEY) is None
    again = await store(sink)
    found = await sink.find(KEY)
    assert again == found.place
    assert again.endswith("-1.png")


async def test_a_folder_or_a_link_of_that_name_is_no_picture(tmp_path):
    """Only a file that lies in the folder counts."""
    sink = DirectorySink(tmp_path)
    place = tmp_path / f"{KEY}.png"
    place.mkdir(parents=True)
    assert await sink.find(KEY) is None
    place.rmdir()
    outside = tmp_path / "outside.png"
    outside.write_bytes(DATA)
    place.symlink_to(outside)
    assert await sink.find(KEY) is None


async def test_a_folder_that_is_none_is_an_error(tmp_path):
    """Where it cannot be told whether the picture is there, that is said."""
    (tmp_path / "3f2").write_text("a file")
    with pytest.raises(OSError, match="3f2"):
        await DirectorySink(tmp_path).find(KEY)


# Kept once


async def test_a_second_picture_is_let_go_of(sink):
    """Of two that are stored under one key the first stays, and both are told its place."""
    kept = KeptOnce(sink)
    first, second = await store(kept), await store(kept)
    assert first == second
    assert first == (await sink.find(KEY)).place


async def test_a_picture_is_stored_where_nobody_can_look():
    """A search that fails after the picture was paid for costs no picture."""

    class Blind(MemorySink):
        async def find(self, _key: str) -> None:
            raise PermissionError(13, "may write and not read")

    sink = Blind()
    assert await store(KeptOnce(sink)) in sink.pictures


async def test_nothing_of_it_is_left(tmp_path):
    """Neither the second picture nor what was written of it."""
    kept = KeptOnce(DirectorySink(tmp_path))
    place = await store(kept)
    await store(kept)
    writer = await kept.open(KEY)
    await writer.write(DATA)
    await writer.discard()
    assert [Path(place)] == [path for path in tmp_path.rglob("*") if path.is_file()]
