"""A reply that breaks off behind its last picture: what was paid for is here, and is neither lost nor bought again."""

from __future__ import annotations

import json

import pytest
from attrs import evolve
from broken_exchange import At, Fault, How, Rewrite
from chaos import ChaosProxy
from invariants import QUICK, SMALL, check, check_all, client_of, end_of, meet
from replies import chunked, until_the_end, with_body

from nebula_async import (
    BulkJob,
    Charges,
    DirectorySink,
    Failure,
    Generation,
    InferenceRequest,
    MemorySink,
    NebulaError,
    OutcomeUnknownError,
    RetryPolicy,
    SinkError,
    UnusableReplyError,
)
from nebula_async.emulator import Emulator

pytestmark = pytest.mark.anyio

ONCE, NEVER_TWICE = Charges(1, 1), RetryPolicy(backoff=0, resend_unknown=0)

TAIL = len(b'}], "message": "Image generated successfully", "status": "success"}')
"""What follows the picture's closing quote in a reply of the emulator."""

PAIR = InferenceRequest("two lakes", model="sdxl", n=2, size="256x256", response_format="b64_json")

FRAMINGS: dict[str, tuple[Rewrite | None, int]] = {
    "F15-length": (None, 0),
    "F16-chunks": (chunked, len(b"\r\n")),
    "F17-no-length": (until_the_end, 0),
}
framings = pytest.mark.parametrize(("rewrite", "more"), FRAMINGS.values(), ids=FRAMINGS)


def short_of(count: int, rewrite: Rewrite | None = None, **options) -> Fault:
    """Return the fault of a reply whose last bytes, so many of them, never come."""
    return Fault(at=At.IN_BODY, how=How.FIN, after=-count, rewrite=rewrite, **options)


async def ends_of(proxy: ChaosProxy, emulator: Emulator, count: int, **settings) -> list[Generation | NebulaError]:
    """Make so many calls through a proxy, one after another, check what they say they cost, and return their ends."""
    async with client_of(proxy, **settings) as nebula:
        ends = [await end_of(nebula) for _ in range(count)]
    check_all(ends, emulator, proxy.sends)
    return ends


@framings
async def test_cut_behind_the_picture(chaos, emulator, rewrite, more):
    """Wherever a reply is cut once the picture's closing quote was read, the picture is the whole one, was sent for
    and paid for once, and nothing is sent again (D4, F15-F17).
    """
    places = TAIL + more
    proxy = chaos(script=lambda number: short_of(number, rewrite) if number <= places else Fault())
    *ends, whole = await ends_of(proxy, emulator, places + 1)

    assert {(Generation, 1, ONCE, 0)} == {(type(each), each.attempts, each.charges, each.missing) for each in ends}
    assert {whole.image.data} == {each.image.data for each in ends}
    assert {whole.request_id[:9]} == {each.request_id[:9] for each in ends} == {"emulator-"}
    assert places + 1 == proxy.sends == emulator.journal.charged


@framings
@pytest.mark.parametrize("before", [1, 2, 3, 6, 40, 400])
async def test_cut_in_the_picture(chaos, emulator, rewrite, more, before):
    """A reply that is cut before the picture's closing quote is no success, however little is missing; it may be sent
    for once more where the cut was seen, and says what that may have cost (D4).
    """
    proxy = chaos(then=short_of(TAIL + more + before, rewrite))
    ended = await meet(proxy, emulator)

    if rewrite is until_the_end:
        assert (UnusableReplyError, 1, ONCE) == (type(ended), ended.attempts, ended.charges)
    else:
        assert (OutcomeUnknownError, 2, ONCE * 2) == (type(ended), ended.attempts, ended.charges)


async def test_what_else_was_said_is_kept(chaos, emulator):
    """Beside the picture a reply that was cut says what was whole of it, and nothing that was not."""
    proxy = chaos(short_of(1), short_of(len('", "status": "success"}')))
    last, cut = await ends_of(proxy, emulator, 2)

    assert (SMALL["model"], "Image generated successfully") == (last.model, last.message)
    assert (SMALL["model"], None) == (cut.model, cut.message)


BROKEN = {
    "reset": short_of(9, slow_close=0.2),
    "silence": Fault(at=At.IN_BODY, how=How.HANG, after=-9),
    "silence-in-chunks": Fault(at=At.END, how=How.HANG, rewrite=chunked),
}
BROKEN["reset"] = evolve(BROKEN["reset"], how=How.RESET)


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN)
async def test_however_it_breaks_off(chaos, emulator, fault):
    """A reset behind the picture costs nothing, nor does a server that falls silent there: the connection is dropped,
    and the next call has another one.
    """
    proxy = chaos(fault)
    ends = await ends_of(proxy, emulator, 2, timeout=QUICK, retry=NEVER_TWICE, concurrency=1)

    assert [(Generation, 1, ONCE)] * 2 == [(type(each), each.attempts, each.charges) for each in ends]
    assert 2 == proxy.connections


async def test_as_an_item_of_many(chaos, emulator):
    """One of many whose reply is cut behind its picture is no failure either."""
    async with client_of(chaos(then=short_of(3)), retry=NEVER_TWICE) as nebula:
        ends = await nebula.generate_all([f"cat {number}" for number in range(9)], **SMALL)

    assert [(Generation, 1, ONCE)] * 9 == [(type(each), each.attempts, each.charges) for each in ends]
    check_all(ends, emulator)


async def pair(proxy: ChaosProxy, **options) -> Generation | NebulaError:
    """Ask for two pictures at once, and return what the call ends with."""
    async with client_of(proxy, inference_url=proxy.url, retry=NEVER_TWICE) as nebula:
        try:
            return await nebula.generate(PAIR, **options)
        except NebulaError as error:
            return error


AFTER_BOTH = len(b'}], "usage": {"images_generated": 2, "resolution": "256x256"}}}')


@pytest.mark.parametrize("missing", [1, 20, AFTER_BOTH])
async def test_all_that_were_asked_for(chaos, emulator, missing):
    """Of several pictures all have to be there: then the call is a success."""
    ended = await pair(chaos(short_of(missing), upstream=emulator.inference_url))

    assert (Generation, 1, Charges(2, 2), 0) == (type(ended), ended.attempts, ended.charges, ended.missing)
    assert 2 == len({image.data for image in ended.images})
    check(ended, emulator)


def behind_the_first(head: bytes, body: bytes) -> bytes:
    """Cut a reply between its pictures."""
    first = json.loads(body)["data"]["images"][0]["b64_json"].encode()
    return head + body[: body.index(first) + len(first) + 1]


@pytest.mark.parametrize(
    "fault",
    [short_of(AFTER_BOTH + 1), Fault(rewrite=behind_the_first)],
    ids=["in-the-second", "behind-the-first"],
)
async def test_fewer_than_were_asked_for(chaos, emulator, fault, tmp_path):
    """Where one of several pictures is not whole the call is no success: its error says that it was paid for, and no
    file is left of the others.
    """
    ended = await pair(chaos(fault, upstream=emulator.inference_url), sink=DirectorySink(tmp_path))

    assert (OutcomeUnknownError, 1, Charges(2, 2)) == (type(ended), ended.attempts, ended.charges)
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]
    check(ended, emulator)


async def test_a_url_that_is_whole(chaos, emulator):
    """A reply that is cut behind the URL of its picture is fetched from there; the picture is not bought again."""
    lake = InferenceRequest("a lake", model="sdxl", size="256x256")

    def cut(head: bytes, body: bytes) -> bytes:
        url = json.loads(body)["data"]["images"][0]["url"].encode()
        return head + body[: body.index(url) + len(url) + 1]

    proxy = chaos(Fault(rewrite=cut), upstream=emulator.inference_url)
    settings = {"inference_url": proxy.url, "allowed_image_hosts": [emulator.storage_host], "retry": NEVER_TWICE}
    async with client_of(proxy, **settings) as nebula:
        ended = await nebula.generate(lake)

    assert (256, 1, ONCE) == (ended.image.width, ended.attempts, ended.charges)
    check(ended, emulator)


async def test_what_says_that_it_failed(chaos, emulator):
    """A reply that says that the request failed is no success because a picture is in it."""
    failed = with_body(lambda body: b'{"status": "failed", ' + body[1:])
    ended = await meet(chaos(then=short_of(9, failed)), emulator, retry=NEVER_TWICE)

    assert (OutcomeUnknownError, ONCE) == (type(ended), ended.charges)


async def test_into_a_folder(chaos, emulator, tmp_path):
    """With a sink the picture is published as any other, and no part of it stays."""
    proxy = chaos(then=short_of(5))
    async with client_of(proxy, retry=NEVER_TWICE) as nebula:
        small = await nebula.generate("a cat", sink=DirectorySink(tmp_path), **SMALL)
        large = await nebula.generate("a dog", sink=DirectorySink(tmp_path), **SMALL | {"width": 1024, "height": 1024})

    assert ["a-cat.png", "a-dog.png"] == sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert [(16, ONCE), (1024, ONCE)] == [(each.image.width, each.charges) for each in (small, large)]
    check_all([small, large], emulator, proxy.sends)


class Refusing(MemorySink):
    """Opens pictures that cannot be published."""

    async def open(self, key):
        """Return a writer that fails at its end."""
        writer = await super().open(key)

        async def publish(_media_type: str, _extension: str) -> str:
            raise OSError(28, "No space left on device")

        return type("Full", (), {"write": writer.write, "discard": writer.discard, "publish": staticmethod(publish)})()


async def test_into_a_sink_that_fails(chaos, emulator):
    """A sink that does not take the picture ends the call with its own error: it was paid for, and is not repeated."""
    proxy = chaos(then=short_of(5))
    async with client_of(proxy) as nebula:
        (failure,) = await nebula.generate_all(["a cat"], sink=Refusing(), **SMALL)

    assert (Failure, SinkError, ONCE) == (type(failure), type(failure.error), failure.error.charges)
    assert 1 == proxy.sends == emulator.journal.charged


async def test_as_an_item_of_a_job(chaos, emulator, tmp_path):
    """A job stores what came before a reply was cut: it is done, has paid once, and nothing of it is left elsewhere
    (D4).
    """
    proxy = chaos(then=short_of(TAIL))
    prompts = [f"cat {number}" for number in range(5)]
    async with (
        client_of(proxy, retry=NEVER_TWICE) as nebula,
        BulkJob(prompts, tmp_path / "out", nebula, defaults=SMALL) as job,
    ):
        report = await job.run()

    names = sorted(path.suffix for path in tmp_path.glob("out/images/*/*"))
    assert (0, 5, 5, ONCE * 5) == (report.exit_code, report.done, report.pictures, report.charges)
    assert ([".png"] * 5, []) == (names, list(tmp_path.glob("out/.nebula/spool/*")))
    assert 5 == proxy.sends == emulator.journal.charged
