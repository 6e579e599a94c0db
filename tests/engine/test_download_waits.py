"""How often a picture is fetched and how long that takes, in virtual time: an hour of waits passes at once."""

from __future__ import annotations

import gzip
import random

import anyio
import anyio.lowlevel
import httpx
import pytest
from trio.testing import MockClock
from wire import QUICK, a_picture, download, seeded, undelivered

from nebula_async.config import Config, RetryPolicy, Timeouts
from nebula_async.engine.download import MOST_AT_ONCE, Downloader
from nebula_async.engine.transport import MAX_DOWNLOAD_BYTES
from nebula_async.errors import DownloadError

pytestmark = pytest.mark.anyio

VIRTUAL = pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])

URL = "https://pictures.example/1.png?X-Signature=canary"

PATIENT = Config()


class Storage(httpx.MockTransport):
    """A storage that says these statuses or replies in turn, the last one for ever; `times` are when it was asked."""

    def __init__(self, *says: int | httpx.Response | Exception) -> None:
        super().__init__(self.say)
        self.says = list(says)
        self.times: list[float] = []

    @property
    def waits(self) -> list[float]:
        """The seconds between the requests."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]

    def say(self, _request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.times.append(anyio.current_time())
        says = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(says, Exception):
            raise says
        return says if isinstance(says, httpx.Response) else httpx.Response(says, content=b"picture")


@VIRTUAL
@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_missing_picture_is_waited_for(status):
    """A picture that is not there is looked for again after 3 and after 7 seconds: only then is it gone (F37)."""
    storage = Storage(status)
    error = await undelivered(URL, custom=storage, config=PATIENT, seconds=60)
    assert ([3.0, 7.0], False) == (storage.waits, error.retryable)
    assert f"the picture cannot be fetched: its storage answered HTTP {status}" == error.message


@VIRTUAL
@pytest.mark.parametrize("config", [PATIENT, QUICK])
@pytest.mark.parametrize("status", [400, 401, 402, 405, 418, 451, 300, 304, 600])
async def test_what_the_storage_says_three_times_is_so(status, config):
    """Any other refusal is believed the third time, after short waits."""
    storage = Storage(status)
    error = await undelivered(URL, custom=storage, config=config, seconds=60)
    assert (3, False) == (len(storage.times), error.retryable)
    assert all(0.1 <= wait <= 2 for wait in storage.waits)


PASSING = [
    408,
    425,
    429,
    500,
    502,
    503,
    504,
    599,
    httpx.ReadTimeout("slow"),
    httpx.ConnectError("refused"),
    OSError("x"),
]


@VIRTUAL
@pytest.mark.parametrize("says", PASSING, ids=repr)
async def test_what_may_pass_is_tried_until_the_time_is_over(says):
    """A storage that is down is asked again and again, after waits of at most 8 seconds, until the time is over (F37,
    F38).
    """
    storage = Storage(says)
    error = await undelivered(URL, custom=storage, config=PATIENT, seconds=300)
    assert error.retryable
    assert 300 == pytest.approx(anyio.current_time() - storage.times[0])
    assert 50 < len(storage.times) < 150
    assert all(0.1 <= wait <= 8 for wait in storage.waits)
    assert max(storage.waits[:2]) <= 1


@VIRTUAL
@pytest.mark.parametrize("says", PASSING, ids=repr)
async def test_a_storage_that_comes_back_gives_the_picture(says):
    """However often it failed, a storage that works again gives the picture (F38)."""
    storage = Storage(*[says] * 40, 200)
    assert b"picture" == await download(URL, custom=storage, config=PATIENT, seconds=3_000)


@VIRTUAL
async def test_more_than_a_thousand_tries_end_like_three():
    """Where the waits are as short as they get, a long outage means many tries, and ends as any other does."""
    storage = Storage(503)
    error = await undelivered(URL, custom=storage, config=QUICK, seconds=120)
    assert error.retryable
    assert 1_100 < len(storage.times) <= 1_201


@VIRTUAL
@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"Retry-After": "30"}, 30),
        ({"Retry-After-Ms": "12500"}, 12.5),
        ({"Retry-After": "Thu, 20 Nov 2026 12:00:40 GMT", "Date": "Thu, 20 Nov 2026 12:00:00 GMT"}, 40),
        ({"Retry-After": "0"}, 0.1),
        ({"Retry-After": "-5"}, 0.1),
        ({"Retry-After": "nonsense"}, 0.1),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 400])
async def test_a_wait_that_is_asked_for_is_kept(headers, least, status):
    """A storage that says when to come back is not asked before; what it says is read like the API's own."""
    storage = Storage(httpx.Response(status, headers=headers), 200)
    assert b"picture" == await download(URL, custom=storage, config=QUICK, seconds=60)
    assert [pytest.approx(least, abs=0.01)] == storage.waits


@VIRTUAL
async def test_a_wait_beyond_the_end_is_not_waited():
    """A storage that asks for more time than there is gets no second request, and the call ends at once."""
    storage = Storage(httpx.Response(503, headers={"Retry-After": "3600"}))
    error = await undelivered(URL, custom=storage, config=PATIENT, seconds=60)
    assert (1, True) == (len(storage.times), error.retryable)
    assert storage.times[0] == anyio.current_time()


@VIRTUAL
async def test_what_was_said_between_failures_is_not_forgotten():
    """A picture that is missing, then hidden by a failure, and then there, is found."""
    storage = Storage(404, 404, 503, 500, 200)
    assert b"picture" == await download(URL, custom=storage, config=PATIENT, seconds=300)


@VIRTUAL
@pytest.mark.parametrize("failures", [1, 2, 3, 10])
async def test_a_failure_is_no_word_about_the_picture(failures):
    """How often the storage failed says nothing about the picture: it is missing when that was said three times."""
    storage = Storage(*[503] * failures, 404, 404, 200)
    assert b"picture" == await download(URL, custom=storage, config=PATIENT, seconds=300)


@VIRTUAL
@pytest.mark.parametrize("seconds", [0, -1])
async def test_without_time_nothing_is_asked(seconds):
    """Where no time is left the picture stays where it is, to be fetched later."""
    storage = Storage(200)
    error = await undelivered(URL, custom=storage, seconds=seconds)
    assert ([], True) == (storage.times, error.retryable)


@VIRTUAL
async def test_a_url_is_in_no_message():
    """Whatever goes wrong, the error names what happened and not the URL, with which anyone could fetch the picture."""
    broken = [404, 503, httpx.ReadTimeout("slow"), httpx.Response(302, headers={"Location": "http://a/?canary"})]
    for says in [*broken, httpx.Response(200, content=b"<html>"), httpx.Response(302, headers={"Location": URL})]:
        error = await undelivered(URL, custom=Storage(says), seconds=0.3)
        assert "canary" not in f"{error!s}{error!r}"


async def test_a_transport_of_ones_own_sees_the_url_without_its_fragment():
    """A user's own transport is given the URL that is called; whatever stands behind a # is not part of it."""
    seen: list[str] = []

    def say(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, content=b"picture")

    await download(f"{URL}#fragment", custom=httpx.MockTransport(say))
    assert [URL] == seen


@VIRTUAL
@pytest.mark.parametrize("error", [httpx.ProxyError("403 Forbidden"), RuntimeError("mine"), KeyError("x")])
async def test_a_transport_of_ones_own_may_fail_in_its_own_way(error):
    """Whatever a user's own transport raises, the picture was not fetched, which is what the caller is told."""
    raised = await undelivered(URL, custom=Storage(error), seconds=0.2)
    assert (DownloadError, True) == (type(raised), raised.retryable)
    assert b"picture" == await download(URL, custom=Storage(error, 200))


@VIRTUAL
async def test_a_bomb_is_stopped():
    """A small reply that unpacks to many times its size is refused, and believed the third time."""
    body, headers = gzip.compress(bytes(2**24), 1), {"Content-Encoding": "gzip"}
    storage = Storage(200)
    storage.says = [httpx.Response(200, headers=headers, stream=httpx.ByteStream(body)) for _ in range(3)] + [404]
    error = await undelivered(URL, custom=storage, seconds=20)
    assert ("the picture cannot be fetched: the reply unpacks to more than 20 times its size", False) == (
        error.message, error.retryable,
    )  # fmt: skip
    assert 3 == len(storage.times)


@VIRTUAL
@pytest.mark.parametrize(("extra", "ends"), [(0, None), (1, f"the reply is larger than {MAX_DOWNLOAD_BYTES} bytes")])
async def test_a_picture_may_have_64_mebibytes(extra, ends):
    """A picture of 64 MiB is fetched, and of one byte more it is said, the third time, that it is too large."""
    assert 64 * 2**20 == MAX_DOWNLOAD_BYTES
    data = b"picture" + bytes(MAX_DOWNLOAD_BYTES - 7 + extra)
    storage = Storage(200)
    storage.says = [httpx.Response(200, stream=httpx.ByteStream(data)) for _ in range(3)] + [404]
    if ends is None:
        assert data == await download(URL, custom=storage, seconds=20)
    else:
        assert f"the picture cannot be fetched: {ends}" == (await undelivered(URL, custom=storage, seconds=20)).message


async def test_no_more_than_a_few_are_fetched_at_once():
    """However many pictures are waited for, the storage is asked for 64 of them at a time."""
    under_way, most, open_gate = 0, 0, anyio.Event()

    async def say(_request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == MOST_AT_ONCE:
            await anyio.wait_all_tasks_blocked()
            open_gate.set()
        await open_gate.wait()
        under_way -= 1
        return httpx.Response(200, content=b"picture")

    downloader = Downloader(frozenset(), seeded(7), httpx.MockTransport(say))
    async with anyio.create_task_group() as group:
        for _ in range(3 * MOST_AT_ONCE):
            group.start_soon(lambda: downloader.fetch(URL, a_picture, QUICK, seconds=10))
    assert (0, 64) == (under_way, most)


@VIRTUAL
async def test_who_waits_to_try_again_is_in_nobodys_way():
    """A picture that is waited for takes no place among those that are being fetched."""

    def say(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404 if request.url.path == "/late.png" else 200, content=b"picture")

    downloader = Downloader(frozenset(), random.SystemRandom(), httpx.MockTransport(say))

    async def wait_for_a_late_one() -> None:
        with pytest.raises(DownloadError):
            await downloader.fetch("https://pictures.example/late.png", a_picture, PATIENT, seconds=60)

    async with anyio.create_task_group() as group:
        for _ in range(2 * MOST_AT_ONCE):
            group.start_soon(wait_for_a_late_one)
        await anyio.sleep(0.5)
        started = anyio.current_time()
        assert b"picture" == await downloader.fetch(URL, a_picture, PATIENT, seconds=60)
        assert anyio.current_time() - started < 0.1


@VIRTUAL
async def test_an_attempt_has_its_own_limit():
    """A storage that holds a request for ever is left after the time of an attempt, and asked again."""

    async def say(_request: httpx.Request) -> httpx.Response:
        asked.append(anyio.current_time())
        if len(asked) == 1:
            await anyio.sleep_forever()
        return httpx.Response(200, content=b"picture")

    asked: list[float] = []
    config = Config(timeouts=Timeouts(attempt=20), retry=RetryPolicy(backoff=0))
    assert b"picture" == await download(URL, custom=httpx.MockTransport(say), config=config, seconds=60)
    assert 20.1 == pytest.approx(asked[1] - asked[0])
