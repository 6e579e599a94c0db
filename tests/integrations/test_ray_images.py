"""The class for rows of Ray datasets, called by hand, without Ray: batches in, and out with their pictures."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pyarrow as pa
import pytest

from nebula_async import DirectorySink, MemorySink
from nebula_async.emulator import Emulator
from nebula_async.errors import ConfigurationError, InvalidRequestError
from nebula_async.integrations.ray import NebulaImages
from nebula_async.integrations.ray_batches import TYPES
from nebula_async.integrations.redis import RedisGate
from nebula_async.testing import NebulaEmulator, RecordingSink
from nebula_async.testing.waits import OpenGate

asynchronous = pytest.mark.asyncio  # as Ray's actors are; the client runs in a loop of its own

CANARY = "sk-canary-0123456789"
SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
ADDED = [f"image_{name}" for name in TYPES]

Gone = type("NAType", (), {})
"""What pandas has where nothing is."""


@pytest.fixture
def make(emulator, tmp_path):
    """Make the callable as an actor does; what it opened is closed after the test."""
    made = []

    def make(**options) -> NebulaImages:
        place = {} if "keep_bytes" in options else {"sink": DirectorySink(tmp_path / "out")}
        usual = {"config": emulator.config(keep_alive=True), "defaults": SMALL}
        made.append(NebulaImages(**{**usual, **place, **options}))
        return made[-1]

    yield make
    for images in made:
        images.close()


def table(*prompts: str | None, **columns: list[object]) -> pa.Table:
    """Return an Arrow batch."""
    return pa.table({"prompt": pa.array(prompts, pa.string()), **columns})


def told(batch: pa.Table, name: str) -> list[object]:
    """Return an added column."""
    return batch.column(f"image_{name}").to_pylist()


def beginning(path: str) -> bytes:
    """Return the first bytes of a file."""
    return Path(path).read_bytes()[:4]


def until_asked(emulator) -> None:
    """Return when a request is there."""
    while not [each for each in emulator.journal.generations if each.prompt]:
        time.sleep(0.005)


def read_key() -> str:
    """Return the key, in the actor."""
    return CANARY


# Batches


@asynchronous
async def test_an_arrow_batch_comes_back_with_its_pictures(make, emulator):
    """All columns stay as they are, those that are added tell of each row, and each path is a file."""
    batch = table("a cat", "a dog", number=[1, 2])
    out = await make()(batch)
    assert batch == out.select(batch.column_names)
    assert ["prompt", "number", *ADDED] == out.column_names
    assert ["made", "made"] == told(out, "status")
    assert [1, 1] == told(out, "charges_at_least") == told(out, "charges_at_most") == told(out, "attempts")
    assert [b"\x89PNG"] * 2 == [beginning(path) for path in told(out, "path")]
    assert {record.prompt: record.seed for record in emulator.journal.generations} == dict(
        zip(["a cat", "a dog"], told(out, "seed"), strict=True)
    )
    emulator.assert_charged(2)


@asynchronous
async def test_a_batch_of_arrays_comes_back_as_one(make, emulator):
    """Ray's own form, a mapping of NumPy arrays: values are NumPy's, and the columns that come are Arrow's, typed."""
    np = pytest.importorskip("numpy")
    batch = {"prompt": np.array(["a cat", "a dog"], dtype=object), "seed": np.array([7, 8]), "x": np.eye(2)}
    out = await make()(batch)
    assert [*batch, *ADDED] == [*out]
    assert all(out[name] is batch[name] for name in batch)
    assert [7, 8] == out["image_seed"].to_pylist()
    assert {("a cat", 7), ("a dog", 8)} == {(each.prompt, each.seed) for each in emulator.journal.generations}


@pytest.mark.parametrize("missing", [None, math.nan, Gone()], ids=["None", "NaN", "pandas' NA"])
@asynchronous
async def test_what_is_missing_is_left_out(make, emulator, missing):
    """A gap takes the default, and whole numbers that gaps made decimal are whole again."""
    out = await make()({"prompt": ["a cat", "a dog"], "width": [128.0, missing], "seed": [3.0, 4.0]})
    assert ["made", "made"] == out["image_status"].to_pylist()
    assert {("a cat", 128, 3), ("a dog", 64, 4)} == {
        (each.prompt, each.width, each.seed) for each in emulator.journal.generations
    }


@pytest.mark.parametrize("batch", [table(), {"prompt": []}], ids=["table", "arrays"])
@asynchronous
async def test_an_empty_batch_comes_back_empty_with_all_columns(make, emulator, batch):
    """Nothing is sent, and what follows finds the columns that it expects."""
    out = await make()(batch)
    assert [*TYPES.values()] == [out[name].type for name in ADDED]
    assert [0] * len(ADDED) == [len(out[name]) for name in ADDED]
    emulator.assert_nothing_asked()


@asynchronous
async def test_columns_have_the_same_types_whatever_happened(make, emulator):
    """Blocks in which all are made and in which all failed can be put together."""
    emulator.for_prompt("a dog", "400")
    images = make()
    made, failed = [await images(table(prompt)) for prompt in ("a cat", "a dog")]
    assert made.schema == failed.schema
    assert ["made", "failed"] == told(pa.concat_tables([made, failed]), "status")


# Rows that go wrong


@asynchronous
async def test_a_row_that_goes_wrong_raises_nothing(make, emulator):
    """Whatever is wrong with a row is told in its columns, and the others are made."""
    emulator.for_prompt("refused", "400")
    dialects = [None, None, None, None, "inference"]
    batch = table("fine", "refused", "", None, "two", n=[None, None, None, None, 2], dialect=dialects)
    out = await make()(batch)
    assert ["made", *["failed"] * 4] == told(out, "status")
    assert [None, "BadRequestError", *["InvalidRequestError"] * 3] == told(out, "error_type")
    assert [None, False, False, False, False] == told(out, "retryable")
    assert [1, 0, 0, 0, 0] == told(out, "charges_at_most")
    assert "a row is one picture; it asks for 2: repeat the row instead" == told(out, "error")[4]
    assert [None] * 4 == told(out, "path")[1:]
    emulator.assert_charged(1)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug")], ids=repr)
@asynchronous
async def test_a_sink_that_fails_raises_nothing_either(make, emulator, error):
    """A picture that was paid for and could not be stored says so, with what was charged."""
    sink = RecordingSink()
    sink.fail("publish", error, times=None)
    out = await make(sink=sink)(table("a cat"))
    assert ["failed"] == told(out, "status")
    assert [1] == told(out, "charges_at_most")
    assert error.args[-1] in told(out, "error")[0]


@asynchronous
async def test_a_text_that_cannot_be_encoded_is_told_all_the_same(make, tmp_path):
    """A folder whose name is no UTF-8 costs nobody the results of a batch: what no column can hold is spelled out."""
    try:
        sink = DirectorySink(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")))
        out = await make(sink=sink)(table("a cat"))
    finally:
        shutil.rmtree(os.fsencode(tmp_path) + b"/caf\xe9", ignore_errors=True)  # what pytest cleans up has to be text
    assert ["made"] == told(out, "status")
    assert r"/caf\udce9/" in told(out, "path")[0]


@asynchronous
async def test_nothing_more_is_sent_when_the_credit_is_used_up(make, emulator):
    """What every row would meet is met once: the others fail with the same error and are not sent."""
    emulator.next("402=insufficient_quota", repeat=True)
    out = await make(concurrency=1)(table(*(f"cat {number}" for number in range(20))))
    assert ["failed"] * 20 == told(out, "status")
    assert [0] * 20 == told(out, "charges_at_most")
    emulator.assert_asked(1)


# What is refused for the whole dataset


@pytest.mark.parametrize(
    ("options", "batch", "words"),
    [
        ({}, {"text": ["x"]}, "no column is the prompt: name it with columns={'…': 'prompt'}; there are 'text'"),
        ({"columns": {"text": "prompt"}}, {"caption": ["x"]}, "columns names 'text', which is no column"),
        ({}, {"prompt": ["x"], "image_seed": [1]}, "the rows have 'image_seed' already"),
        ({"prefix": ""}, {"prompt": ["x"], "seed": [1]}, "the rows have 'seed' already"),
        ({}, [{"prompt": "x"}], "a batch must be a mapping of arrays or an Arrow table; got list"),
    ],
    ids=["no prompt", "no column", "collision", "no prefix", "no batch"],
)  # fmt: skip
@asynchronous
async def test_columns_that_do_not_fit_are_a_mistake_of_the_run(make, emulator, options, batch, words):
    """What would be wrong in every row is raised, and nothing is sent."""
    with pytest.raises(ConfigurationError) as caught:
        await make(**options)(batch)
    assert words in str(caught.value)
    emulator.assert_nothing_asked()


@asynchronous
async def test_a_missing_key_is_a_mistake_of_the_run(make, emulator, monkeypatch):
    """An actor without a key says what to do, for each batch."""
    monkeypatch.delenv("NEBULA_API_KEY")
    images = make()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="NEBULA_API_KEY"):
            await images(table("a cat"))
    emulator.assert_nothing_asked()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give either a sink for the pictures"),
        ({"sink": MemorySink(), "keep_bytes": True}, "give either a sink for the pictures"),
        ({"sink": "out"}, "sink must be a sink"),
        ({"sink": DirectorySink("out")}, "the sink's folder must be absolute"),
        ({"keep_bytes": True, "api_key": CANARY}, "api_key must be a callable, which is called in each actor"),
        ({"keep_bytes": True, "gate": OpenGate(1)}, "gate must be a callable, which is called in each actor; got"),
        ({"keep_bytes": True, "gate": f"redis://:{CANARY}@host/0"}, "called in each actor; got str"),
        ({"keep_bytes": True, "concurrency": 0}, "concurrency must be"),
        ({"keep_bytes": True, "config": {}}, "config must be Config"),
        ({"keep_bytes": True, "defaults": {"widht": 64}}, "widht"),
        ({"keep_bytes": True, "columns": {"caption": "promt"}}, "promt"),
    ],
    ids=range(11),
)
def test_wrong_options_are_refused_when_it_is_made(options, words):
    """A mistake is one sentence, which never holds the key."""
    with pytest.raises((ConfigurationError, InvalidRequestError)) as caught:
        NebulaImages(**options)
    assert words in str(caught.value)
    assert CANARY not in str(caught.value)


# Its way to the actors


@asynchronous
async def test_it_is_pickled_without_a_key(make, emulator, monkeypatch):
    """It travels before and after it has worked, says the same there, and no key is in what travels."""
    monkeypatch.setenv("NEBULA_API_KEY", emulator.key)
    images = make(defaults={**SMALL, "num_steps": 2}, columns={"number": None}, concurrency=3)
    await images(table("a cat", number=[1]))
    data = pickle.dumps(images)
    assert emulator.key.encode() not in data
    there = pickle.loads(data)  # noqa: S301
    assert repr(images) == repr(there)
    out = await there(table("a cat", number=[1]))
    there.close()
    assert ["adopted"] == told(out, "status")
    assert b"read_key" in pickle.dumps(make(api_key=read_key))
    assert CANARY.encode() not in pickle.dumps(make(api_key=read_key))


def test_it_shows_no_secret():
    """Neither the key nor the password of a Redis, as the gate's recipe may hold it, is in what is shown of it."""
    gate = partial(RedisGate, f"redis://:{CANARY}@host/0", account="cats")
    images = NebulaImages(keep_bytes=True, gate=gate, api_key=partial(str, CANARY))
    assert "keep_bytes=True" in repr(images)
    assert CANARY not in f"{images!r} {images._thread!r}"


def test_importing_it_does_not_need_ray():
    """The class can be made and tested where Ray is not installed."""
    code = "import sys; sys.modules['ray'] = None; import nebula_async.integrations.ray"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@asynchronous
async def test_the_gate_is_entered_in_the_actor(make, emulator):
    """A gate is made where it is used, once for all batches, and left when the actor is closed."""
    steps = []

    @asynccontextmanager
    async def gate():
        steps.append(("entered", threading.current_thread().name))
        try:
            yield OpenGate(4)
        finally:
            steps.append(("left", threading.current_thread().name))

    images = make(gate=gate)
    for prompt in ("a cat", "a dog"):
        await images(table(prompt))
    images.close()
    assert ["entered", "left"] == [step for step, _ in steps]
    assert threading.current_thread().name not in {name for _, name in steps}


@asynchronous
async def test_the_loop_is_free_while_the_gate_is_entered(make):
    """Batches that come while the first one opens the gate wait for it, and leave the actor's event loop alone."""
    began, release, entered = threading.Event(), threading.Event(), []

    @asynccontextmanager
    async def gate():
        began.set()
        entered.append(release.wait(20))
        yield OpenGate(4)

    images = make(gate=gate)
    waiting = [asyncio.create_task(images(table(prompt))) for prompt in ("a cat", "a dog", "an owl")]
    assert await asyncio.to_thread(began.wait, 20)
    waiting[2].cancel()
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [False, False, True] == [task.cancelled() for task in waiting]
    release.set()
    assert [["made"]] * 2 == [told(out, "status") for out in await asyncio.gather(*waiting[:2])]
    assert [True] == entered


@asynchronous
async def test_an_actor_that_cannot_begin_leaves_no_thread(make):
    """Each batch that is tried without a key, or with a gate that fails, ends its thread."""
    before = {*threading.enumerate()}

    def fail():
        raise OSError("no such gate")

    for images, error in ((make(api_key=str), ConfigurationError), (make(gate=fail), OSError)):
        with pytest.raises(error):
            await images(table("a cat"))
    for thread in {*threading.enumerate()} - before:
        if thread.name == "nebula-client":
            await asyncio.to_thread(thread.join, 20)
            assert not thread.is_alive()


# Never twice


@asynchronous
async def test_what_the_sink_holds_is_adopted(make, emulator):
    """A task that runs again finds what was stored, with the same seed; nothing is sent."""
    first = await make()(table("a cat", "a dog"))
    second = await make()(table("a dog", "a cat"))
    assert ["adopted"] * 2 == told(second, "status")
    assert told(first, "path") == told(second, "path")[::-1]
    assert told(first, "seed") == told(second, "seed")[::-1]
    assert [0.0, 0.0] == told(second, "cost")
    assert [0, 0] == told(second, "charges_at_most")
    emulator.assert_charged(2)


@asynchronous
async def test_a_damaged_picture_is_bought_again(make, emulator):
    """A file that a power cut left half written is not taken for the picture, and is left where it is."""
    first = await make()(table("a cat"))
    [path] = map(Path, told(first, "path"))
    path.write_bytes(path.read_bytes()[:100])
    second = await make()(table("a cat"))
    assert ["made"] == told(second, "status")
    assert [str(path)] != told(second, "path")
    third = await make()(table("a cat"))
    assert ("adopted", told(second, "path")) == (told(third, "status")[0], told(third, "path"))
    assert told(first, "seed") == told(third, "seed")
    emulator.assert_charged(2)


@asynchronous
async def test_the_same_in_one_batch_is_bought_once(make, emulator):
    """Of rows that ask for the very same one picture is made; an `id` tells them apart."""
    out = await make()(table(*["a cat"] * 5, id=["1", None, None, None, "2"]))
    assert ["adopted", "adopted", "made", "made", "made"] == sorted(told(out, "status"))
    assert 3 == len({*told(out, "path")})
    emulator.assert_charged(3)


@asynchronous
async def test_what_is_sent_again_is_the_same_as_before(make, emulator):
    """Without a sink that could be searched, the seed and the idempotency key of a row are those of the first time."""
    for _ in range(2):
        await make(keep_bytes=True)(table("a cat"))
    first, second = emulator.journal.generations
    assert (first.seed, first.idempotency_key) == (second.seed, second.idempotency_key)
    assert first.idempotency_key is not None


@asynchronous
async def test_a_search_that_fails_buys_nothing(make, emulator, tmp_path):
    """Where it cannot be told whether a picture is stored, the row fails, and nothing was sent."""

    class Blind(MemorySink):
        async def find(self, _key: str) -> None:
            raise PermissionError(13, "may write and not read")

    out = await make(sink=Blind())(table("a cat"))
    assert ["SinkError"] == told(out, "error_type")
    assert told(out, "error")[0].startswith("nothing was sent: whether the picture is stored already cannot be told")
    emulator.assert_nothing_asked()


@asynchronous
async def test_the_pictures_of_another_server_are_not_adopted(make, emulator):
    """What an emulator painted is never taken for what was bought elsewhere; each server's own is found again."""
    with Emulator() as server:
        other = NebulaEmulator(server)
        config, key = other.config(keep_alive=True), partial(str, other.key)
        outs = [await make(**options)(table("a cat")) for options in ({}, {"config": config, "api_key": key}) * 2]
        assert [["made"], ["made"], ["adopted"], ["adopted"]] == [told(out, "status") for out in outs]
        assert told(outs[0], "path") == told(outs[2], "path") != told(outs[1], "path") == told(outs[3], "path")
        other.assert_charged(1)
    emulator.assert_charged(1)


@asynchronous
async def test_members_of_other_rows_change_nothing(make, emulator):
    """Arrow gives each row the members of all others, deep inside of `extra` too: a row alone is the same picture."""
    extras = [{"style": {"ink": "red"}, "marks": [{"at": 1}]}, {"style": {"paper": "rough"}, "marks": [{"size": 2}]}]
    together = await make()(table("a cat", "a dog", extra=extras))
    alone = await make()(table("a dog", extra=extras[1:]))
    assert ["adopted"] == told(alone, "status")
    assert told(together, "path")[1:] == told(alone, "path")


@asynchronous
async def test_equal_rows_without_a_sink_share_one_picture(make, emulator):
    """With `keep_bytes` too, of rows that ask for the very same one is bought, and all get its bytes."""
    out = await make(keep_bytes=True)(table(*["a cat"] * 5, "a dog"))
    assert ["adopted"] * 4 + ["made"] * 2 == sorted(told(out, "status"))
    assert 2 == sum(told(out, "charges_at_most")) == len({*told(out, "bytes")})
    assert 1 == len({*told(out, "bytes")[:5]})
    emulator.assert_asked(2)


@asynchronous
async def test_equal_rows_of_a_batch_share_one_picture_however_late_they_are_read(make, emulator):
    """Rows that are read when the first one of so many has its picture already are given that."""
    out = await make(concurrency=1, keep_bytes=True)(table(*["a cat"] * 500))
    assert ["adopted"] * 499 + ["made"] == sorted(told(out, "status"))
    emulator.assert_asked(1)


@asynchronous
async def test_equal_rows_fail_together(make, emulator):
    """What is refused for one row is not sent for the others, and they say so."""
    emulator.for_prompt("a cat", "400", repeat=True)
    out = await make()(table(*["a cat"] * 3))
    assert ["BadRequestError"] * 3 == told(out, "error_type")
    assert [0, 0, 1] == sorted(told(out, "attempts"))
    assert 2 == sum(error.startswith("not sent, as an equal row failed: ") for error in told(out, "error"))
    emulator.assert_asked(1)


# At the same time


@asynchronous
async def test_rows_that_wait_for_an_equal_one_are_in_nobodys_way(make, emulator):
    """They take up no request of the actor; where the one that they wait for is cancelled, the next is sent."""
    emulator.for_prompt("stuck", "delay=60")
    images = make(concurrency=2)
    stuck = asyncio.create_task(images(table("stuck")))
    await asyncio.wait_for(anyio.to_thread.run_sync(until_asked, emulator), 20)
    equal = asyncio.create_task(images(table(*["stuck"] * 3)))
    out = await asyncio.wait_for(images(table("a dog")), 20)
    assert ["made"] == told(out, "status")
    stuck.cancel()
    out = await asyncio.wait_for(equal, 20)
    assert ["adopted", "adopted", "made"] == sorted(told(out, "status"))
    emulator.assert_asked(3)


@asynchronous
async def test_requests_in_flight_are_bounded_over_batches(make, emulator):
    """However many batches an actor has, so many requests are in flight, and never more."""
    emulator.next("delay=0.05", repeat=True)
    images = make(concurrency=4, keep_bytes=True)
    batches = [table(*(f"cat {batch} {row}" for row in range(8))) for batch in range(4)]
    outs = await asyncio.gather(*map(images, batches))
    assert ["made"] * 32 == [status for out in outs for status in told(out, "status")]
    assert [batch.column("prompt") for batch in batches] == [out.column("prompt") for out in outs]
    moments = sorted(record.at for record in emulator.journal.generations)
    assert 4 >= max(sum(began <= moment < began + 0.05 for moment in moments) for began in moments)
    assert 3 <= max(sum(began <= moment < began + 0.05 for moment in moments) for began in moments)


@asynchronous
async def test_a_cancelled_batch_ends_at_once_and_leaves_the_others(make, emulator):
    """A call that is cancelled closes its requests; what it had waiting is not sent, and other batches go on."""
    emulator.for_prompt("stuck", "delay=60")
    images = make(concurrency=1)
    stuck = asyncio.create_task(images(table("stuck", "never sent")))
    await asyncio.wait_for(anyio.to_thread.run_sync(until_asked, emulator), 20)
    stuck.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stuck
    out = await asyncio.wait_for(images(table("a dog")), 20)
    assert ["made"] == told(out, "status")
    assert {"stuck", "a dog"} == {record.prompt for record in emulator.journal.generations}


@asynchronous
async def test_closing_twice_and_unused_is_fine(make):
    """Who tests by hand may close it whenever it suits."""
    images = make()
    images.close()
    images.close()
    assert ["made"] == told(await make()(table("a cat")), "status")
