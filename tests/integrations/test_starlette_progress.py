"""The progress of a batch as server-sent events, as browsers read them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from functools import partial

import anyio
import pytest
from asgi import started, taking, until
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from web_server import served

from nebula_async import ConfigurationError, DirectorySink, InvalidRequestError, MemorySink
from nebula_async.emulator import Emulator, Fault
from nebula_async.events import Abandoned, Failed, Generated
from nebula_async.integrations.starlette import Finish, handle_errors, nebula_lifespan, nebula_of, progress_response
from nebula_async.integrations.web.sse import encode_event

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}


STILL = 60
"""After so many looks at the same number nothing moves any more."""


def read(text: bytes) -> list[dict[str, str]]:
    """Return the events of a stream, read as the standard of `EventSource` says."""
    events, current = [], {}
    for line in text.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        name, _, value = line.partition(":")
        if not line:
            events += [current] if "data" in current else []
            current = {}
        elif name:
            value = value.removeprefix(" ")
            current[name] = f"{current[name]}\n{value}" if name == "data" and "data" in current else value
    return events


def unchunked(text: bytes) -> bytes:
    """Return a body that came in chunks."""
    _, _, rest = text.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def application(emulator: Emulator, items, events: list | None = None, **options) -> Starlette:
    """Return an application that makes these pictures."""
    told = {name: options.pop(name) for name in list(options) if name not in ("when_left", "grace_seconds", "api_key")}

    async def batch(request: Request) -> Response:
        return progress_response(nebula_of(request), items(), **SMALL, **told)

    observer = (events if events is not None else []).append
    lifespan = nebula_lifespan(base_url=emulator.base_url, observer=observer, **{"api_key": emulator.key} | options)
    app = Starlette(routes=[Route("/batch", batch, methods=["GET", "POST"])], lifespan=lifespan)
    handle_errors(app)
    return app


@pytest.mark.anyio
async def test_each_picture_is_told_and_then_the_end(emulator, tmp_path):
    """There is a `begin` with the number of items, a `result` for each with what it cost and where it is, and an `end`
    with the sums; each event has the next id, and none has bytes.
    """
    sink = DirectorySink(tmp_path)
    app = application(emulator, lambda: ["a cat", "a dog"], sink=sink, place=lambda image: image.stored)
    async with started(app) as running:
        answer = await running.get("/batch")
    assert (200, "text/event-stream; charset=utf-8") == (answer.status, answer.headers["content-type"])
    assert ("no-store", "no") == (answer.headers["cache-control"], answer.headers["x-accel-buffering"])
    assert "content-length" not in answer.headers
    events = read(answer.body)
    assert ["begin", "result", "result", "end"] == [event["event"] for event in events]
    assert ["0", "1", "2", "3"] == [event["id"] for event in events]
    begin, *results, end = [json.loads(event["data"]) for event in events]
    assert {"total": 2} == begin
    assert {0, 1} == {result["index"] for result in results}
    assert {("done", "1-1", "0.0019")} == {(each["state"], each["charges"], each["cost"]) for each in results}
    assert {"state": "complete", "done": 2, "failed": 0, "charges": "2-2"} == end
    for result in results:
        (image,) = result["images"]
        assert {"media_type": "image/png", "width": 64, "height": 64, "url": image["url"]} == image
        assert image["url"].startswith(str(tmp_path))


@pytest.mark.anyio
async def test_the_bytes_come_as_data_urls_where_they_are_asked_for(emulator):
    """With `data=True` no sink is needed: each event has its picture."""
    async with started(application(emulator, lambda: ["a cat"], data=True)) as running:
        events = read((await running.get("/batch")).body)
    (image,) = json.loads(events[1]["data"])["images"]
    head, _, text = image["data"].partition(",")
    assert "data:image/png;base64" == head
    assert base64.b64decode(text).startswith(b"\x89PNG")


@pytest.mark.anyio
async def test_a_failure_is_an_event_and_tells_nothing_of_its_cause(caplog):
    """One item that fails has its status, sentence and reference; what the API said is in no event, and the rest go
    on.
    """
    fault = Fault("400", at=1, body=b'{"error": {"code": "invalid_prompt", "message": "canary-77"}}')
    with Emulator(latency=0, faults=[fault]) as emulator:
        caplog.set_level(logging.DEBUG, "nebula_async.integrations")
        async with started(application(emulator, lambda: ["a cat", "a dog"], data=True, concurrency=1)) as running:
            body = (await running.get("/batch")).body
    assert b"canary" not in body
    events = [json.loads(event["data"]) for event in read(body)]
    failed = next(event for event in events if event.get("state") == "failed")
    assert 422 == failed["error"]["status"]
    assert failed["error"]["reference"] in caplog.text
    assert (1, 1) == (events[-1]["done"], events[-1]["failed"])


@pytest.mark.logs_secrets  # an application's own exception is logged whole
@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["the day's limit", "a source that fails"])
async def test_what_ends_a_batch_is_told_at_its_end(kind, caplog):
    """The end of the day, or a source of items that fails, is an `end` that says "stopped", and a line of the log."""

    def items():
        yield "a cat"
        if kind == "a source that fails":
            raise LookupError("canary-88")
        yield from ("a dog", "a fox", "a cow")

    fault = Fault("429", "rate_limit_exceeded", at=2, headers={"Retry-After": "40000"})
    with Emulator(latency=0, per_day=1, faults=[] if kind == "a source that fails" else [fault]) as emulator:
        async with started(application(emulator, items, data=True, concurrency=1)) as running:
            body = (await running.get("/batch")).body
    end = json.loads(read(body)[-1]["data"])
    assert "stopped" == end["state"]
    assert end["error"]["reference"] in caplog.text
    assert b"canary" not in body
    assert 1 == end["done"]


@pytest.mark.anyio
async def test_a_browser_that_connects_again_buys_nothing(emulator):
    """`EventSource` asks again with the last id that it saw: it is told to stop asking, and nothing is made."""
    async with started(application(emulator, lambda: ["a cat"], data=True)) as running:
        answer = await running.get("/batch", Last_Event_ID="1")
    assert (204, b"") == (answer.status, answer.body)
    emulator.assert_charged(0)


@pytest.mark.asyncio
async def test_a_connection_is_kept_open_while_a_picture_takes_its_time():
    """Comments come while nothing else does; a reader takes no notice of them."""
    with taking(0.5) as emulator:
        async with served(application(emulator, lambda: ["a cat"], data=True, heartbeat_seconds=0.05)) as server:
            visitor = await server.visit()
            await visitor.ask("GET", "/batch", connection="close")
            body = unchunked(await visitor.read_all())
    assert body.count(b": still here\n\n") >= 3
    assert ["begin", "result", "end"] == [event["event"] for event in read(body)]


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_batch_is_cancelled_with_its_reader(method):
    """Who leaves ends the batch: nothing more is sent, and each call that was is accounted for."""
    events: list = []
    with taking(0.2) as emulator:
        async with served(
            application(emulator, lambda: (f"cat {n}" for n in range(500)), events, data=True, concurrency=2)
        ) as server:
            tasks = len(asyncio.all_tasks())
            visitor = await server.visit()
            await visitor.ask(method, "/batch", {} if method == "POST" else None)
            await visitor.read_until(b"event: result")
            await visitor.leave()
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
            asked = len(emulator.journal.generations)
            await anyio.sleep(0.1)
            assert asked == len(emulator.journal.generations) < 500
    ended = [event for event in events if isinstance(event, Generated | Failed | Abandoned)]
    assert asked <= len(ended) <= asked + 2
    paid = sum(event.charges.at_most for event in ended)
    assert emulator.journal.charged <= paid


@pytest.mark.asyncio
@pytest.mark.parametrize("data", [False, True], ids=["into its sink", "as data URLs"])
async def test_what_is_under_way_is_finished_for_a_reader_who_left(data, caplog):
    """With `Finish` nothing more is begun, and what had been sent is stored: in the sink of the batch, or else in the
    policy's.
    """
    caplog.set_level(logging.INFO, "nebula_async.integrations")
    finished, sink = MemorySink(), MemorySink()
    options = {"data": True} if data else {"sink": sink}
    with taking(0.3) as emulator:
        app = application(
            emulator, lambda: (f"cat {n}" for n in range(500)), when_left=Finish(finished), concurrency=3, **options
        )
        async with served(app) as server:
            visitor = await server.visit()
            await visitor.ask("GET", "/batch")
            await until(lambda: len(emulator.journal.generations) == 3)
            await visitor.leave()
            await until(lambda: "a batch was ended without its reader" in caplog.text)
        assert 3 == emulator.journal.charged == len(emulator.journal.generations)
    assert 3 == len(finished.pictures if data else sink.pictures)


@pytest.mark.anyio
async def test_a_slow_reader_slows_its_batch_down(emulator):
    """Who does not read is not made pictures for: no more are bought than the stream and the workers hold."""
    counts, reads = [-1], anyio.Event()

    def is_still() -> bool:
        counts.append(len(emulator.journal.generations))
        return counts[-1] > 0 and len(counts) > STILL and counts[-STILL] == counts[-1]

    app = application(emulator, lambda: ["a cat"] * 30, data=True, concurrency=2)
    async with started(app) as running, anyio.create_task_group() as group:
        group.start_soon(partial(running.ask, "GET", "/batch", reads=reads))
        await until(is_still)
        assert counts[-1] <= 2 * 2 + 1
        reads.set()
    emulator.assert_charged(30)


@pytest.mark.anyio
@pytest.mark.parametrize("last", ["", "1"], ids=["first", "again"])
async def test_what_is_to_be_done_after_a_batch_is_done(last, emulator):
    """The background task of a progress response runs when the batch is over, and where nothing is made."""
    done: list[int] = []

    async def batch(request: Request) -> Response:
        response = progress_response(nebula_of(request), ["a cat"], data=True, **SMALL)
        response.background = BackgroundTask(done.append, 1)
        return response

    app = application(emulator, list, data=True)
    app.router.routes.append(Route("/after", batch))
    async with started(app) as running:
        await running.get("/after", **({"Last_Event_ID": last} if last else {}))
    assert [1] == done


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
async def test_items_that_end_with_a_cancellation_of_others_are_told(error, kind, emulator):
    """A source of items that raises what no `except Exception` sees is an `end` that says "stopped", not "complete"."""

    def plain():
        yield "a cat"
        raise error

    async def later():
        yield "a cat"
        raise error

    app = application(emulator, plain if kind == "plain" else later, data=True, concurrency=1)
    async with started(app) as running:
        events = read((await running.get("/batch")).body)
    end = json.loads(events[-1]["data"])
    assert ("end", "stopped") == (events[-1]["event"], end["state"])
    assert emulator.journal.charged <= int(end["charges"].partition("-")[2])


@pytest.mark.anyio
async def test_a_place_that_fails_ends_no_batch(emulator, caplog):
    """Where a picture is cannot be told if the application's own function fails; that it is made is, and others are."""

    def fail(_image):
        raise LookupError("no such shelf")

    for place in (fail, lambda _image: {1, 2}):
        app = application(emulator, lambda: ["a cat", "a dog"], sink=MemorySink(), place=place)
        async with started(app) as running:
            events = [json.loads(event["data"]) for event in read((await running.get("/batch")).body)]
        assert ("complete", 2) == (events[-1]["state"], events[-1]["done"])
        assert all("url" not in image for event in events[1:-1] for image in event["images"])
    assert "place failed" in caplog.text
    assert "no such shelf" in caplog.text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("one", b"data: one\n\n"),
        ("two\nlines", b"data: two\ndata: lines\n\n"),
        ("a\r\nb\rc", b"data: a\ndata: b\ndata: c\n\n"),
        ("", b"data: \n\n"),
        ({"text": "two\nlines\u2028"}, 'data: {"text":"two\\nlines\u2028"}\n\n'.encode()),
    ],
    ids=ascii,
)
def test_a_line_break_ends_no_event(data, expected):
    """Text of several lines is one event of several `data:` lines; JSON is one line."""
    assert expected == encode_event(data)


@pytest.mark.parametrize("given", [{"event": "a\nb"}, {"number": "1\r"}, {"number": "\0"}], ids=str)
def test_a_name_of_two_lines_is_refused(given):
    """A name or an id cannot be made to look like another event."""
    with pytest.raises(ValueError, match="must be one line"):
        encode_event("x", **given)


@pytest.mark.parametrize(
    ("items", "options", "kind", "sentence"),
    [
        ("a cat", {"data": True}, TypeError, "takes an iterable of prompts"),
        (["a cat"], {}, ConfigurationError, "give sink= or data=True"),
        (["a cat"], {"data": True, "sink": MemorySink()}, ConfigurationError, "give sink= or data=True, not both"),
        (["a cat"], {"sink": "out"}, InvalidRequestError, "sink must be a sink"),
        (["a cat"], {"data": True, "widht": 3}, InvalidRequestError, "widht cannot be shared"),
        (["a cat"], {"data": True, "heartbeat_seconds": 0}, ConfigurationError, "heartbeat_seconds must be above 0"),
    ],
    ids=["one prompt", "nowhere", "both", "no sink", "unknown", "no heartbeat"],
)
def test_what_cannot_be_meant_is_said_before_anything_is_sent(items, options, kind, sentence):
    """A mistake of the route is an exception, and no stream that breaks off."""
    with pytest.raises(kind, match=sentence):
        progress_response(None, items, **options)
