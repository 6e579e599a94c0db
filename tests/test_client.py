"""What users rely on: one client, all its verbs, in whatever way they run it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import logging
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Coroutine
from contextlib import ExitStack, suppress
from decimal import Decimal
from typing import get_overloads

import anyio
import attrs
import httpx
import pybase64
import pytest
import pytest_asyncio
from PIL import Image as Pillow
from trio.testing import MockClock

from nebula_async import (
    AsyncNebula,
    BadRequestError,
    Charges,
    Config,
    ConfigurationError,
    ContentPolicyError,
    DeadlineError,
    Failure,
    Generation,
    ImageRequest,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitError,
    RetryPolicy,
    Timeouts,
    UnusableReplyError,
)
from nebula_async.emulator import Emulator
from nebula_async.events import Abandoned, Asked, Failed, Generated, ParameterIgnored, Sent, observers
from nebula_async.requests import field_names

SCHNELL = "black-forest-labs/FLUX.1-schnell"
KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"
FILL = "black-forest-labs/FLUX.1-Fill-dev"
SMALL = {"model": SCHNELL, "width": 16, "height": 16}

PATIENCE = 60.0


def client(emulator: Emulator, **options) -> AsyncNebula:
    """Return a client of an emulator, without waits of its own."""
    return AsyncNebula(
        options.pop("api_key", emulator.key),
        config=options.pop("config", Config(retry=RetryPolicy(backoff=0))),
        base_url=emulator.base_url,
        **options,
    )


@pytest.fixture
def start():
    """Start an emulator with these options."""
    with ExitStack() as stack:
        yield lambda *faults, **options: stack.enter_context(Emulator(faults=faults, **options))


async def quick(emulator: Emulator) -> Generation:
    """Generate one small picture with a client of its own."""
    async with client(emulator) as nebula:
        return await nebula.generate("a cat", **SMALL)


# Lifetime


@pytest.mark.anyio
async def test_with_a_block(emulator):
    """`async with` gives a client that generates a picture, decoded, with everything there is to know about it."""
    async with client(emulator) as nebula:
        cat = await nebula.generate("a flying cat", **SMALL)

    assert (16, 16, "image/png", ".png") == (
        cat.image.width,
        cat.image.height,
        cat.image.media_type,
        cat.image.extension,
    )
    assert (1, Charges(1, 1), 0, 0) == (cat.attempts, cat.charges, cat.index, cat.missing)
    assert (SCHNELL, Decimal("0.0019")) == (cat.model, cat.cost)
    assert emulator.journal.spent == cat.cost


@pytest.mark.anyio
async def test_without_a_block(emulator):
    """A client is usable at once; `aclose` ends it, and may be called twice."""
    nebula = client(emulator)
    assert isinstance(await nebula.generate("a cat", **SMALL), Generation)
    await nebula.aclose()
    await nebula.aclose()


@pytest.mark.anyio
async def test_a_closed_client_says_so(emulator):
    """After closing, a call raises a RuntimeError that says what to do."""
    nebula = client(emulator)
    await nebula.aclose()
    with pytest.raises(RuntimeError, match="this AsyncNebula is closed; make a new one"):
        await nebula.generate("a cat", **SMALL)
    with pytest.raises(RuntimeError, match="closed"):
        await nebula.generate_all(["a cat"], **SMALL)


@pytest.mark.parametrize("backends", [("asyncio", "asyncio"), ("trio", "asyncio", "trio")])
def test_several_event_loops(emulator, backends):
    """One client serves event loops one after the other, and closing it in the last leaves nothing open (F43)."""
    nebula = client(emulator)
    for backend in backends:
        assert isinstance(anyio.run(generate_with, nebula, backend=backend), Generation)
    anyio.run(nebula.aclose)
    gc.collect()


async def generate_with(nebula: AsyncNebula) -> Generation:
    """Generate one small picture."""
    return await nebula.generate("a cat", **SMALL)


def test_several_event_loops_at_once(emulator):
    """One client serves event loops in several threads at the same time."""
    nebula, done = client(emulator), []

    async def several() -> None:
        done.extend([await generate_with(nebula) for _ in range(3)])

    threads = [threading.Thread(target=anyio.run, args=(several,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    anyio.run(nebula.aclose)
    gc.collect()

    assert 9 == len(done)


def test_cells_of_a_notebook(emulator):
    """A client made outside the loop works in cell after cell of one loop that stays, as in IPython."""
    loop = asyncio.new_event_loop()
    nebula = client(emulator)
    cells = [loop.run_until_complete(generate_with(nebula)) for _ in range(3)]
    many = loop.run_until_complete(nebula.generate_all(["a", "b"], **SMALL))
    loop.run_until_complete(nebula.aclose())
    loop.close()
    gc.collect()

    assert [Generation] * 5 == [type(each) for each in cells + many]
    assert 2 >= len({record.connection for record in emulator.journal.requests})


@pytest_asyncio.fixture
async def native_nebula(emulator) -> AsyncIterator[AsyncNebula]:
    """A client as a fixture of pytest-asyncio."""
    async with client(emulator) as nebula:
        yield nebula


@pytest.mark.asyncio
async def test_as_a_fixture_of_pytest_asyncio(native_nebula):
    """A client can be a fixture of pytest-asyncio."""
    assert isinstance(await generate_with(native_nebula), Generation)


@pytest.fixture
async def nebula(emulator) -> AsyncIterator[AsyncNebula]:
    """A client as a fixture of anyio."""
    async with client(emulator) as nebula:
        yield nebula


@pytest.mark.anyio
async def test_as_a_fixture_of_anyio(nebula):
    """A client can be a fixture of anyio, on both loops."""
    assert isinstance(await generate_with(nebula), Generation)


class Ours(AsyncNebula):
    """A subclass with a constructor of its own."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator.key, base_url=emulator.base_url)


@pytest.mark.parametrize("make", [client, Ours], ids=["itself", "a subclass"])
def test_a_client_that_is_not_closed_warns(emulator, make):
    """One that was used and not closed gives a ResourceWarning, which names the line that made it (F43)."""
    made = make if make is Ours else lambda emulator: AsyncNebula(emulator.key, base_url=emulator.base_url)
    nebula = made(emulator)
    line = inspect.currentframe().f_lineno - (1 if make is Ours else 2)
    anyio.run(generate_with, nebula)
    with pytest.warns(ResourceWarning, match=rf"unclosed AsyncNebula made at .*test_client\.py:{line}: use async with"):
        del nebula


@pytest.mark.parametrize("use", [None, quick], ids=["unused", "closed"])
def test_a_client_in_order_does_not_warn(emulator, use):
    """One that was never used, or was closed, says nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client(emulator)
        if use:
            anyio.run(use, emulator)
        gc.collect()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_unclosed_client_at_the_end_of_the_interpreter(emulator, backend):
    """A program that ends without closing its client sees that one warning, and no traceback."""
    program = (
        "import anyio, nebula_async\n"
        f"nebula = nebula_async.AsyncNebula({emulator.key!r}, base_url={emulator.base_url!r})\n"
        f"anyio.run(nebula.credits, backend={backend!r})\n"
    )
    ended = subprocess.run([sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, check=True)

    assert 1 == ended.stderr.count("ResourceWarning")
    assert "unclosed AsyncNebula made at <string>:2" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("key", [None, "", "   ", "sk-1\n", "sk-ü", 5])
def test_a_missing_or_malformed_key(key):
    """Without a key that a header can carry no client is made; the message never holds the key, and nothing warns."""
    with pytest.raises(ConfigurationError) as caught:
        AsyncNebula(key)
    gc.collect()

    assert "sk-" not in str(caught.value)


@pytest.mark.anyio
async def test_the_key_comes_from_the_environment(emulator, monkeypatch):
    """Without `api_key` the environment is read, also for the URL."""
    monkeypatch.setenv("NEBULA_API_KEY", emulator.key)
    monkeypatch.setenv("NEBULA_BASE_URL", emulator.base_url)
    monkeypatch.setenv("NEBULA_TIMEOUT", "30")
    monkeypatch.setenv("NEBULA_TIER", "expert-1")
    async with AsyncNebula() as nebula:
        assert isinstance(await generate_with(nebula), Generation)

    assert (30, 1500) == (nebula.config.timeouts.total, nebula.config.per_minute)
    assert 7 == AsyncNebula(timeout=7).config.timeouts.total
    assert Config() == AsyncNebula(config=Config()).config
    assert "https://localhost" == AsyncNebula(config=Config(), base_url="https://localhost/").config.base_url


@pytest.mark.anyio
async def test_a_refused_key(emulator):
    """A key that the API does not know is its own error, at the first attempt, and costs nothing."""
    async with client(emulator, api_key="sk-unknown") as nebula:
        with pytest.raises(NotFoundError, match="NEBULA_API_KEY") as caught:
            await generate_with(nebula)

    assert (1, Charges(0, 0)) == (caught.value.attempts, caught.value.charges)


def test_the_key_is_nowhere_to_be_seen(emulator):
    """The client shows where it sends, never with which key."""
    nebula = client(emulator, api_key="sk-secret")

    assert f"AsyncNebula('{emulator.base_url}')" == repr(nebula)
    assert "sk-secret" not in repr(vars(nebula))


# Siblings


@pytest.mark.anyio
async def test_siblings_share_connections_and_gate(emulator):
    """A sibling uses the connections and the rate limit of the client it was made from, and closes them for both."""
    nebula = client(emulator)
    sibling = nebula.with_options(timeout=5, retry=RetryPolicy(attempts=1), parameter_rules="strict")
    for each in (nebula, sibling, nebula):
        await generate_with(each)
    await sibling.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await generate_with(nebula)

    assert 1 == len({record.connection for record in emulator.journal.requests})
    assert (Timeouts(total=5), RetryPolicy(attempts=1)) == (sibling.config.timeouts, sibling.config.retry)
    assert Timeouts() == nebula.config.timeouts


@pytest.mark.parametrize("name", ["base_url", "tier", "rate_limit", "concurrency", "transport", "api_key", "colour"])
def test_siblings_are_of_the_same_account(emulator, name):
    """What belongs to the account, or is unknown, cannot be changed for a sibling."""
    with pytest.raises(ConfigurationError, match=f"with_options cannot change {name}; it can change .*retry"):
        client(emulator).with_options(**{name: None})


@pytest.mark.anyio
async def test_an_unclosed_client_lives_on_in_its_sibling(emulator):
    """A client whose sibling is still there is not missed."""
    nebula = client(emulator)
    sibling = nebula.with_options(timeout=5)
    await generate_with(nebula)
    del nebula
    gc.collect()
    await generate_with(sibling)
    await sibling.aclose()


# One picture


@pytest.mark.anyio
async def test_three_ways_to_ask(nebula, emulator):
    """A prompt by position, by name, or a request ask for the same."""
    parameters = SMALL | {"num_steps": 4, "guidance_scale": 3.5, "seed": 11}
    cats = [
        await nebula.generate("a cat", **parameters),
        await nebula.generate(prompt="a cat", **parameters),
        await nebula.generate(ImageRequest("a cat", **parameters)),
    ]

    assert 1 == len({cat.image.data for cat in cats})
    assert [{"prompt": "a cat"} | parameters] * 3 == [dict(record.fields) for record in emulator.journal.requests]


def test_the_keywords_of_generate_are_the_fields_of_a_request():
    """Whatever a request can say can be said to `generate`, under the same name."""
    fields = field_names(ImageRequest) - {"id", "extra"}
    forms = [
        inspect.signature(form).parameters for form in (AsyncNebula.generate, *get_overloads(AsyncNebula.generate))
    ]

    assert 3 == len(forms)
    assert fields == forms[0].keys() - {"self", "download", "sink"}
    assert {"prompt"} == forms[1].keys() - {"self", "download", "sink"}
    assert fields == forms[2].keys() - {"self", "download", "sink"}
    for name in fields - {"prompt"}:
        assert inspect.Parameter.KEYWORD_ONLY is forms[0][name].kind is forms[2][name].kind
        assert attrs.fields_dict(ImageRequest)[name].default in (forms[0][name].default, attrs.NOTHING)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": " "},
        {"prompt": 5},
        {"model": None},
        {"model": ""},
        {"width": 5},
        {"width": 16.0},
        {"height": True},
        {"num_steps": 0},
        {"guidance_scale": float("nan")},
        {"seed": -2},
        {"negative_prompt": 7},
        {"image": 7},
        {"image": "/does/not/exist.png"},
        {"image": b"no picture"},
        {"mask": b"without an image"},
    ],
)
async def test_what_cannot_be_meant_is_not_sent(nebula, emulator, wrong):
    """A wrong parameter is refused by name before anything is sent."""
    with pytest.raises(InvalidRequestError, match=next(iter(wrong))) as caught:
        await nebula.generate(**{"prompt": "a cat"} | SMALL | wrong)

    assert isinstance(caught.value, ValueError)
    assert () == emulator.journal.requests


@pytest.mark.anyio
async def test_a_request_comes_alone(nebula, emulator):
    """Parameters beside a request would be ambiguous, and are refused."""
    with pytest.raises(TypeError, match="a request alone"):
        await nebula.generate(ImageRequest("a cat", **SMALL), seed=5)

    assert () == emulator.journal.requests


@pytest.mark.anyio
async def test_a_seed_is_chosen_and_recorded(nebula, emulator):
    """Without a seed one is chosen, sent, and found in the result: the picture can be made again."""
    cat = await generate_with(nebula)
    again = await nebula.generate(cat.request)

    assert cat.request.seed is not None
    assert [cat.request.seed] * 2 == [record.seed for record in emulator.journal.requests]
    assert cat.image.data == again.image.data


@pytest.mark.anyio
async def test_no_seed_is_chosen_where_none_is_wanted(emulator):
    """`choose_seed=False` leaves the seed to the server; a model that honours none is sent none."""
    async with client(emulator) as nebula:
        plain = await nebula.with_options(choose_seed=False).generate("a cat", **SMALL)
        other = await nebula.generate("a cat", **SMALL | {"model": "stabilityai/stable-diffusion-xl-base-1.0"})

    assert [None, None] == [plain.request.seed, other.request.seed]
    assert [False, False] == ["seed" in record.fields for record in emulator.journal.requests]


@pytest.mark.anyio
async def test_image_to_image(nebula, emulator, tmp_path):
    """A picture is sent from a path, from bytes or from an open file: the same either way."""
    cat = await generate_with(nebula)
    path = await cat.image.save(tmp_path / "cat")
    with path.open("rb") as file:
        sources = [path, str(path), cat.image.data, file]
        made = [await nebula.generate("at night", model=KONTEXT, image=source) for source in sources]

    sent = [record.fields["image"] for record in emulator.journal.requests[1:]]
    assert [sent[0]] * 4 == sent
    assert 1 == len({each.image.data for each in made})
    assert made[0].image.data != cat.image.data


@pytest.mark.anyio
async def test_inpainting(nebula, emulator):
    """An image and a mask are sent together."""
    cat = await generate_with(nebula)
    made = await nebula.generate("a dog", model=FILL, image=cat.image.data, mask=cat.image.data, width=16, height=16)

    assert Charges(1, 1) == made.charges
    assert {"image", "mask"} <= emulator.journal.requests[1].fields.keys()


@pytest.mark.anyio
async def test_fields_that_this_library_does_not_know(nebula, emulator):
    """`extra` is sent as it is; the number of pictures in it is what the call may cost."""
    cats = await nebula.generate(ImageRequest("a cat", **SMALL, id="mine", extra={"num_images": 1, "safety": "low"}))

    assert Charges(1, 1) == cats.charges
    assert "low" == emulator.journal.requests[0].fields["safety"]
    assert "id" not in emulator.journal.requests[0].fields
    assert "mine" == cats.request.id


@pytest.mark.anyio
async def test_what_comes_back_travels(emulator):
    """Results and errors can be pickled: they hold no client and no key."""
    async with client(emulator) as nebula:
        cat, failure = await nebula.generate_all(["a cat", " "], **SMALL)

    assert cat == pickle.loads(pickle.dumps(cat))  # noqa: S301
    again = pickle.loads(pickle.dumps(failure))  # noqa: S301
    assert (InvalidRequestError, str(failure.error), failure.request) == (
        type(again.error),
        str(again.error),
        again.request,
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "error", "charges"),
    [
        ("400=content_policy_violation", ContentPolicyError, Charges(0, 0)),
        ("malformed=base64", UnusableReplyError, Charges(1, 1)),
        ("cut", OutcomeUnknownError, Charges(2, 2)),
    ],
)
async def test_errors_say_what_they_cost(start, fault, error, charges):
    """Whatever a call ends with says what it may have cost, and holds no picture."""
    emulator = start(f"{fault}:1")
    async with client(emulator) as nebula:
        with pytest.raises(error) as caught:
            await generate_with(nebula)

    assert charges == caught.value.charges
    assert charges.at_least <= emulator.journal.charged <= charges.at_most
    assert 10_000 > len(pickle.dumps(caught.value))


@pytest.mark.anyio
async def test_the_catalogue_and_the_balance(nebula, emulator):
    """The models with their prices and the balance are read from the API, for nothing."""
    models = {model.id: model for model in await nebula.models()}
    before = await nebula.credits()
    cat = await generate_with(nebula)

    assert SCHNELL in models
    assert cat.cost == models[SCHNELL].price
    assert before - cat.cost == await nebula.credits()
    emulator.assert_charged(1)


# The loop stays free


async def longest_pause(work) -> float:
    """Return the longest that the event loop was kept busy in one piece while `work` ran, in seconds."""
    longest, last = 0.0, anyio.current_time()

    async def tick() -> None:
        nonlocal longest, last
        while True:
            await anyio.sleep(0.001)
            now = anyio.current_time()
            longest, last = max(longest, now - last), now

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await work()
        group.cancel_scope.cancel()
    return longest


@pytest.mark.anyio
async def test_the_event_loop_stays_free():
    """While a reply with a picture of some 20 MB is read, decoded and checked, other tasks go on."""
    file = io.BytesIO()
    Pillow.effect_noise((2400, 2400), 90).convert("RGB").save(file, format="PNG", compress_level=0)
    body = b'{"data": [{"b64_json": "' + pybase64.b64encode(file.getvalue()) + b'"}]}'
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=body))
    async with AsyncNebula("sk-1", base_url="http://localhost", transport=transport) as nebula:

        async def work() -> None:
            assert 2400 == (await generate_with(nebula)).image.width

        longest = await longest_pause(work)

    assert longest < 0.25


# Many pictures


@pytest.mark.anyio
async def test_many(start):
    """Prompts and requests can be mixed; each ends as a result with its index and request, a bad one as a failure."""
    emulator = start("400=content_policy_violation:@3")
    items = ["a", ImageRequest("b", model=SCHNELL, seed=5, id="mine"), "c", " ", 7, "f"]
    async with client(emulator, concurrency=1) as nebula, nebula.generate_many(items, **SMALL) as stream:
        results = {result.index: result async for result in stream}

    assert list(range(6)) == sorted(results)
    assert [Generation, Generation, Failure, Failure, Failure, Generation] == [
        type(results[index]) for index in range(6)
    ]
    assert ["a", "b", "c", " ", "7 (int)", "f"] == [results[index].request.prompt for index in range(6)]
    assert [ContentPolicyError, InvalidRequestError, InvalidRequestError] == [
        type(results[index].error) for index in (2, 3, 4)
    ]
    assert ("mine", 5, 16) == (results[1].request.id, results[1].request.seed, results[1].request.width)
    assert 4 == len(emulator.journal.requests)


@pytest.mark.anyio
async def test_many_from_an_async_iterable(nebula):
    """Prompts may come from an async iterable."""

    async def prompts() -> AsyncIterator[str]:
        for number in range(5):
            yield f"cat {number}"

    async with nebula.generate_many(prompts(), **SMALL) as results:
        assert {f"cat {number}" for number in range(5)} == {result.request.prompt async for result in results}


@pytest.mark.anyio
async def test_many_in_order(start):
    """In order, results come in the order of the items, whichever is ready first."""
    emulator = start("delay=0.2:@1")
    async with client(emulator) as nebula:
        async with nebula.generate_many(map(str, range(6)), ordered=True, **SMALL) as results:
            assert list(range(6)) == [result.index async for result in results]
        assert [str(number) for number in range(6)] == [
            result.request.prompt for result in await nebula.generate_all(map(str, range(6)), **SMALL)
        ]


@pytest.mark.anyio
async def test_shared_parameters_fill_in(nebula, emulator):
    """Shared parameters are those of each item that has none of its own."""
    own = ImageRequest("own", model=SCHNELL, width=32, seed=1)
    results = await nebula.generate_all(["bare", own], **SMALL, seed=9)

    assert [(16, 16, 9), (32, 16, 1)] == [
        (result.request.width, result.request.height, result.request.seed) for result in results
    ]
    assert 32 == own.width


@pytest.mark.parametrize("one", ["a cat", b"a cat", ImageRequest("a cat", model=SCHNELL)], ids=["str", "bytes", "one"])
def test_one_item_is_no_many(emulator, one):
    """A bare prompt would be taken letter by letter: it is refused at once."""
    with pytest.raises(TypeError, match="use generate"):
        client(emulator).generate_many(one, model=SCHNELL)
    with pytest.raises(TypeError, match="use generate"):
        anyio.run(client(emulator).generate_all, one)


@pytest.mark.parametrize("name", ["colour", "id", "prompt", "sink_"])
def test_unknown_shared_parameters(emulator, name):
    """A parameter that no item can have is refused at once, before anything is taken."""
    with pytest.raises(InvalidRequestError, match=f"{name} cannot be shared by all items; what can is .*width"):
        client(emulator).generate_many(iter(()), **{name: "x"})


@pytest.mark.parametrize("workers", [0, -1, True, 1.5])
def test_concurrency_is_checked(emulator, workers):
    """A number of workers that cannot be meant is refused at once."""
    with pytest.raises(ConfigurationError, match="concurrency"):
        client(emulator).generate_many([], concurrency=workers)


@pytest.mark.anyio
async def test_concurrency_of_many(start):
    """`concurrency` bounds how many are under way, and with that how much is taken ahead."""
    taken = []

    def prompts():
        for number in range(100):
            taken.append(number)
            yield str(number)

    async with client(start()) as nebula, nebula.generate_many(prompts(), concurrency=2, **SMALL) as results:
        async for _ in results:
            break
    assert len(taken) <= 5


@pytest.mark.anyio
async def test_leaving_the_block_cancels(start):
    """Leaving the block ends what is in flight; an exception of the block comes out bare."""
    emulator = start("delay=60:1")

    async def leave(nebula: AsyncNebula) -> None:
        async with nebula.generate_many(map(str, range(100)), **SMALL):
            while len(emulator.journal.requests) < 16:  # noqa: ASYNC110 - the emulator lives in another thread
                await anyio.sleep(0.01)
            raise LookupError("mine")

    async with client(emulator) as nebula:
        with anyio.fail_after(PATIENCE), pytest.raises(LookupError, match="mine"):
            await leave(nebula)


@pytest.mark.anyio
async def test_throttling_is_waited_out(start):
    """Many requests over the limit all succeed: refusals cost neither an attempt nor an item."""
    emulator = start(per_minute=1200, burst=1, retry_after="ms")
    async with client(emulator, config=Config(retry=RetryPolicy(attempts=1))) as nebula:
        results = await nebula.generate_all(map(str, range(5)), **SMALL)

    assert [Generation] * 5 == [type(result) for result in results]
    assert 5 == emulator.journal.charged
    assert 5 < len(emulator.journal.requests)


@pytest.mark.anyio
async def test_the_daily_quota_ends_the_iteration(start):
    """When the day's quota is used up what was taken fails, then there is one error, and the rest is untaken."""
    emulator = start(per_day=3, retry_after="seconds", clock=lambda: 1_800_000_000.0 // 86_400 * 86_400)
    prompts, done = iter(range(1000)), []
    async with client(emulator, concurrency=2) as nebula, nebula.generate_many(map(str, prompts), **SMALL) as results:
        with pytest.raises(RateLimitError) as caught:
            await drain(results, done)
        assert [] == [result async for result in results]

    assert (True, 0, Charges(0, 0)) == (caught.value.is_daily, caught.value.attempts, caught.value.charges)
    assert 3 == len([result for result in done if isinstance(result, Generation)]) == emulator.journal.charged
    assert list(range(next(prompts))) == sorted(result.index for result in done)
    assert len(done) <= 8
    assert 5 >= len(emulator.journal.requests)


async def drain(results: AsyncIterator, done: list) -> None:
    """Take everything that comes."""
    async for result in results:
        done.append(result)  # noqa: PERF401 - what came before an exception is kept


@pytest.mark.anyio
async def test_failures_hold_no_frames(start):
    """A failure that is kept keeps no request, reply or connection alive: its error has a cause, and no traceback."""
    async with client(start("cut:1")) as nebula:
        (failure,) = await nebula.generate_all(["a cat"], **SMALL)

    assert isinstance(failure.error.__cause__, Exception)
    assert [None, None] == [failure.error.__traceback__, failure.error.__cause__.__traceback__]


@pytest.mark.anyio
async def test_the_daily_quota_loses_nothing(start):
    """`generate_all` returns what was paid for, and a failure for everything that the day's quota left over."""
    emulator = start(per_day=3, retry_after="seconds", clock=lambda: 1_800_000_000.0 // 86_400 * 86_400)
    async with client(emulator, concurrency=2) as nebula:
        results = await nebula.generate_all(map(str, range(20)), **SMALL)

    assert list(range(20)) == [result.index for result in results]
    assert [str(number) for number in range(20)] == [result.request.prompt for result in results]
    assert 3 == sum(isinstance(result, Generation) for result in results)
    assert {"day"} == {result.error.scope for result in results if isinstance(result, Failure)}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])
async def test_an_hour_of_throttling_is_waited_out():
    """However long the server asks everyone to wait, nothing is lost and no deadline strikes."""
    begun = anyio.current_time()

    def reply(_request: httpx.Request) -> httpx.Response:
        if anyio.current_time() < begun + 3000:
            return httpx.Response(429, headers={"Retry-After": "3000"})
        return httpx.Response(400)

    async with AsyncNebula("sk-1", base_url="http://localhost", transport=httpx.MockTransport(reply)) as nebula:
        results = await nebula.generate_all(["a", "b", "c"], **SMALL)

    assert [BadRequestError] * 3 == [type(result.error) for result in results]
    assert 3000 <= anyio.current_time() - begun < 3010


# Observers


@pytest.mark.anyio
async def test_observers(start):
    """An observer hears how each request goes and how it ends, and never a prompt or a key."""
    events: list = []
    async with client(start("400:@2"), observer=events.append) as nebula:
        await generate_with(nebula)
        with pytest.raises(BadRequestError):
            await generate_with(nebula)

    assert [Asked, Sent, Generated, Asked, Sent, Failed] == [type(event) for event in events]
    asked, sent, generated, *_, failed = events
    assert (SCHNELL, "serverless", 1, 16, 16) == (
        asked.model,
        asked.dialect,
        asked.pictures,
        asked.width,
        asked.height,
    )
    assert asked.seed is not None
    assert (1, Charges(1, 1), SCHNELL, 1) == (
        generated.pictures,
        generated.charges,
        generated.model,
        generated.attempts,
    )
    assert ("BadRequestError", Charges(0, 0), 400) == (failed.error, failed.charges, failed.status)
    assert asked.call == sent.call == generated.call != failed.call == events[3].call
    assert "a cat" not in repr(events)


@pytest.mark.anyio
async def test_an_observer_that_fails(emulator, caplog):
    """What an observer raises is logged, and reaches no call."""

    def observer(event: object) -> None:
        raise LookupError("mine")

    async with client(emulator, observer=observer) as nebula:
        assert isinstance(await generate_with(nebula), Generation)

    assert [f"the observer failed on {event}" for event in ("Asked", "Sent", "Generated")] == caplog.messages
    assert all("mine" in record.exc_text for record in caplog.records)


@pytest.mark.anyio
async def test_several_observers(emulator, caplog):
    """Several observers are told the same; one that fails keeps nothing from the next."""
    first: list = []
    last: list = []

    def fails(_event: object) -> None:
        raise LookupError("mine")

    async with client(emulator, observer=observers(first.append, fails, last.append)) as nebula:
        await generate_with(nebula)

    assert [Asked, Sent, Generated] == [type(event) for event in first]
    assert first == last
    assert "the observer failed on Asked" in caplog.messages


@pytest.mark.anyio
async def test_every_call_that_began_is_told_to_end(start):
    """Each call that observers hear to begin, they hear to end once: answered, failed, refused unsent or cancelled."""
    events: list = []
    async with client(start("400:@2", "delay=30:@3"), observer=events.append) as nebula:
        await generate_with(nebula)
        with pytest.raises(BadRequestError):
            await generate_with(nebula)
        with pytest.raises(InvalidRequestError):
            await nebula.generate("a cat", **SMALL, image=b"\x89PNG\r\n\x1a\n")
        with anyio.move_on_after(0.2):
            await generate_with(nebula)
        with anyio.move_on_after(0) as scope:
            scope.cancel()
            await generate_with(nebula)

    begun = [event.call for event in events if isinstance(event, Asked)]
    ended = [event.call for event in events if isinstance(event, Generated | Failed | Abandoned)]
    assert 5 == len(begun)
    assert begun == ended


def test_a_call_that_nobody_awaits_any_more_is_told_to_end(emulator):
    """A call whose coroutine is closed, where no event loop runs any more, is told as abandoned all the same."""
    events: list = []

    async def begin() -> Coroutine:
        nebula = client(emulator, observer=events.append)
        call = nebula.generate("a cat", **SMALL)
        call.send(None)
        return call

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        abandoned = asyncio.run(begin())
        with suppress(RuntimeError):  # no event loop runs
            abandoned.close()
        del abandoned
        gc.collect()

    assert Asked is type(events[0])
    assert [Abandoned] == [type(event) for event in events if isinstance(event, Generated | Failed | Abandoned)]
    assert events[-1].error is not None


@pytest.mark.anyio
async def test_parameters_that_are_ignored_are_told_once(emulator):
    """A parameter that the model does not honour is told once for each problem, siblings included."""
    events: list = []
    async with client(emulator, observer=events.append) as nebula:
        for each in (nebula, nebula.with_options(timeout=60), nebula):
            await each.generate("a cat", **SMALL, negative_prompt="a dog")
        await nebula.generate_all(["a", "b"], **SMALL, negative_prompt="a dog")

    told = [event for event in events if isinstance(event, ParameterIgnored)]
    assert [SCHNELL] == [event.model for event in told]
    assert "does not honour negative_prompt" in told[0].problem


@pytest.mark.anyio
async def test_the_default_observer_logs(emulator, caplog):
    """Without an observer the log under `nebula_async` tells: warnings of what will be ignored, and no secret."""
    with caplog.at_level(logging.DEBUG, logger="nebula_async"):
        async with client(emulator) as nebula:
            await nebula.generate("a cat", **SMALL, negative_prompt="a dog")

    assert [logging.DEBUG, logging.WARNING, logging.DEBUG, logging.DEBUG] == [
        record.levelno for record in caplog.records if record.name == "nebula_async"
    ]
    assert emulator.key not in caplog.text
    assert "a cat" not in caplog.text


@pytest.mark.anyio
async def test_strict_rules(emulator):
    """With `parameter_rules="strict"` a parameter that would be ignored is refused before anything is sent (B12)."""
    async with client(emulator) as nebula:
        strict = nebula.with_options(parameter_rules="strict")
        with pytest.raises(InvalidRequestError, match="does not honour negative_prompt"):
            await strict.generate("a cat", **SMALL, negative_prompt="a dog")
        with pytest.raises(InvalidRequestError, match="not in the catalogue"):
            await strict.generate("a cat", model="unknown/model")

    assert () == emulator.journal.requests


@pytest.mark.anyio
async def test_rules_off(emulator):
    """With `parameter_rules="off"` everything is sent, and nothing is said."""
    events: list = []
    async with client(emulator, observer=events.append) as nebula:
        await nebula.with_options(parameter_rules="off").generate("a cat", **SMALL, negative_prompt="a dog")

    assert [Asked, Sent, Generated] == [type(event) for event in events]
    assert "a dog" == emulator.journal.requests[0].fields["negative_prompt"]


# Settings that meet


@pytest.mark.parametrize("make", ["constructor", "sibling"])
def test_a_timeout_changes_the_total_alone(make):
    """A timeout in seconds is the total; the other limits stay as they were configured."""
    config = Config(timeouts=Timeouts(connect=1, read=5))
    if make == "constructor":
        nebula = AsyncNebula("sk-1", config=config, timeout=60)
    else:
        nebula = AsyncNebula("sk-1", config=config).with_options(timeout=60)

    assert Timeouts(connect=1, read=5, total=60) == nebula.config.timeouts


@pytest.mark.parametrize("config", [{}, {"concurrency": 3}, "", 0, False, Config, Timeouts()])
def test_a_config_of_another_type(config):
    """What is no `Config` is refused when the client is made, empty or not."""
    with pytest.raises(ConfigurationError, match="config must be a Config; got "):
        AsyncNebula("sk-1", config=config)


@pytest.mark.parametrize("url", ["https://[v1.a]/x", "https://xn--/x"])
def test_a_host_that_cannot_be_called(url):
    """A base URL that no request can be sent to is refused when the client is made, not at its first call."""
    with pytest.raises(ConfigurationError, match="no URL that can be called"):
        AsyncNebula("sk-1", base_url=url)


# Many pictures, and something in the way


@pytest.mark.anyio
async def test_a_transport_with_a_mistake_fails_its_items_alone():
    """What a user's transport raises at one item is the cause of that item's failure; the others are made."""
    picture = io.BytesIO()
    Pillow.new("RGB", (16, 16)).save(picture, format="PNG")
    body = {"data": [{"b64_json": pybase64.b64encode_as_string(picture.getvalue())}]}

    def reply(request: httpx.Request) -> httpx.Response:
        if b"two" in request.content:
            raise KeyError("mine")
        return httpx.Response(200, json=body)

    config = Config(retry=RetryPolicy(backoff=0))
    async with AsyncNebula(
        "sk-1", config=config, base_url="http://localhost", transport=httpx.MockTransport(reply)
    ) as nebula:
        one, two, three = await nebula.generate_all(["one", "two", "three"], **SMALL)

    assert [Generation, Failure, Generation] == [type(result) for result in (one, two, three)]
    assert (OutcomeUnknownError, KeyError, Charges(0, 2)) == (
        type(two.error),
        type(two.error.__cause__),
        two.error.charges,
    )


NO_CHARGE = (0, Charges(0, 0))


@pytest.mark.anyio
async def test_what_the_daily_quota_cost_is_said_of_each_item(start):
    """Each item that was taken has a result of its own with its charges; the error after them charges nothing."""
    emulator = start(per_day=3, retry_after="seconds", clock=lambda: 1_800_000_000.0 // 86_400 * 86_400)
    done: list = []
    async with (
        client(emulator, concurrency=2) as nebula,
        nebula.generate_many(map(str, range(100)), **SMALL) as results,
    ):
        with pytest.raises(RateLimitError) as caught:
            await drain(results, done)
    failures = [result.error for result in done if isinstance(result, Failure)]
    made = [result for result in done if isinstance(result, Generation)]

    assert NO_CHARGE == (caught.value.attempts, caught.value.charges)
    assert [Charges(1, 1)] * 3 == [result.charges for result in made]
    assert 1 <= len(failures)
    assert {Charges(0, 0)} == {error.charges for error in failures}
    assert len(emulator.journal.requests) == sum(error.attempts for error in failures) + len(made)
    assert all(caught.value is not error for error in failures)


@pytest.mark.anyio
async def test_what_the_daily_quota_left_over_cost_nothing(start):
    """`generate_all` gives each item that was never taken an error of its own, without attempts and charges."""
    emulator = start(per_day=3, retry_after="seconds", clock=lambda: 1_800_000_000.0 // 86_400 * 86_400)
    async with client(emulator, concurrency=2) as nebula:
        results = await nebula.generate_all(map(str, range(20)), **SMALL)
    errors = [result.error for result in results if isinstance(result, Failure)]
    untaken = [error for error in errors if error.attempts == 0]

    assert 17 == len(errors) == len({id(error) for error in errors})
    assert len(untaken) >= 12
    assert {Charges(0, 0)} == {error.charges for error in errors}
    assert all(error.is_daily for error in errors)
    assert 3 == emulator.journal.charged


@pytest.mark.anyio
async def test_a_key_that_fails_in_mid_run_loses_no_picture(emulator):
    """A callable that raises fails the items that needed a key; pictures made before are returned."""
    asked = 0

    def key() -> str:
        nonlocal asked
        asked += 1
        if asked > 3:
            raise LookupError("the vault is closed")
        return emulator.key

    async with client(emulator, api_key=key, concurrency=1) as nebula:
        results = await nebula.generate_all(map(str, range(5)), **SMALL)

    assert [Generation, Generation, Failure, Failure, Failure] == [type(result) for result in results]
    assert {(ConfigurationError, Charges(0, 0))} == {
        (type(result.error), result.error.charges) for result in results[2:]
    }
    assert 2 == len(emulator.journal.requests)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["file", "pillow"])
async def test_a_result_made_from_an_open_file_travels(nebula, emulator, tmp_path, kind):
    """The request of a result holds the bytes that were sent in place of what does not keep, and can be pickled."""
    path = tmp_path / "cat.png"
    Pillow.new("RGB", (16, 16), "red").save(path)
    with path.open("rb") as file, Pillow.open(path) as picture:
        made = await nebula.generate("at night", model=KONTEXT, image=file if kind == "file" else picture)
    again = pickle.loads(pickle.dumps(made))  # noqa: S301

    assert made == again
    sent = emulator.journal.requests[0].fields["image"]
    assert isinstance(again.request.image, bytes)
    assert kind != "file" or path.read_bytes() == again.request.image
    repeated = await nebula.generate(again.request)
    assert [sent, made.image.data] == [emulator.journal.requests[1].fields["image"], repeated.image.data]


@pytest.mark.anyio
async def test_a_picture_that_never_ends_holds_up_nobody(emulator, tmp_path):
    """A source that blocks ends its own call by the total time, unsent; other calls are answered meanwhile."""
    fifo = tmp_path / "endless.png"
    os.mkfifo(fifo)
    ended: list = []
    async with client(emulator) as nebula:
        impatient = nebula.with_options(timeout=0.5)

        async def blocked() -> None:
            with pytest.raises(DeadlineError) as caught:
                await impatient.generate("at night", model=KONTEXT, image=fifo)
            ended.append(caught.value)

        writers: list = []
        try:
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(blocked)
                    await anyio.wait_all_tasks_blocked()
                    writers.append(os.open(fifo, os.O_RDWR))
                    assert isinstance(await generate_with(nebula), Generation)
                    assert [] == ended
        finally:
            for writer in writers:
                os.close(writer)  # the threads read an end and are done

    assert [NO_CHARGE] * 3 == [(error.attempts, error.charges) for error in ended]
    assert 1 == len(emulator.journal.requests)
