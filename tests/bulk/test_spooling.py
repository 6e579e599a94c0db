"""Standard input and the items of a program are written into a file first, and are a manifest then."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from types import MappingProxyType

import anyio
import pytest
from manifests import item, names, spooled
from PIL import Image as Pillow

from nebula_async.bulk.manifest.entries import MAX_LINE
from nebula_async.bulk.manifest.items import BadLine, Item
from nebula_async.bulk.manifest.spooling import BATCH
from nebula_async.errors import InvalidRequestError, JobError
from nebula_async.requests import ImageRequest, InferenceRequest

pytestmark = pytest.mark.anyio


def generated(items: Iterable[object]) -> Iterator[object]:
    """Yield items."""
    yield from items


async def async_items(items: Iterable[object]) -> AsyncIterator[object]:
    """Yield items, each after a turn of the event loop."""
    for one in items:
        await anyio.lowlevel.checkpoint()
        yield one


GIVEN = (
    "a cat",
    "two\nlines",
    {"prompt": "b", "width": 64, "image": b"abc"},
    MappingProxyType({"prompt": "c", "id": 7}),
    ImageRequest("d", model="own", seed=3),
    InferenceRequest("e", model="own", n=2),
)
PICTURE = "data:application/octet-stream;base64,YWJj"
EXPECTED = (
    item(0, 1, "a cat"),
    item(1, 2, "two\nlines"),
    item(2, 3, "b", width=64, image=PICTURE),
    item(3, 4, "c", id="7"),
    Item("#4", 4, 5, ImageRequest("d", model="own", seed=3)),
    Item("#5", 5, 6, InferenceRequest("e", model="own", n=2)),
)


@pytest.mark.parametrize("kind", [list, tuple, generated, async_items])
async def test_any_iterable_is_a_manifest(tmp_path, kind):
    """Prompts, mappings and requests of both kinds come from any iterable, and can be read as often as wanted."""
    source = await spooled(kind(GIVEN), tmp_path)

    assert [*EXPECTED] == list(source.entries()) == list(source.items())
    assert ["input.jsonl"] == names(tmp_path / "job")


async def test_a_request_keeps_its_dialect(tmp_path):
    """A request is for its own API, whatever the defaults say; what it leaves out they fill in."""
    requests = [ImageRequest("a", model="own"), InferenceRequest("b", model="own")]

    source = await spooled(requests, tmp_path, defaults={"dialect": "inference", "width": 64, "n": 2})

    expected = [ImageRequest("a", model="own", width=64), InferenceRequest("b", model="own", n=2)]
    assert expected == [entry.request for entry in source.entries()]


async def test_the_same_items_are_the_same_input(tmp_path):
    """A program that gives the same items again resumes."""
    first, second = [await spooled(iter(GIVEN), tmp_path / name) for name in "ab"]

    assert first.fingerprint() == second.fingerprint()
    assert [*map(first.body_sha, first.items())] == [*map(second.body_sha, second.items())]


async def test_an_item_that_is_wrong_is_a_bad_line(tmp_path):
    """What can be written down is checked with the others, and all that is wrong is listed."""
    source = await spooled(["", "a", {"prompt": "b", "width": 1}, {1: 2}], tmp_path)

    problems = [str(entry) for entry in source.entries() if isinstance(entry, BadLine)]

    starts = ["1: prompt must be text", "3: width must be a whole number", "4: unknown field 1; known are"]
    assert [True] * 3 == [text.startswith(f"the given items:{s}") for text, s in zip(problems, starts, strict=True)]


class Unread(Mapping[str, object]):
    """A mapping that cannot be read."""

    def __getitem__(self, name: str) -> object:
        raise ValueError("not there")

    def __iter__(self) -> Iterator[str]:
        return iter(["prompt"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (3, "give a prompt, a mapping of fields or a request; got 3 (int)"),
        (None, "give a prompt, a mapping of fields or a request; got None"),
        (b"x", "give a prompt, a mapping of fields or a request; got b'x' (bytes)"),
        ({"prompt": "a", "guidance_scale": float("nan")}, "Out of range float values are not JSON compliant"),
        ({"prompt": "a", "extra": {"a": {1}}}, "Object of type set is not JSON serializable"),
        ({"prompt": "a", "image": Pillow.new("RGB", (1, 1))}, "a Image cannot be written down; give its path or its"),
        (ImageRequest("a", model="m", image=io.BytesIO(b"x")), "a BytesIO cannot be written down; give its path or"),
        (Unread(), "not there"),
    ],
)
@pytest.mark.parametrize("kind", [iter, async_items])
async def test_an_item_that_cannot_be_written_down_is_named(tmp_path, wrong, problem, kind):
    """What JSON cannot hold is refused with the item's number, counted from 1, and leaves no file."""
    with pytest.raises(JobError) as caught:
        await spooled(kind(["a", wrong]), tmp_path)

    assert str(caught.value).startswith(f"the given items:2: this item cannot be written down: {problem}")
    assert [] == names(tmp_path / "job")


async def test_an_item_nested_too_deeply_is_named(tmp_path):
    """Values that are nested without end are refused too."""
    deep: dict[str, object] = {}
    deep["prompt"] = deep

    with pytest.raises(JobError, match="the given items:1: this item cannot be written down: Circular reference"):
        await spooled([deep], tmp_path)


async def test_an_item_that_is_too_long_is_named(tmp_path):
    """A picture that is too large for a line is refused with what to do."""
    with pytest.raises(JobError, match=r"the given items:1: the item is longer than .*; give the path of a picture"):
        await spooled([{"prompt": "a", "image": bytes(MAX_LINE)}], tmp_path)


@pytest.mark.parametrize("wrong", [b"prompts", {"prompt": "a"}, ImageRequest("a", model="m"), 3, None])
async def test_what_is_not_many_is_refused(tmp_path, wrong):
    """One request is no manifest, nor is a number."""
    with pytest.raises(InvalidRequestError, match='manifest must be a path, "-" or an iterable of prompts, mappings'):
        await spooled(wrong, tmp_path)


async def test_items_have_no_kind(tmp_path):
    """A kind is said of files alone."""
    with pytest.raises(InvalidRequestError, match="kind says what a file is, and these are items of a program"):
        await spooled(["a"], tmp_path, kind="csv")


async def test_no_items_are_refused(tmp_path):
    """A program that gives nothing is told."""
    source = await spooled([], tmp_path)

    with pytest.raises(JobError, match="there is no request in the given items; give at least one"):
        list(source.entries())


async def test_wrong_arguments_are_refused_before_anything_is_taken(tmp_path):
    """Items are not used up where something else is wrong."""
    items = iter(["a"])

    with pytest.raises(InvalidRequestError, match="repeat must be"):
        await spooled(items, tmp_path, repeat=0)
    assert ["a"] == list(items)


class OwnError(OSError):
    """What a program's own iterator raises."""


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_programs_own_error_passes(tmp_path, is_async):
    """What the iterator raises comes out as it is; an async one is closed, and no file is left."""
    ended = []

    def failing() -> Iterator[str]:
        yield "a"
        raise OwnError("mine")

    async def async_failing() -> AsyncIterator[str]:
        try:
            for one in failing():
                yield one
        finally:
            ended.append(True)

    with pytest.raises(OwnError, match="mine"):
        await spooled(async_failing() if is_async else failing(), tmp_path)
    assert [] == names(tmp_path / "job")
    assert [True] * is_async == ended


async def test_items_are_taken_in_the_loop_and_written_beside_it(tmp_path):
    """The iterator runs in the task that opens the job, and others have their turn between two batches."""
    turns = []
    done = anyio.Event()

    def many() -> Iterator[str]:
        task = anyio.get_current_task().id
        for number in range(4 * BATCH // 500):
            assert task == anyio.get_current_task().id
            turns.append(number)
            yield "x" * 500

    async def watch() -> None:
        while not done.is_set():
            turns.append("watch")
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        source = await spooled(many(), tmp_path)
        done.set()

    assert "watch" in turns[turns.index(0) : turns.index(4 * BATCH // 500 - 1)]
    assert 4 * BATCH // 500 == sum(1 for _ in source.entries())


async def test_cancellation_leaves_no_file(tmp_path):
    """A job that is cancelled while it waits for items leaves the folder as it was."""
    waiting = anyio.Event()

    async def endless() -> AsyncIterator[str]:
        yield "a"
        waiting.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(spooled, endless(), tmp_path)
        await waiting.wait()
        group.cancel_scope.cancel()
    assert [] == names(tmp_path / "job")


async def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    """Where the items cannot be written, that is one sentence."""
    (tmp_path / "job").write_text("a file")

    with pytest.raises(JobError, match=r"input\.part cannot be written: .*; make room, or use another folder"):
        await spooled(["a"], tmp_path)
