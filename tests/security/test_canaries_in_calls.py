"""Whatever a server repeats of key and signed URL, no log and no error of a call shows it; no log shows a prompt."""

from __future__ import annotations

import itertools
import pickle
from functools import partial

import anyio
import pytest
from canaries import KEY, PROMPT, everything_logged, found, report
from echoing import PNG, REPLIES, TARGETS, Echo, as_json, echoing, says

from nebula_async import (
    AsyncNebula,
    Config,
    DownloadError,
    Failure,
    Generation,
    ImageRequest,
    InferenceRequest,
    NebulaError,
    RetryPolicy,
    Timeouts,
)

pytestmark = pytest.mark.anyio

QUICK = Timeouts(connect=2, write=2, read=0.5, attempt=0.5, total=0.6)
SERVERLESS = partial(ImageRequest, model="black-forest-labs/FLUX.1-schnell", width=64, height=64)
INFERENCE = partial(InferenceRequest, model="sdxl")


def client(server: Echo, **options) -> AsyncNebula:
    """Return a client of a server, which sends nothing twice."""
    config = Config(
        base_url=f"http://{server.place}/api/v1",
        inference_url=f"http://{server.place}/v1",
        allowed_image_hosts=[server.place],
        retry=RetryPolicy(attempts=1, backoff=0),
        timeouts=QUICK,
    )
    return AsyncNebula(KEY, config=config, **options)


def leaks_of(error: BaseException) -> list[str]:
    """Return the secrets that an error shows: its text, what led to it, all frames of ours, and its pickle.

    The pictures of a `DownloadError` keep their URLs on purpose: they are what can be fetched later.
    """
    pickled = [] if isinstance(error, DownloadError) else found(pickle.dumps(error), "signature")
    told = f"{error} {error!r} {error.args}"
    return found(told) + found(report(error), "key", "signature") + found(pickle.dumps(error), "key") + pickled


@pytest.mark.parametrize(
    ("where", "request_for"), [*zip(REPLIES, itertools.cycle([INFERENCE, SERVERLESS]), strict=False)]
)
async def test_a_key_that_comes_back_is_shown_nowhere(where, request_for):
    """A server that repeats the key in whatever part of a reply makes neither logs nor errors show it."""
    with echoing(REPLIES[where]) as server, everything_logged() as log:
        async with client(server) as nebula:
            with pytest.raises(NebulaError) as caught:
                await nebula.generate(request_for(PROMPT))

    assert [] == leaks_of(caught.value)
    assert [] == found(log.text)
    assert "receive_response_headers" in log.text, "the HTTP library logs at DEBUG"


@pytest.mark.parametrize("where", TARGETS)
async def test_a_signed_url_is_shown_nowhere(where):
    """Whatever lies behind a picture's URL, its signature is in no log, no text and no report of an error."""
    with echoing(TARGETS[where], leads_to_url=True) as server, everything_logged() as log:
        async with client(server) as nebula:
            try:
                ended = await nebula.generate(INFERENCE(PROMPT))
            except DownloadError as error:
                ended = error

    assert isinstance(ended, Generation) == ("delivered" in where)
    assert [] == (found(repr(ended), "key", "signature") if isinstance(ended, Generation) else leaks_of(ended))
    assert [] == found(log.text)


async def test_many_and_later_downloads_show_nothing():
    """Results of many requests, a picture that is left at its URL, and its later download show no URL and no key."""
    script = TARGETS["refused"]
    with echoing(script, leads_to_url=True) as server, everything_logged() as log:
        async with client(server) as nebula:
            failures = await nebula.generate_all([INFERENCE(PROMPT)] * 2)
            left = await nebula.generate(INFERENCE(PROMPT), download=False)
            with pytest.raises(DownloadError) as caught:
                await nebula.download(left.image)

    assert [Failure] * 2 == [type(each) for each in failures]
    assert [] == found(f"{failures} {left}", "key", "signature")
    assert [] == [leak for error in (caught.value, *(each.error for each in failures)) for leak in leaks_of(error)]
    assert [] == found(log.text)


@pytest.mark.parametrize("verb", ["models", "credits"])
@pytest.mark.parametrize(
    "where", ["in a header line that is none", "in the error's JSON", "in a success that is no JSON"]
)
async def test_what_is_free_shows_nothing_either(verb, where):
    """Lists of models and balances that fail show no key."""
    with echoing(REPLIES[where]) as server, everything_logged() as log:
        async with client(server) as nebula:
            with pytest.raises(NebulaError) as caught:
                await getattr(nebula, verb)()
    assert [] == leaks_of(caught.value)
    assert [] == found(log.text)


@pytest.mark.parametrize("answer", [b"", as_json(200, {})[:-2], says(200, PNG)[:60]], ids=["none", "half", "head"])
async def test_a_cancelled_call_shows_nothing(answer):
    """A call that is broken off, in whatever phase, leaves nothing of key and prompt in a log."""

    def script(_target: str) -> bytes:
        return answer or b"HTTP/1.1 100 Continue\r\n\r\n"

    with echoing(script) as server, everything_logged() as log:
        async with client(server) as nebula, anyio.create_task_group() as group:
            group.start_soon(nebula.generate, INFERENCE(PROMPT))
            await anyio.to_thread.run_sync(server.heard.wait, 5)
            group.cancel_scope.cancel()
    assert [] == found(log.text)
    assert "Abandoned" in log.text


async def test_what_holds_a_key_shows_none():
    """Clients, siblings, their settings and a closed client's refusal show no key, with their variables printed."""
    with echoing(REPLIES["nowhere"]) as server, everything_logged() as log:
        nebula = client(server)
        sibling = nebula.with_options(timeout=1)
        await nebula.aclose()
        with pytest.raises(RuntimeError) as caught:
            await sibling.generate(INFERENCE(PROMPT))
    shown = [nebula, sibling, nebula.config, nebula.limits, nebula.generator, vars(nebula), nebula.generator.caller]
    assert [] == found(f"{shown} {report(caught.value)}", "key")
    assert [] == found(log.text)


async def test_an_observer_is_told_no_secret():
    """No event of a call holds a key, a prompt or a URL, whatever the server answers."""
    events = []
    for script, leads_to_url in [*((each, False) for each in REPLIES.values()), (TARGETS["refused"], True)]:
        with echoing(script, leads_to_url=leads_to_url) as server:
            async with client(server, observer=events.append) as nebula:
                await nebula.generate_all([INFERENCE(PROMPT)])
    assert len(events) > 2 * len(REPLIES)
    assert [] == found(f"{events}".encode() + pickle.dumps(events))
