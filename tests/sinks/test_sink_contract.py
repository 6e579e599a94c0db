"""Every sink keeps the same promises to the calls that stream into it."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from attrs import define
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nebula_async import DirectorySink, MemorySink, ObjectStoreSink, Sink
from nebula_async.sinks.names import check_key
from nebula_async.testing import RecordingSink

pytestmark = pytest.mark.anyio

PNG = ("image/png", ".png")
KEY = "00000/000000042-a-flying-cat"

UNSAFE_KEYS = [
    "",
    ".",
    "..",
    "...",
    "/",
    "/etc/cat",
    "//server/share/cat",
    "../cat",
    "a/../cat",
    "a/../../cat",
    "a/..",
    ".. /cat",
    "a//cat",
    "a/./cat",
    "a/",
    "~/../cat",
    "a\\cat",
    "..\\cat",
    "\\\\server\\share\\cat",
    "C:",
    "C:cat",
    "c:/cat",
    "cat:stream",
    "cat\0",
    "cat\n",
    "cat\x7f",
    "cat\ud800",
    "x" * 241,
    f"{'猫' * 81}/cat",
]


@define
class Stored:
    """A sink, and what can be seen of it from outside: what was published, by what `publish` returned."""

    sink: Sink
    pictures: Callable[[], Awaitable[dict[str, bytes]]]


def in_memory(sink: MemorySink | RecordingSink) -> Stored:
    """Look into a memory sink."""

    async def pictures() -> dict[str, bytes]:
        return dict(sink.pictures)

    return Stored(sink, pictures)


def in_folder(sink: Sink, folder: Path, place: Callable[[anyio.Path], str] = str) -> Stored:
    """Look into a folder."""

    async def pictures() -> dict[str, bytes]:
        files = anyio.Path(folder).rglob("*")
        return {place(path): await path.read_bytes() async for path in files if await path.is_file()}

    return Stored(sink, pictures)


def in_store(sink: ObjectStoreSink) -> Stored:
    """Look into an object store."""

    async def pictures() -> dict[str, bytes]:
        return await anyio.to_thread.run_sync(read_all)

    def read_all() -> dict[str, bytes]:
        names = [found["path"] for page in sink.store.list() for found in page]
        return {sink.url + name: bytes(sink.store.get(name).bytes()) for name in names}

    return Stored(sink, pictures)


@pytest.fixture(params=["memory", "recording", "directory", "memory://", "file://", "moto", "rclone"])
def stored(request, tmp_path):
    """Each sink, empty: object stores too, two of them real servers."""
    folder = tmp_path / "out"
    match request.param:
        case "memory":
            return in_memory(MemorySink())
        case "recording":
            return in_memory(RecordingSink())
        case "directory":
            return in_folder(DirectorySink(folder), folder)
        case "memory://":
            return in_store(ObjectStoreSink("memory://"))
        case "file://":
            return in_folder(ObjectStoreSink(folder.as_uri()), folder, anyio.Path.as_uri)
    server = request.getfixturevalue(f"{request.param}_server")
    return in_store(ObjectStoreSink(f"{server.fresh_url()}/", store_options=server.options))


async def store(sink: Sink, key: str, *pieces: bytes) -> str:
    """Write a picture in pieces and publish it."""
    writer = await sink.open(key)
    for piece in pieces:
        await writer.write(piece)
    return await writer.publish(*PNG)


def test_sinks_are_values_to_look_at(tmp_path):
    """Each shows where pictures go, and no picture; a directory sink can be sent to another process."""
    assert "MemorySink(pictures=<0 pictures>)" == repr(MemorySink())
    sink = DirectorySink(str(tmp_path))
    assert f"DirectorySink(path={tmp_path!r})" == repr(sink)
    assert sink == pickle.loads(pickle.dumps(sink))  # noqa: S301


async def test_pieces_become_one_picture_in_their_order(stored):
    """What is published is what was written, and `publish` says where it is."""
    place = await store(stored.sink, KEY, b"one ", b"", b"two ", b"three")
    assert place.endswith(f"{KEY}.png")
    assert {place: b"one two three"} == await stored.pictures()


async def test_nothing_is_seen_before_it_is_published(stored):
    """Who looks while a picture is written finds no half of it under its name."""
    writer = await stored.sink.open(KEY)
    await writer.write(b"one")
    assert not [name for name in await stored.pictures() if name.endswith(".png")]
    await writer.discard()


@pytest.mark.parametrize("pieces", [(), (b"one",), (b"one", b"two" * 100_000)], ids=["none", "one", "two"])
async def test_a_discarded_picture_leaves_nothing(stored, pieces):
    """After `discard` nothing of the picture is there, however often it is called."""
    writer = await stored.sink.open(KEY)
    for piece in pieces:
        await writer.write(piece)
    await writer.discard()
    await writer.discard()
    assert {} == await stored.pictures()


async def test_discard_does_nothing_to_what_is_published(stored):
    """A call that fails after its picture was stored does not take it back."""
    writer = await stored.sink.open(KEY)
    await writer.write(b"one")
    place = await writer.publish(*PNG)
    await writer.discard()
    assert {place: b"one"} == await stored.pictures()


@pytest.mark.parametrize("end", ["publish", "discard"])
async def test_a_writer_that_has_ended_takes_nothing_more(stored, end):
    """A writer is for one picture: `write` and `publish` after its end are refused, and change nothing."""
    writer = await stored.sink.open(KEY)
    await writer.write(b"one")
    await (writer.publish(*PNG) if end == "publish" else writer.discard())
    before = await stored.pictures()
    with pytest.raises(ValueError, match=r"closed|open another one"):
        await writer.write(b"two")
    with pytest.raises(ValueError, match=r"closed|open another one"):
        await writer.publish(*PNG)
    assert before == await stored.pictures()


async def test_a_name_that_is_taken_is_left_alone(stored):
    """The next picture under the same key gets a number; the extension makes a name of its own."""
    places = [await store(stored.sink, KEY, data) for data in (b"first", b"second", b"third")]
    writer = await stored.sink.open(KEY)
    await writer.write(b"fourth")
    places.append(await writer.publish("image/webp", ".webp"))
    endings = [".png", "-1.png", "-2.png", ".webp"]
    assert [True] * 4 == [place.endswith(KEY + end) for place, end in zip(places, endings, strict=True)]
    pictures = await stored.pictures()
    assert [b"first", b"second", b"third", b"fourth"] == [pictures[place] for place in places]


async def test_pictures_meeting_under_one_key_are_all_stored(stored):
    """Of calls that publish under the same key at the same time exactly one gets the plain name; none is lost."""
    places = {}

    async def write_and_publish(data):
        writer = await stored.sink.open(KEY)
        await writer.write(data)
        places[await writer.publish(*PNG)] = data

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(write_and_publish, b"picture %d" % number)
    assert places == await stored.pictures()
    assert 8 == len(places)
    assert 1 == sum(place.endswith(f"{KEY}.png") for place in places)


async def test_a_cancelled_picture_leaves_nothing(stored):
    """A call that is cancelled between two pieces discards under a shield, and nothing of it stays."""
    writer = await stored.sink.open(KEY)
    with anyio.CancelScope() as scope:
        try:
            await writer.write(b"one")
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        finally:
            with anyio.CancelScope(shield=True):
                await writer.discard()
    assert {} == await stored.pictures()


@pytest.mark.parametrize("key", UNSAFE_KEYS, ids=range(len(UNSAFE_KEYS)))
async def test_an_unsafe_key_is_refused(stored, key):
    """A key that could lead elsewhere, here or on another system, is refused in one sentence, and nothing is made
    (B43).
    """
    with pytest.raises(ValueError, match=r"^'.*' cannot be the key of a picture: ([^.]|'.')*[^.]$"):
        await stored.sink.open(key)
    assert {} == await stored.pictures()


PARTS = st.sampled_from(["..", ".", "", "~", "cat", "a b", "CON", "%2e%2e", "$HOME", "-rf", "..cat", "cat..", "\u2025"])
KEYS = st.text() | st.lists(PARTS | st.text(max_size=5), max_size=5).map("/".join)


@given(key=KEYS)
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_key_leads_out(stored, tmp_path, key):
    """Whatever the key, it is refused or what is written lies inside of the sink (B43)."""
    try:
        check_key(key)
    except ValueError:
        with pytest.raises(ValueError, match="cannot be the key"):
            await stored.sink.open(key)
        return
    assert await store(stored.sink, key, b"one") in await stored.pictures()
    made = {path async for path in anyio.Path(tmp_path).rglob("*")} - {anyio.Path(tmp_path, "out")}
    assert all(path.is_relative_to(tmp_path / "out") for path in made)
