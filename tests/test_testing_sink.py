"""A sink that remembers, and fails when it is told to; tests/sinks holds it to the contract of all sinks."""

from __future__ import annotations

import anyio
import pytest

from nebula_async import AsyncNebula, Charges, DirectorySink, Failure, InvalidRequestError, SinkError
from nebula_async.testing import FakeTransport, RecordingSink

pytestmark = pytest.mark.anyio

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
FULL = OSError(28, "No space left on device")


@pytest.fixture
def fake() -> AsyncNebula:
    """A client without a socket."""
    return AsyncNebula("sk-test", transport=FakeTransport())


async def test_what_is_done_is_remembered(fake):
    """Each step stands there with its key, what was written and where it is stored."""
    sink = RecordingSink()
    cat = await fake.generate("a cat", sink=sink, **SMALL)
    opened, *written, published = sink.steps
    assert ("open", "a-cat") == (opened.action, opened.key)
    assert {"write"} == {step.action for step in written}
    assert len(sink.pictures["a-cat.png"]) == sum(step.size for step in written)
    assert ("publish", cat.image.stored) == (published.action, published.place)
    assert ["open", *["write"] * len(written), "publish"] == sink.actions_of("a-*")
    sink.assert_stored(1)
    sink.assert_nothing_open()


@pytest.mark.parametrize("action", ["open", "write", "publish"])
async def test_a_step_that_fails(fake, action):
    """The call ends with it, says that the picture was paid for, and lets go of what was opened; the next is fine."""
    sink = RecordingSink()
    sink.fail(action, FULL)
    with pytest.raises(SinkError, match="No space left") as ended:
        await fake.generate("a cat", sink=sink, **SMALL)
    assert (Charges(1, 1), FULL) == (ended.value.charges, next(step.error for step in sink.steps if step.error))
    sink.assert_stored(0)
    sink.assert_nothing_open()
    await fake.generate("a cat", sink=sink, **SMALL)
    sink.assert_stored(1)


async def test_some_keys_alone_and_for_good(fake):
    """A pattern chooses the keys; `times=None` never ends."""
    sink = RecordingSink()
    sink.fail("publish", FULL, key="*a-dog*", times=None)
    results = await fake.generate_all(["a cat", "a dog", "a fish", "a dog"], sink=sink, **SMALL)
    assert [False, True, False, True] == [isinstance(result, Failure) for result in results]
    sink.assert_stored(2)


async def test_a_step_that_stalls(fake):
    """The test waits until a picture has come to the step, looks around, and lets it go on."""
    sink = RecordingSink()
    stall = sink.stall("publish")
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: fake.generate("a cat", sink=sink, **SMALL))
        await stall.reached()
        assert {} == sink.pictures
        stall.release()
    sink.assert_stored(1)


async def test_who_is_cancelled_while_it_stalls(fake):
    """A call that is cancelled in the middle of a step discards, and the step is remembered as cancelled."""
    sink = RecordingSink()
    stall = sink.stall("write")
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: fake.generate("a cat", sink=sink, **SMALL))
        await stall.reached()
        group.cancel_scope.cancel()
    write = next(step for step in sink.steps if step.action == "write")
    assert write.error is not None
    assert {} == sink.pictures
    sink.assert_nothing_open()


async def test_before_a_sink_of_ones_own(fake, tmp_path):
    """Any sink can stand behind it; where there is none in memory, `pictures` says so."""
    sink = RecordingSink(DirectorySink(tmp_path))
    cat = await fake.generate("a cat", sink=sink, **SMALL)
    assert (tmp_path / "a-cat.png").read_bytes()
    assert cat.image.stored == str(tmp_path / "a-cat.png")
    with pytest.raises(TypeError, match="is no MemorySink: look where it stores"):
        _ = sink.pictures


async def test_a_failed_assertion_tells_the_steps():
    """What was expected, what was, and each step."""
    sink = RecordingSink()
    with pytest.raises(AssertionError, match=r"0 pictures were published, 1 expected; the steps:\n  none"):
        sink.assert_stored(1)
    writer = await sink.open("cats/one")
    await writer.write(b"12")
    with pytest.raises(
        AssertionError, match=r"cats/one: opened, and never ended; the steps:\n  open cats/one\n"
    ) as told:
        sink.assert_nothing_open()
    assert "  write cats/one (2 bytes)" in str(told.value)


def test_a_step_that_there_is_not():
    """The steps are named, and the repr holds no picture."""
    for wrong in ("x", OSError, KeyboardInterrupt()):
        with pytest.raises(ValueError, match="a step can fail with an exception, such as OSError"):
            RecordingSink().fail("publish", wrong)
    with pytest.raises(InvalidRequestError, match="sink must be a sink"):
        RecordingSink("out")
    with pytest.raises(ValueError, match="the step is 'close'; allowed is open, write, publish, discard"):
        RecordingSink().fail("close", FULL)
    assert "RecordingSink(inner=MemorySink(pictures=<0 pictures>), steps=<0 steps>)" == repr(RecordingSink())
