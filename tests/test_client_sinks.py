"""With a sink, pictures go there while they arrive; what goes wrong with one leaves nothing behind."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from nebula_async import (
    AsyncNebula,
    Charges,
    Config,
    DirectorySink,
    Failure,
    Image,
    ImageRequest,
    InferenceRequest,
    InvalidRequestError,
    MemorySink,
    OutcomeUnknownError,
    RetryPolicy,
    SinkError,
    Timeouts,
    UnusableReplyError,
)
from nebula_async.emulator import Emulator
from nebula_async.images.media import read_media

pytestmark = pytest.mark.anyio

SCHNELL = "black-forest-labs/FLUX.1-schnell"
SMALL = {"model": SCHNELL, "width": 16, "height": 16}
LARGE = {"model": SCHNELL, "width": 2048, "height": 2048}


@pytest.fixture
def start():
    """Start an emulator with these faults and options."""
    with ExitStack() as stack:
        yield lambda *faults, **options: stack.enter_context(Emulator(faults=faults, **options))


def client(emulator: Emulator, **options) -> AsyncNebula:
    """Return a client of an emulator, without waits of its own, that may fetch its URLs."""
    config = Config(
        inference_url=emulator.inference_url,
        retry=RetryPolicy(backoff=0),
        allowed_image_hosts=[emulator.storage_host],
    )
    return AsyncNebula(emulator.key, config=config, base_url=emulator.base_url, **options)


def files(folder: Path) -> list[str]:
    """Return the names of all files below a folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def test_a_picture_goes_into_a_folder(emulator, tmp_path):
    """The file is the picture that would have come, under the words of the prompt; the image says where it is."""
    async with client(emulator) as nebula:
        expected = await nebula.generate("A flying cat!", seed=7, **LARGE)
        stored = await nebula.generate("A flying cat!", seed=7, **LARGE, sink=DirectorySink(tmp_path))

    assert ["a-flying-cat.png"] == files(tmp_path)
    assert (None, str(tmp_path / "a-flying-cat.png"), True) == (
        stored.image.data,
        stored.image.stored,
        stored.image.is_here,
    )
    assert expected.image.data == (tmp_path / "a-flying-cat.png").read_bytes()
    assert (2048, 2048, "image/png", ".png", 0) == (
        stored.image.width,
        stored.image.height,
        stored.image.media_type,
        stored.image.extension,
        stored.missing,
    )


async def test_an_id_names_the_picture(emulator):
    """A request's own id goes before its prompt, and nothing takes the place of another picture."""
    sink = MemorySink()
    request = ImageRequest("a cat", id="Order 7/b", **SMALL)
    async with client(emulator) as nebula:
        places = [(await nebula.generate(request, sink=sink)).image.stored for _ in range(2)]

    assert ["order-7-b.png", "order-7-b-1.png"] == places == list(sink.pictures)


async def test_many_pictures_are_named_by_index(emulator, tmp_path):
    """`generate_many` and `generate_all` name each picture by its index, as bulk jobs do."""
    async with client(emulator) as nebula:
        done = await nebula.generate_all(["a cat", "a dog", "a hen"], sink=DirectorySink(tmp_path), **SMALL)
        async with nebula.generate_many(["a cow"], sink=DirectorySink(tmp_path / "b"), **SMALL) as results:
            other = [result async for result in results]

    names = ["00000/000000000-a-cat.png", "00000/000000001-a-dog.png", "00000/000000002-a-hen.png"]
    assert names == [Path(each.image.stored).relative_to(tmp_path).as_posix() for each in done]
    assert [*names, "b/00000/000000000-a-cow.png"] == files(tmp_path)
    assert 1 == len(other)


async def test_several_pictures_of_a_request(emulator):
    """Each picture of a reply is stored under a name of its own, the first one under the plain one."""
    sink = MemorySink()
    async with client(emulator) as nebula:
        done = await nebula.generate(
            InferenceRequest("a lake", model="sdxl", n=3, response_format="b64_json", size="256x256"), sink=sink
        )

    assert ["a-lake.png", "a-lake-1.png", "a-lake-2.png"] == [image.stored for image in done.images]
    assert 3 == len(set(sink.pictures.values()))


async def test_what_is_at_urls_goes_there_too(emulator):
    """Pictures that come as URLs are fetched into the sink, at once or later by `download`."""
    sink = MemorySink()
    lake = InferenceRequest("a lake", model="sdxl", n=2, size="256x256")
    async with client(emulator) as nebula:
        done = await nebula.generate(lake, sink=sink)
        left = await nebula.generate(lake, download=False, sink=sink)
        fetched = await nebula.download(left.image, sink=sink)

    assert ["a-lake.png", "a-lake-1.png"] == [image.stored for image in done.images]
    assert (None, "a-lake-2.png", left.image.url) == (left.image.stored, fetched.stored, fetched.url)
    assert 256 == read_media(sink.pictures["a-lake-2.png"]).width


@pytest.mark.parametrize(("fault", "error"), [("cut", OutcomeUnknownError), ("malformed=html", UnusableReplyError)])
async def test_what_does_not_arrive_leaves_nothing(start, tmp_path, fault, error):
    """F15, B32: of a reply that is cut in the middle of a picture, or holds none, no file stays."""
    emulator = start(f"{fault}:1.0")
    async with client(emulator) as nebula:
        with pytest.raises(error) as caught:
            await nebula.generate("a cat", **LARGE, sink=DirectorySink(tmp_path))

    assert 1 <= caught.value.charges.at_most
    assert [] == files(tmp_path)


async def test_a_second_attempt_begins_anew(start, tmp_path):
    """Where the first reply is cut, the file holds what the second one brought."""
    emulator = start("cut:@1")
    async with client(emulator) as nebula:
        done = await nebula.generate("a cat", **LARGE, sink=DirectorySink(tmp_path))

    assert (2, ["a-cat.png"]) == (done.attempts, files(tmp_path))
    assert 2048 == read_media((tmp_path / "a-cat.png").read_bytes()).width


@pytest.mark.parametrize("given", ["out", Path("out"), 5, object()], ids=["text", "path", "number", "object"])
async def test_what_is_no_sink_is_refused(emulator, given):
    """A folder's name in place of a sink, as anything else that is none, is refused by every verb before it costs."""
    async with client(emulator) as nebula:
        for call in (
            lambda: nebula.generate("a cat", **SMALL, sink=given),
            lambda: nebula.generate_all(["a cat"], sink=given, **SMALL),
            lambda: nebula.download(Image(url="https://a.example/1"), sink=given),
        ):
            with pytest.raises(InvalidRequestError, match=r"sink must be a sink, such as DirectorySink\('out'\); got"):
                await call()

    assert 0 == len(emulator.journal.requests)


class FailingSink:
    """Fails at one of its steps with an error of its own."""

    def __init__(self, step: str) -> None:
        self.step, self.discarded = step, 0

    def _act(self, step: str) -> None:
        if step == self.step:
            raise OSError(28, "No space left on device")

    async def open(self, _key: str) -> FailingSink:
        """Open a picture."""
        self._act("open")
        return self

    async def write(self, _data: bytes) -> None:
        """Take a piece."""
        self._act("write")

    async def publish(self, _media_type: str, _extension: str) -> str:
        """Publish it."""
        self._act("publish")
        return "there"

    async def discard(self) -> None:
        """Let go of it."""
        self.discarded += 1
        self._act("discard")


@pytest.mark.parametrize(("step", "discarded"), [("open", 0), ("write", 1), ("publish", 1)])
async def test_a_sink_that_fails_ends_its_own_call(emulator, step, discarded):
    """F48: the call ends with what the sink said; it was paid for once, is not repeated, and others go on."""
    sink = FailingSink(step)
    async with client(emulator) as nebula:
        with pytest.raises(SinkError, match="No space left on device") as caught:
            await nebula.generate("a cat", **SMALL, sink=sink)
        failed, done = await nebula.generate_all(["a dog"], sink=sink, **SMALL), await nebula.generate("a hen", **SMALL)

    assert (1, Charges(1, 1), False) == (caught.value.attempts, caught.value.charges, caught.value.retryable)
    assert OSError is type(caught.value.__cause__)
    assert (Failure, SinkError) == (type(failed[0]), type(failed[0].error))
    assert 2 * discarded == sink.discarded
    assert done.image.data
    assert 3 == len(emulator.journal.requests)


async def test_a_sink_that_cannot_discard_is_only_logged(start, caplog):
    """The call's own error goes first: what the sink says of its clean-up is in the log."""
    emulator = start("cut:1.0")
    async with client(emulator) as nebula:
        with pytest.raises(OutcomeUnknownError):
            await nebula.generate("a cat", **LARGE, sink=FailingSink("discard"))

    assert "a sink failed to discard" in caplog.text


async def test_a_cancelled_call_leaves_no_file(emulator, tmp_path):
    """F41: who is cancelled while a picture streams in leaves no part of it."""

    class Announced(DirectorySink):
        """Tells when the first piece is in the file."""

        async def open(self, key):
            writer, write = await super().open(key), None
            write = writer.write

            async def told(data):
                await write(data)
                begun.set()
                await anyio.sleep_forever()

            return type("Told", (), {"write": staticmethod(told), "discard": writer.discard, "publish": None})()

    begun = anyio.Event()
    async with client(emulator) as nebula:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: nebula.generate("a cat", **LARGE, sink=Announced(tmp_path)))
            await begun.wait()
            assert 1 == len(files(tmp_path))
            group.cancel_scope.cancel()
        after = await nebula.generate("a dog", **SMALL)

    assert ([], True) == (files(tmp_path), after.image.is_here)


async def test_a_slow_sink_holds_up_no_other_call(emulator):
    """While one sink waits, other calls of the client come and go."""
    waiting, go_on = anyio.Event(), anyio.Event()

    class Slow(MemorySink):
        """Waits before it opens a picture."""

        async def open(self, key):
            waiting.set()
            await go_on.wait()
            return await super().open(key)

    sink = Slow()
    async with client(emulator) as nebula, anyio.create_task_group() as group:
        group.start_soon(lambda: nebula.generate("a cat", **LARGE, sink=sink))
        await waiting.wait()
        others = await nebula.generate_all(["a dog", "a hen"], **SMALL)
        go_on.set()

    assert (2, ["a-cat.png"]) == (len(others), list(sink.pictures))


async def test_the_deadline_counts_the_sink(emulator):
    """A sink that never returns ends its call at the total timeout, and what was paid for is said."""

    class Stuck(MemorySink):
        """Never opens a picture."""

        async def open(self, _key):
            await anyio.sleep_forever()

    async with client(emulator, timeout=Timeouts(total=1.0)) as nebula:
        with pytest.raises(TimeoutError) as caught:
            await nebula.generate("a cat", **LARGE, sink=Stuck())

    assert Charges(1, 1) == caught.value.charges


async def test_a_sink_that_stalls_is_not_paid_twice(emulator):
    """Where a sink takes nothing until the attempt is over, its call ends, and the picture is not asked for again."""

    class Stuck(MemorySink):
        """Opens a picture, and takes nothing of it."""

        async def open(self, key):
            writer = await super().open(key)
            return type("Stuck", (), {"write": lambda _self, _data: anyio.sleep_forever(), "discard": writer.discard})()

    timeouts = Timeouts(attempt=2.0, total=30)
    async with client(emulator, timeout=timeouts) as nebula:
        with pytest.raises(SinkError, match="in time") as caught:
            await nebula.generate("a cat", **LARGE, sink=Stuck())

    assert (Charges(1, 1), 1) == (caught.value.charges, len(emulator.journal.requests))
