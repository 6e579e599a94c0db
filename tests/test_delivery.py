"""Pictures that came as URLs get their bytes; what cannot be fetched is told without its URL, and nothing is lost."""

from __future__ import annotations

import copy
import io
import logging
import pickle
from datetime import UTC, datetime, timedelta
from random import Random
from traceback import TracebackException

import anyio
import httpx
import pytest
from attrs import evolve
from PIL import Image as Pillow
from trio.testing import MockClock

from nebula_async.config import Config, RetryPolicy
from nebula_async.delivery import Delivery
from nebula_async.engine.download import Downloader
from nebula_async.errors import DownloadError, InvalidRequestError
from nebula_async.images.image import Image, read_image

pytestmark = pytest.mark.anyio

VIRTUAL = pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])

QUICK = Config(retry=RetryPolicy(backoff=0))

CANARY = "X-Amz-Signature=" + "0c4a3" * 3


def picture(colour: str, form: str = "PNG") -> bytes:
    """Return a small picture of one colour."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 8), colour).save(buffer, form)
    return buffer.getvalue()


RED, BLUE = picture("red"), picture("blue", "WEBP")


def left_at(path: str, *, minutes: float | None = 60) -> Image:
    """Return a picture that was left at its URL, which expires in so many minutes."""
    until = None if minutes is None else datetime.now(UTC) + timedelta(minutes=minutes)
    return Image(url=f"https://pictures.example/{path}?{CANARY}", expires_at=until)


def delivery(**says: int | bytes) -> Delivery:
    """Return a delivery from a storage that says a status, or gives bytes, by the path that is asked for."""

    def say(request: httpx.Request) -> httpx.Response:
        answer = says[request.url.path.strip("/")]
        return httpx.Response(answer) if isinstance(answer, int) else httpx.Response(200, content=answer)

    return Delivery(Downloader(frozenset(), Random(7), httpx.MockTransport(say)))  # noqa: S311 - no secret


async def refusal(image: Image, *, seconds: float = 5.0, config: Config = QUICK, **says: int | bytes) -> DownloadError:
    """Fetch a picture and return what was raised."""
    with pytest.raises(DownloadError) as caught:
        await delivery(**says).fetch(image, config, seconds=seconds)
    return caught.value


# One picture


@pytest.mark.parametrize(("data", "media_type"), [(RED, "image/png"), (BLUE, "image/webp")], ids=["PNG", "WebP"])
async def test_a_picture_gets_its_bytes(data, media_type):
    """A fetched picture has its bytes, what they say about it, and still the URL that it came from."""
    left = left_at("1")
    image = await delivery(**{"1": data}).fetch(left, QUICK, seconds=5)
    assert (data, media_type, 16, 8) == (image.data, image.media_type, image.width, image.height)
    assert (left.url, left.expires_at) == (image.url, image.expires_at)


@pytest.mark.parametrize("url", [None, "https://pictures.example/never-asked"])
async def test_a_picture_that_has_its_bytes_comes_back_as_it_is(url):
    """A picture that is here already is returned at once, and nothing is asked."""
    image = evolve(read_image(RED), url=url)
    assert image is await delivery().fetch(image, QUICK, seconds=0)


async def test_a_picture_without_a_url_cannot_be_fetched():
    """A picture with neither bytes nor a URL is a mistake of the caller, and is told as one."""
    with pytest.raises(InvalidRequestError, match="neither bytes nor a URL"):
        await delivery().fetch(Image(), QUICK, seconds=5)


@pytest.mark.parametrize("data", [b"<html></html>", RED[:-12]], ids=["HTML", "cut"])
async def test_what_is_no_whole_picture_is_not_delivered(data):
    """What came from the URL and is no whole picture is a `DownloadError` that says so, and no later try helps."""
    error = await refusal(left_at("1"), **{"1": data})
    assert not error.retryable
    assert "what its storage sent cannot be used: it is " in str(error)


@VIRTUAL
async def test_the_error_has_the_picture():
    """The picture that could not be fetched is on the error, as it was, for a later try."""
    left = left_at("1")
    for status, seconds, is_retryable in ((404, 5, False), (503, 0.2, True)):
        error = await refusal(left, seconds=seconds, **{"1": status})
        assert ((left,), is_retryable) == (error.images, error.retryable)


@VIRTUAL
@pytest.mark.parametrize("status", [404, 503])
@pytest.mark.parametrize(
    ("minutes", "text"), [(30, "; its URL is valid until {} UTC"), (-30, "; its URL expired {} UTC"), (None, "")]
)
async def test_the_message_tells_until_when(status, minutes, text):
    """The message ends with the moment at which the URL expires, or expired, where it is known."""
    left = left_at("1", minutes=minutes)
    expected = text.format(f"{left.expires_at:%Y-%m-%d %H:%M:%S}" if left.expires_at else "")
    error = await refusal(left, config=Config(), seconds=20, **{"1": status})
    assert error.message.endswith(f"its storage answered HTTP {status}{expected}")


@VIRTUAL
@pytest.mark.parametrize(
    ("minutes", "seconds", "least", "most"),
    [(60, 300, 300, 300), (4, 300, 110, 120), (2.5, 300, 20, 30), (None, 300, 300, 300), (60, 7, 7, 7)],
)
async def test_a_url_is_not_relied_on_in_its_last_minutes(minutes, seconds, least, most):
    """A dead storage is tried for the time that there is, and no longer than two minutes before the URL
    expires (F37).
    """
    started = anyio.current_time()
    error = await refusal(left_at("1", minutes=minutes), config=Config(), seconds=seconds, **{"1": 503})
    assert error.retryable
    assert least - 1 <= anyio.current_time() - started <= most + 1


@VIRTUAL
@pytest.mark.parametrize("minutes", [-600, -1, 0.5, 2])
@pytest.mark.parametrize("status", [403, 404, 410])
async def test_an_expired_picture_is_gone(minutes, status):
    """A picture whose URL is over, or nearly, is still asked for, long enough to know that it is gone for good."""
    error = await refusal(left_at("1", minutes=minutes), config=Config(), seconds=300, **{"1": status})
    assert not error.retryable


async def test_an_expired_picture_that_is_still_there_is_delivered():
    """A storage may keep pictures for longer than it promises: one that is asked for late is fetched all the same (F37,
    F47).
    """
    assert RED == (await delivery(**{"1": RED}).fetch(left_at("1", minutes=-30), QUICK, seconds=5)).data


# Secrets


@VIRTUAL
async def test_no_error_shows_a_url():
    """A signed URL opens the picture to anyone: no text of an error shows it, nor a report with local variables."""
    for status, seconds in ((404, 5), (503, 0.2)):
        error = await refusal(left_at("1"), seconds=seconds, **{"1": status})
        twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        for each in (error, twin, copy.deepcopy(error)):
            assert CANARY in each.images[0].url
            assert CANARY not in f"{each!s}{each!r}{each.args}"
        report = "".join(TracebackException.from_exception(error, capture_locals=True).format())
        assert "delivery.py" in report
        assert CANARY not in report


async def test_no_error_of_several_shows_a_url():
    """Nor does the error of several pictures, all of which are on it."""
    with pytest.raises(DownloadError) as caught:
        await delivery(**{"1": 404, "2": 410}).fetch_all([left_at("1"), left_at("2")], QUICK, seconds=5)
    report = "".join(TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert CANARY not in f"{report}{caught.value!s}{caught.value!r}"


async def test_no_log_shows_a_url(caplog):
    """Nor does what is logged on the way, at any level."""
    with caplog.at_level(logging.DEBUG):
        await refusal(left_at("1"), **{"1": 404})
        await delivery(**{"1": RED}).fetch(left_at("1"), QUICK, seconds=5)
    assert CANARY not in caplog.text


# Several pictures


async def test_all_pictures_get_their_bytes():
    """Several pictures are fetched at once, and returned in their order."""
    here = read_image(picture("green"))
    images = [left_at("1"), here, left_at("2"), left_at("1")]
    found = await delivery(**{"1": RED, "2": BLUE}).fetch_all(images, QUICK, seconds=5)
    assert [RED, here.data, BLUE, RED] == [image.data for image in found]
    assert here is found[1]
    assert isinstance(found, tuple)


@pytest.mark.parametrize("gone", [404, 503])
async def test_one_that_is_gone_stays_without_bytes(gone):
    """A picture that cannot be fetched stays as it was, and does not take the others with it."""
    images = [left_at("1"), left_at("2"), left_at("3")]
    found = await delivery(**{"1": RED, "2": gone, "3": BLUE}).fetch_all(images, QUICK, seconds=0.6)
    assert [RED, None, BLUE] == [image.data for image in found]
    assert images[1] is found[1]


async def test_one_that_is_here_is_enough():
    """Where one picture came with its bytes, those that cannot be fetched are no error."""
    images = [left_at("1"), read_image(RED)]
    assert images == list(await delivery(**{"1": 404}).fetch_all(images, QUICK, seconds=5))


@VIRTUAL
@pytest.mark.parametrize("says", [{"1": 404, "2": 410}, {"1": 400, "2": 404}, {"1": 503, "2": 503}], ids=str)
async def test_where_none_comes_the_error_has_them_all(says):
    """Where no picture can be fetched that is one error, which carries all of them for a later try."""
    images = [left_at("1"), left_at("2")]
    with pytest.raises(DownloadError) as caught:
        await delivery(**says).fetch_all(images, QUICK, seconds=0.3)
    assert tuple(images) == caught.value.images
    assert 503 not in says.values() or caught.value.retryable


@VIRTUAL
async def test_one_that_may_come_later_makes_it_worth_a_try():
    """Where one of the lost pictures may be there later, a later try is worth it."""
    with pytest.raises(DownloadError) as caught:
        await delivery(**{"1": 404, "2": 503}).fetch_all([left_at("1"), left_at("2")], QUICK, seconds=0.3)
    assert caught.value.retryable


async def test_a_mistake_among_several_comes_out_bare():
    """An error that is none of the storage's is raised as it is, and not inside of a group."""
    with pytest.raises(InvalidRequestError, match="neither bytes nor a URL"):
        await delivery(**{"1": RED}).fetch_all([left_at("1"), Image()], QUICK, seconds=5)


async def test_no_pictures_are_no_error():
    """Of no pictures, all are delivered."""
    assert () == await delivery().fetch_all([], QUICK, seconds=5)


@VIRTUAL
async def test_pictures_do_not_wait_for_each_other():
    """Ten pictures that are all missing are known to be gone as soon as one is."""
    started = anyio.current_time()
    with pytest.raises(DownloadError):
        await delivery(**{"1": 404}).fetch_all([left_at("1")] * 10, Config(), seconds=60)
    assert 10 == pytest.approx(anyio.current_time() - started, abs=1)


async def test_cancelling_ends_all_fetches():
    """Who stops waiting for several pictures stops all of them."""
    under_way: list[str] = []

    async def say(request: httpx.Request) -> httpx.Response:
        under_way.append(request.url.path)
        try:
            await anyio.sleep_forever()
        finally:
            under_way.remove(request.url.path)

    with anyio.move_on_after(0.05) as scope:
        downloader = Downloader(frozenset(), Random(7), httpx.MockTransport(say))  # noqa: S311 - no secret
        await Delivery(downloader).fetch_all([left_at(str(n)) for n in range(5)], QUICK, seconds=5)
    assert scope.cancelled_caught
    assert [] == under_way
