"""The inference API through the client: pictures that come as URLs have bytes, and nothing that is paid for is lost."""

from __future__ import annotations

import pickle
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import anyio
import httpx
import pytest

from nebula_async import (
    AsyncNebula,
    Charges,
    Config,
    ConfigurationError,
    DownloadError,
    Failure,
    Generation,
    Image,
    ImageRequest,
    InferenceRequest,
    InvalidRequestError,
    RetryPolicy,
)
from nebula_async.emulator import Emulator
from nebula_async.events import Abandoned, Failed, Generated
from nebula_async.images.media import read_media

pytestmark = pytest.mark.anyio

LAKE = "A serene mountain lake at sunset"
SMALL = {"model": "dall-e-3", "size": "64x48"}
SCHNELL = "black-forest-labs/FLUX.1-schnell"
STORAGE = "https://pictures.example/generated"
PATIENCE = 60.0


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).timestamp()

    def __call__(self) -> float:
        """Tell the time, in seconds since the epoch."""
        return self.now


def config_for(emulator: Emulator, **settings) -> Config:
    """Return the settings of a client that calls an emulator and waits for nothing of its own."""
    return Config(
        base_url=emulator.base_url,
        inference_url=emulator.inference_url,
        allowed_image_hosts=[emulator.storage_host],
        retry=RetryPolicy(backoff=0),
        **settings,
    )


@pytest.fixture
def start():
    """Start an emulator with these options."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Emulator(**options))


@asynccontextmanager
async def called(emulator: Emulator, **options):
    """Give a client of an emulator."""
    async with AsyncNebula(emulator.key, config=options.pop("config", config_for(emulator)), **options) as nebula:
        yield nebula


def paths(emulator: Emulator) -> list[str]:
    """Return what was asked of an emulator: the method and the first part of each path."""
    return [f"{record.method} {record.path[: record.path.index('/', 1)]}" for record in emulator.journal.requests]


# A storage of the test's own, through the client's transport


def reply(*urls: str) -> httpx.Response:
    """Return the inference API's reply with pictures at these URLs."""
    usage = {"images_generated": len(urls), "resolution": "64x48"}
    images = [{"url": url, "b64_json": None} for url in urls]
    headers = {"x-request-id": "r-1"}
    return httpx.Response(200, json={"status": "success", "data": {"images": images, "usage": usage}}, headers=headers)


def stored_at(*urls: str, get, **options) -> AsyncNebula:
    """Return a client whose API replies with these URLs, and whose storage is `get`."""

    async def handle(request: httpx.Request) -> httpx.Response:
        return reply(*urls) if request.method == "POST" else await get(request)

    config = options.pop("config", Config(retry=RetryPolicy(backoff=0)))
    return AsyncNebula("sk-1", config=config, transport=httpx.MockTransport(handle), **options)


# What comes back


async def test_a_picture_has_bytes(emulator):
    """The documented request gives a picture with its bytes, where it lies and until when, and what was used."""
    before = datetime.now(UTC)
    async with called(emulator) as nebula:
        lake = await nebula.generate(InferenceRequest(LAKE, **SMALL, n=1, quality="hd", style="natural"))

    media = read_media(lake.image.data)
    assert (64, 48, "image/png") == (media.width, media.height, media.media_type)
    assert (64, 48, "image/png", ".png") == (
        lake.image.width,
        lake.image.height,
        lake.image.media_type,
        lake.image.extension,
    )
    assert f"http://{emulator.storage_host}/generated/" in lake.image.url
    assert timedelta() <= lake.image.expires_at - before - timedelta(hours=1) < timedelta(seconds=PATIENCE)
    assert {"images_generated": 1, "resolution": "64x48"} == lake.usage
    assert (Charges(1, 1), 1, 0, None) == (lake.charges, lake.attempts, lake.missing, lake.request.seed)
    assert lake == pickle.loads(pickle.dumps(lake))  # noqa: S301


async def test_the_request_is_what_was_asked(emulator):
    """What is sent are the fields that were given, and nothing else."""
    async with called(emulator) as nebula:
        await nebula.generate(InferenceRequest(LAKE, **SMALL, negative_prompt="fog", id="mine", extra={"user": "me"}))

    assert {"prompt": LAKE, "model": "dall-e-3", "size": "64x48", "negative_prompt": "fog", "user": "me"} == (
        emulator.journal.generations[0].fields
    )


async def test_several_pictures(emulator):
    """`n` pictures are fetched at once, kept in order, and charged as so many."""
    async with called(emulator) as nebula:
        lakes = await nebula.generate(InferenceRequest(LAKE, **SMALL, n=4))
        as_text = await nebula.generate(InferenceRequest(LAKE, **SMALL, n=4, response_format="b64_json"))

    assert [image.data for image in as_text.images] == [image.data for image in lakes.images]
    assert 4 == len({image.data for image in lakes.images})
    assert (Charges(4, 4), 8) == (lakes.charges, emulator.journal.charged)


async def test_a_picture_that_comes_as_base64(emulator):
    """With `b64_json` there is nothing to fetch, and no URL."""
    async with called(emulator) as nebula:
        lake = await nebula.generate(InferenceRequest(LAKE, **SMALL, response_format="b64_json"))

    assert (64, None, None) == (lake.image.width, lake.image.url, lake.image.expires_at)
    assert ["POST /v1"] == paths(emulator)


async def test_the_key_is_not_told_to_the_storage(emulator):
    """Pictures are fetched without the key, by plain GETs."""
    async with called(emulator) as nebula:
        await nebula.generate(InferenceRequest(LAKE, **SMALL, n=2))

    assert ["POST /v1", "GET /generated", "GET /generated"] == paths(emulator)
    assert [True, False, False] == [record.authorized for record in emulator.journal.requests]


async def test_both_kinds_of_request_in_one_run(emulator):
    """Prompts and both kinds of request go through one client, one limit and one iteration."""
    items = ["a cat", InferenceRequest(LAKE, model="sdxl", size="16x16"), InferenceRequest(LAKE, **SMALL, n=2)]
    async with called(emulator) as nebula, nebula.generate_many(items, ordered=True, model=SCHNELL) as results:
        made = [result async for result in results]

    assert [Generation] * 3 == [type(result) for result in made]
    assert [SCHNELL, "sdxl", "dall-e-3"] == [result.request.model for result in made]
    assert [1, 1, 2] == [len(result.images) for result in made]
    assert all(image.data for result in made for image in result.images)


async def test_parameters_are_shared_by_inference_requests(emulator):
    """Shared parameters fill in what a request of either kind leaves out."""
    items = [InferenceRequest("a", model="dall-e-3"), InferenceRequest("b", model="dall-e-3", size="16x16")]
    async with called(emulator) as nebula:
        made = await nebula.generate_all(items, size="32x32", n=2)

    assert [(32, 2), (16, 2)] == [(result.image.width, len(result.images)) for result in made]


async def test_a_shared_parameter_that_a_request_does_not_have(emulator):
    """A picture of another size than meant is not paid for: such an item fails, before sending, with the reason."""
    items = ["a cat", InferenceRequest(LAKE, **SMALL)]
    async with called(emulator) as nebula:
        cat, lake = await nebula.generate_all(items, model=SCHNELL, width=16, height=16)
        prompt, _ = await nebula.generate_all(items, model=SCHNELL, size="16x16")

    assert 16 == cat.image.width
    assert isinstance(lake, Failure)
    assert "the inference API has no height, width: that cannot be shared with a request to it" == str(lake.error)
    assert "the serverless API has no size: give dialect inference (InferenceRequest), or leave that out" == (
        str(prompt.error)
    )
    assert 2 == len(emulator.journal.generations)


async def test_a_request_comes_alone(emulator):
    """Parameters beside a request would be ambiguous, and are refused."""
    async with called(emulator) as nebula:
        with pytest.raises(TypeError, match="a request alone"):
            await nebula.generate(InferenceRequest(LAKE, **SMALL), seed=5)


async def test_the_two_urls_of_the_api(start):
    """Each dialect is sent to its own URL, and the key to these two."""
    serverless, inference = start(keys="sk-mine"), start(keys="sk-mine")
    config = config_for(inference)
    async with AsyncNebula("sk-mine", config=config, base_url=serverless.base_url) as nebula:
        await nebula.generate("a cat", model=SCHNELL, width=16, height=16)
        await nebula.generate(InferenceRequest(LAKE, **SMALL))

    assert ["POST /api"] == paths(serverless)
    assert ["POST /v1", "GET /generated"] == paths(inference)


# URLs


async def test_a_picture_is_left_where_it_is(emulator):
    """With `download=False` a picture is its URL and until when; `download` fetches it, and has nothing to do twice."""
    async with called(emulator) as nebula:
        left = (await nebula.generate(InferenceRequest(LAKE, **SMALL), download=False)).image
        with pytest.raises(ValueError, match=rf"fetch it with nebula.download\(image\) before {left.expires_at:%H:%M}"):
            await left.save("lake")
        assert ["POST /v1"] == paths(emulator)
        fetched = await nebula.download(left)
        again = await nebula.download(fetched)

    assert (None, None) == (left.data, left.media_type)
    assert (64, left.url, left.expires_at) == (fetched.width, fetched.url, fetched.expires_at)
    assert again is fetched
    assert ["POST /v1", "GET /generated"] == paths(emulator)
    assert left.url not in repr(left) + repr(fetched)


async def test_many_pictures_are_left_where_they_are(emulator):
    """`generate_many` and `generate_all` leave pictures at their URLs as well, if they are told to."""
    items = [InferenceRequest(LAKE, **SMALL)]
    async with called(emulator) as nebula:
        async with nebula.generate_many(items, download=False) as results:
            many = [result.image.data async for result in results]
        (one,) = await nebula.generate_all(items, download=False)

    assert [None, None] == [*many, one.image.data]


@pytest.mark.parametrize("status", [404, 403])
async def test_a_url_that_has_expired(start, status):
    """After its hour a picture is gone: it was paid for, the error says when that was, and nothing is bought again
    (F37).
    """
    clock = Clock()
    emulator = start(clock=clock, expired_status=status)
    async with called(emulator) as nebula:
        left = (await nebula.generate(InferenceRequest(LAKE, **SMALL), download=False)).image
        clock.now += 3_601
        with pytest.raises(DownloadError, match=f"its storage answered HTTP {status}; its URL is valid until") as gone:
            await nebula.download(left)

    assert (False, (left,)) == (gone.value.retryable, gone.value.images)
    assert ["POST /v1"] + ["GET /generated"] * 3 == paths(emulator)
    assert left.url not in str(gone.value) + repr(gone.value)


async def test_a_picture_without_a_url(emulator):
    """What has neither bytes nor a URL cannot be fetched, and is refused."""
    async with called(emulator) as nebula:
        with pytest.raises(InvalidRequestError, match="neither bytes nor a URL"):
            await nebula.download(Image())


async def test_a_storage_that_is_not_allowed(emulator):
    """A URL that leads to a machine near us is not called, unless its host and port are allowed by name."""
    config = Config(inference_url=emulator.inference_url, retry=RetryPolicy(backoff=0))
    told = rf"its URL must begin with https://; .*\(NEBULA_ALLOWED_IMAGE_HOSTS\) may name {emulator.storage_host}"
    async with called(emulator, config=config) as nebula:
        with pytest.raises(DownloadError, match=told) as refused:
            await nebula.generate(InferenceRequest(LAKE, **SMALL))

    assert refused.value.is_forbidden
    assert (Charges(1, 1), 1, False) == (refused.value.charges, refused.value.attempts, refused.value.retryable)
    assert ["POST /v1"] == paths(emulator)


@pytest.mark.parametrize(
    ("settings", "request_", "problem"),
    [
        ("base_url", InferenceRequest(LAKE, **SMALL), "base_url is on this machine and inference_url is not"),
        ("inference_url", ImageRequest("a cat", model=SCHNELL), "inference_url is on this machine and base_url is not"),
    ],
)
async def test_an_emulator_is_not_left_by_mistake(emulator, settings, request_, problem):
    """Where one of the APIs was moved to this machine, nothing is sent, and bought, at the vendor's other one."""
    config = Config(**{settings: getattr(emulator, settings)})
    async with called(emulator, config=config) as nebula:
        with pytest.raises(ConfigurationError, match=problem):
            await nebula.generate(request_)


# What goes wrong after the picture is paid for


async def test_a_storage_that_fails_for_a_while(emulator):
    """A storage that fails is asked again; the picture is not paid for again (F38, F39)."""
    data = (await quick(emulator)).data
    answers = [httpx.Response(503), httpx.Response(500), httpx.Response(200, content=data[:100]), None]
    asked = []

    async def get(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answers.pop(0) or httpx.Response(200, content=data)

    async with stored_at(f"{STORAGE}/1.png", get=get) as nebula:
        lake = await nebula.generate(InferenceRequest(LAKE, **SMALL))

    assert (data, Charges(1, 1), 1) == (lake.image.data, lake.charges, lake.attempts)
    assert [f"{STORAGE}/1.png"] * 4 == [str(request.url) for request in asked]
    assert {None} == {request.headers.get("authorization") for request in asked}


async def quick(emulator: Emulator) -> Image:
    """Return a small picture."""
    async with called(emulator) as nebula:
        return (await nebula.generate(InferenceRequest(LAKE, **SMALL))).image


async def test_one_of_several_pictures_is_gone(emulator):
    """Pictures that came are kept; one that is gone stays without bytes, with its URL, and counts as missing."""
    data = (await quick(emulator)).data

    async def get(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404) if "2" in request.url.path else httpx.Response(200, content=data)

    urls = [f"{STORAGE}/{number}.png" for number in (1, 2, 3)]
    async with stored_at(*urls, get=get) as nebula:
        lakes = await nebula.generate(InferenceRequest(LAKE, **SMALL, n=3))

    assert [data, None, data] == [image.data for image in lakes.images]
    assert urls == [image.url for image in lakes.images]
    assert (Charges(3, 3), 1) == (lakes.charges, lakes.missing)


async def test_all_pictures_are_gone():
    """The error of a call says what it cost, under which id, and holds every URL; observers hear of the
    failure (F37).
    """
    events = []

    async def get(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(410)

    urls = [f"{STORAGE}/{number}.png" for number in (1, 2)]
    async with stored_at(*urls, get=get, observer=events.append) as nebula:
        with pytest.raises(DownloadError) as gone:
            await nebula.generate(InferenceRequest(LAKE, **SMALL, n=2))

    assert (Charges(2, 2), 1, "r-1", False) == (
        gone.value.charges,
        gone.value.attempts,
        gone.value.request_id,
        gone.value.retryable,
    )
    assert urls == [image.url for image in gone.value.images]
    assert gone.value.idempotency_key is not None
    assert ["DownloadError"] == [event.error for event in events if isinstance(event, Failed)]
    assert [] == [event for event in events if isinstance(event, Generated)]


async def test_the_deadline_spans_the_fetching():
    """The total time of a call includes its pictures' way: at its end the URLs are handed over, to be tried later."""

    async def get(_request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()

    config = Config(retry=RetryPolicy(backoff=0), timeouts=0.2)
    started = anyio.current_time()
    async with stored_at(f"{STORAGE}/1.png", get=get, config=config) as nebula:
        with pytest.raises(DownloadError, match=r"could not be fetched within 0\.\d+ s") as late:
            await nebula.generate(InferenceRequest(LAKE, **SMALL))

    assert 0.15 < anyio.current_time() - started < 0.2 + PATIENCE
    assert (True, Charges(1, 1)) == (late.value.retryable, late.value.charges)
    assert [f"{STORAGE}/1.png"] == [image.url for image in late.value.images]


async def test_a_call_that_is_cancelled_while_it_fetches():
    """Observers hear what an abandoned call has cost, also when only its pictures were still to come."""
    events, fetching = [], anyio.Event()

    async def get(_request: httpx.Request) -> httpx.Response:
        fetching.set()
        await anyio.sleep_forever()

    async with (
        stored_at(f"{STORAGE}/1.png", get=get, observer=events.append) as nebula,
        anyio.create_task_group() as group,
    ):
        group.start_soon(nebula.generate, InferenceRequest(LAKE, **SMALL))
        with anyio.fail_after(PATIENCE):
            await fetching.wait()
        group.cancel_scope.cancel()

    assert [Charges(1, 1)] == [event.charges for event in events if isinstance(event, Abandoned)]


async def test_a_client_that_is_closed_fetches_nothing(emulator):
    """After `aclose` a fetch is refused with one clear sentence, bare, also for several pictures."""
    async with called(emulator) as nebula:
        lakes = await nebula.generate(InferenceRequest(LAKE, **SMALL, n=2), download=False)
    with pytest.raises(RuntimeError, match="this AsyncNebula is closed"):
        await nebula.download(lakes.image)


# Prices


async def test_the_price_list_of_the_account(emulator):
    """Once `models` has read the list, costs go by it, for siblings as well; until then by what is built in."""
    kontext = {"model": "black-forest-labs/FLUX.1-Kontext-dev", "width": 16, "height": 16}
    async with called(emulator) as nebula:
        picture = (await nebula.generate("a cat", model=SCHNELL, width=16, height=16)).image.data
        before = await nebula.generate("at night", **kontext, image=picture)
        sibling = nebula.with_options(timeout=60)
        listed = {model.id: model.price for model in await sibling.models()}
        after = await nebula.generate("at night", **kontext, image=picture)

    assert (None, Decimal("0.025"), Decimal("0.025")) == (before.cost, listed[kontext["model"]], after.cost)


async def test_a_list_that_tells_no_price():
    """A model whose price the list leaves open keeps the one that is built in; one without any stays unknown."""
    models = [{"model_name": SCHNELL, "price": None}, {"model_name": "a/new-one", "price": 0.5}, {"model_name": "b/c"}]
    picture = {"b64_json": "R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAkQBADs="}

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": [picture] if request.method == "POST" else {"models": models}})

    async with AsyncNebula("sk-1", transport=httpx.MockTransport(handle)) as nebula:
        await nebula.models()
        costs = [(await nebula.generate("x", model=model)).cost for model in (SCHNELL, "a/new-one", "b/c")]

    assert [Decimal("0.0019"), Decimal("0.5"), None] == costs
