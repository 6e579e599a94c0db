"""Visitors who leave before their picture is made: on a real server, and on both event loops."""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial

import anyio
import pytest
from asgi import started, taking, until
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from web_server import served

from nebula_async import ConfigurationError, DirectorySink, ImageRequest, InvalidRequestError, MemorySink
from nebula_async.emulator import Emulator, Fault
from nebula_async.events import Abandoned, Failed, Generated
from nebula_async.integrations.starlette import (
    Departed,
    Finish,
    handle_errors,
    image_response,
    nebula_lifespan,
    nebula_of,
    stored_image_response,
)

MODEL = "black-forest-labs/FLUX.1-schnell"
SMALL = {"model": MODEL, "width": 64, "height": 64}


async def create(request: Request) -> Response:
    """Make the picture that a JSON body asks for."""
    given = await request.json()
    return image_response(await nebula_of(request).generate(given.pop("prompt"), **SMALL))


async def show(request: Request) -> Response:
    """Make a picture for a GET, whose body nobody reads."""
    return image_response(await nebula_of(request).generate("a cat", **SMALL))


async def several(request: Request) -> Response:
    """Make three pictures at the same time."""
    nebula = nebula_of(request)
    async with anyio.create_task_group() as group:
        for name in ("a cat", "a dog", "a fox"):
            group.start_soon(partial(nebula.generate, name, **SMALL))
    return JSONResponse(3)


async def named(request: Request) -> Response:
    """Make the picture of a request that the visitor has named."""
    asked = ImageRequest("a secret cat", id=request.query_params["id"], **SMALL)
    return image_response(await nebula_of(request).generate(asked))


async def unread(request: Request) -> Response:
    """Make a picture first, and read the body after it."""
    await nebula_of(request).generate("a cat", **SMALL)
    return JSONResponse(await request.json())


ROUTES = [
    Route("/create", create, methods=["POST"]),
    Route("/show", show),
    Route("/several", several),
    Route("/named", named),
    Route("/unread", unread, methods=["POST"]),
]


def application(emulator: Emulator, events: list | None = None, **options) -> Starlette:
    """Return an application whose events are kept."""
    middleware = options.pop("middleware", [])
    observer = (events if events is not None else []).append
    lifespan = nebula_lifespan(api_key=emulator.key, base_url=emulator.base_url, observer=observer, **options)
    app = Starlette(routes=ROUTES, lifespan=lifespan, middleware=middleware)
    handle_errors(app)
    return app


def asked(emulator: Emulator) -> int:
    """Return how many pictures have been asked for."""
    return len(emulator.journal.generations)


def endings(events: list) -> list[str]:
    """Return how calls have ended."""
    return [type(event).__name__ for event in events if isinstance(event, Generated | Failed | Abandoned)]


@pytest.fixture
def slow():
    """An emulator that takes its time."""
    with taking(0.4) as emulator:
        yield emulator


async def passed_on(request, call_next):
    """Pass a request on, as a middleware does that looks at its answer."""
    return await call_next(request)


MIDDLEWARE = {"plain": [], "through BaseHTTPMiddleware": [Middleware(BaseHTTPMiddleware, dispatch=passed_on)]}


@pytest.mark.asyncio
@pytest.mark.parametrize("middleware", MIDDLEWARE.values(), ids=MIDDLEWARE)
@pytest.mark.parametrize(
    ("method", "path", "calls"), [("POST", "/create", 1), ("GET", "/show", 1), ("GET", "/several", 3)]
)
async def test_the_call_of_a_visitor_who_left_is_cancelled(method, path, calls, middleware, slow, caplog):
    """With `cancel` a call ends with its visitor, its slot is free at once, and what it may have cost is logged."""
    caplog.set_level(logging.INFO, "nebula_async.integrations")
    events: list = []
    async with served(application(slow, events, middleware=middleware)) as server:
        tasks = len(asyncio.all_tasks())
        visitor = await server.visit()
        await visitor.ask(method, path, {"prompt": "a cat"} if method == "POST" else None)
        await until(lambda: asked(slow) == calls)
        await visitor.leave()
        await until(lambda: len(endings(events)) == calls)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert ["Abandoned"] * calls == endings(events)
    assert calls == caplog.text.count("because its visitor left")
    assert "charges=0-1" in caplog.text


@pytest.mark.asyncio
async def test_a_visitor_who_stays_notices_nothing(emulator):
    """An answer is the same under each policy, and a connection serves one request after the other."""
    for policy in ("cancel", "ignore", Finish(MemorySink())):
        async with served(application(emulator, when_left=policy)) as server:
            visitor = await server.visit()
            for _ in range(2):
                await visitor.ask("POST", "/create", {"prompt": "a cat"})
                status, headers, body = await visitor.read_answer()
                assert (200, "image/png") == (status, headers["content-type"])
                assert body.startswith(b"\x89PNG")
            await visitor.leave()


@pytest.mark.asyncio
async def test_a_call_goes_on_for_nobody_if_it_is_to(slow):
    """With `ignore` a call ends as if its visitor were still there."""
    events: list = []
    async with served(application(slow, events, when_left="ignore")) as server:
        visitor = await server.visit()
        await visitor.ask("GET", "/show")
        await until(lambda: asked(slow) == 1)
        await visitor.leave()
        await until(lambda: endings(events))
    assert ["Generated"] == endings(events)


@pytest.mark.asyncio
@pytest.mark.parametrize("middleware", MIDDLEWARE.values(), ids=MIDDLEWARE)
async def test_what_was_paid_for_is_finished_into_the_sink(middleware, slow, tmp_path, caplog):
    """With `Finish` the picture of a visitor who left is stored under the id of the request, its teller hears of it,
    and who comes back finds it; the log tells neither prompt nor key.
    """
    caplog.set_level(logging.INFO)
    told: list[Departed] = []
    policy = Finish(DirectorySink(tmp_path), told=told.append)
    async with served(application(slow, when_left=policy, middleware=middleware)) as server:
        visitor = await server.visit()
        await visitor.ask("GET", "/named?id=Order%2017")
        await until(lambda: asked(slow) == 1)
        await visitor.leave()
        await until(lambda: told)
    (departed,) = told
    assert ("Order 17", (str(tmp_path / "order-17.png"),), None) == (
        departed.request.id,
        departed.stored,
        departed.error,
    )
    assert (1, 1) == (departed.charges.at_least, slow.journal.charged)
    assert departed.generation.image.content == (tmp_path / "order-17.png").read_bytes()
    assert "a call was finished without its visitor" in caplog.text
    assert "secret" not in caplog.text
    assert slow.key not in caplog.text
    app = Starlette(routes=[Route("/{name:path}", lambda _request: stored_image_response(tmp_path, "Order 17"))])
    async with started(app) as running:
        assert departed.generation.image.content == (await running.get("/x")).body


@pytest.mark.asyncio
async def test_no_more_than_so_many_go_on(slow, caplog):
    """One call too many without its visitor is cancelled, and said; the others are stored."""
    caplog.set_level(logging.INFO, "nebula_async.integrations")
    sink, told = MemorySink(), []
    async with served(application(slow, when_left=Finish(sink, most=2, told=told.append))) as server:
        visitors = [await server.visit() for _ in range(4)]
        for visitor in visitors:
            await visitor.ask("GET", "/show")
        await until(lambda: asked(slow) == 4)
        for visitor in visitors:
            await visitor.leave()
        await until(lambda: len(told) == 4)
    assert 2 == len(sink.pictures)
    assert 2 == sum(departed.generation is None for departed in told)
    assert 2 == caplog.text.count("came to nothing, by too many calls without their visitors")


class Broken:
    """A sink that fails, as a full disk does."""

    async def open(self, key):  # noqa: ARG002 - a sink has to take it
        """Fail."""
        raise OSError(28, "No space left on device")


@pytest.mark.asyncio
async def test_a_sink_or_a_teller_that_fails_takes_nothing_down(slow, caplog):
    """What fails for one visitor is logged, and the application goes on for the next."""

    def tell(_departed):
        raise LookupError("no database")

    async with served(application(slow, when_left=Finish(Broken(), told=tell))) as server:
        visitor = await server.visit()
        await visitor.ask("GET", "/show")
        await until(lambda: asked(slow) == 1)
        await visitor.leave()
        await until(lambda: "no database" in caplog.text)
        assert 200 == (await server.get("/show"))[0]
    assert "came to nothing, by OSError" in caplog.text
    assert "charges='1-1'" in caplog.text


@pytest.mark.asyncio
async def test_a_call_that_fails_without_its_visitor_is_told(caplog):
    """A failure that nobody waited for is logged with what it may have cost, and the teller gets its error."""
    told: list[Departed] = []
    with Emulator(latency=0.2, faults=[Fault("malformed", at=1)]) as emulator:
        async with served(application(emulator, when_left=Finish(MemorySink(), told=told.append))) as server:
            visitor = await server.visit()
            await visitor.ask("GET", "/show")
            await until(lambda: asked(emulator) == 1)
            await visitor.leave()
            await until(lambda: told)
    assert "UnusableReplyError" == type(told[0].error).__name__
    assert () == told[0].stored
    assert "came to nothing, by UnusableReplyError" in caplog.text


@pytest.mark.asyncio
async def test_a_visitor_who_left_before_the_call_costs_nothing():
    """Who leaves while the call waits for the limit has paid for nothing."""
    events: list = []
    with taking(0.6) as one_at_a_time:
        async with served(application(one_at_a_time, events, concurrency=1)) as server:
            first, second = await server.visit(), await server.visit()
            await first.ask("GET", "/show")
            await until(lambda: asked(one_at_a_time) == 1)
            await second.ask("GET", "/show")
            await anyio.sleep(0.1)  # long enough to queue: it has no trace but that nothing is sent
            await second.leave()
            assert 200 == (await first.read_answer())[0]
            await until(lambda: len(endings(events)) == 2)
        assert 1 == asked(one_at_a_time)
    (left,) = [event for event in events if isinstance(event, Abandoned)]
    assert 0 == left.charges.at_most


@pytest.mark.asyncio
async def test_a_body_that_is_read_later_is_not_lost(slow):
    """A route that makes its picture first, and reads its body after that, reads all of it."""
    async with served(application(slow)) as server:
        status, _, body = await server.post("/unread", {"text": "x" * 200_000})
    assert (200, 200_000) == (status, len(json.loads(body)["text"]))


@pytest.mark.asyncio
async def test_a_second_request_behind_the_first_is_served(slow):
    """Requests of one connection that come before the first is answered (pipelining) are answered in order."""
    async with served(application(slow)) as server:
        visitor = await server.visit()
        for _ in range(2):
            await visitor.ask("POST", "/create", {"prompt": "a cat"})
        assert [200, 200] == [(await visitor.read_answer())[0] for _ in range(2)]
        await visitor.leave()
    assert 2 == slow.journal.charged


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", ["cancel", "finish"])
async def test_a_crowd_that_leaves_leaves_nothing_behind(policy, slow):
    """After a crowd has left there is no task and no slot more than before, and every charge is accounted for."""
    events, told, sink = [], [], MemorySink()
    finish = Finish(sink, told=told.append)
    app = application(slow, events, when_left=finish if policy == "finish" else policy, concurrency=64)
    async with served(app) as server:
        assert 200 == (await server.get("/show"))[0]
        tasks = len(asyncio.all_tasks())
        visitors = [await server.visit() for _ in range(60)]
        for visitor in visitors:
            await visitor.ask("GET", "/show")
        await until(lambda: asked(slow) > 30)
        for visitor in visitors:
            await visitor.leave()
        await until(lambda: len(endings(events)) == 61)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
    lost = sum((event.charges.at_most for event in events if isinstance(event, Abandoned)), 0)
    kept = sum(event.charges.at_least for event in events if isinstance(event, Generated))
    assert kept <= slow.journal.charged <= kept + lost
    if policy == "finish":
        assert (len(told), 0) == (len(sink.pictures), lost)
        assert 61 == slow.journal.charged


@pytest.mark.anyio
@pytest.mark.parametrize("policy", ["cancel", "finish"])
async def test_a_visitor_may_leave_on_either_loop(policy, slow):
    """The policies need no server and no asyncio: the application itself is told that its visitor has left."""
    told, left = [], anyio.Event()
    app = application(slow, when_left=Finish(MemorySink(), told=told.append) if policy == "finish" else policy)
    async with started(app) as running:

        async def leave() -> None:
            await until(lambda: asked(slow) == 1)
            left.set()

        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            assert 499 == (await running.post("/create", {"prompt": "a cat"}, left)).status
    assert (policy == "finish") == bool(told)  # the end of the lifespan has waited for it


@pytest.mark.anyio
async def test_a_server_that_cannot_tell_harms_no_call(slow, caplog):
    """A middleware that fails when it is asked whether the visitor has left takes the call not down with it."""

    class Failing:
        """A middleware that gives a body, and nothing after it."""

        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def fail():
                message = await receive() if not told else None
                told.append(message)
                if message is None:
                    raise RuntimeError("Unexpected message received")
                return message

            told: list = []
            await self.app(scope, fail, send)

    async with started(application(slow, middleware=[Middleware(Failing)])) as running:
        assert 200 == (await running.post("/create", {"prompt": "a cat"})).status
    assert "whether a visitor has left cannot be seen" in caplog.text


@pytest.mark.anyio
async def test_a_route_that_is_cancelled_does_not_cancel_what_is_to_be_finished(slow):
    """A timeout of the application's own is a visitor who left, too: the picture is stored."""
    sink = MemorySink()
    async with started(application(slow, when_left=Finish(sink))) as running:
        with anyio.move_on_after(0.2):
            await running.get("/show")
    assert 1 == len(sink.pictures)


@pytest.mark.anyio
async def test_the_exception_of_a_call_comes_out_bare(emulator):
    """A route sees the error of its call itself, in no group, under each policy."""
    for policy in ("cancel", "ignore", Finish(MemorySink())):
        async with started(application(emulator, when_left=policy)) as running:

            async def refused(request: Request) -> Response:
                with pytest.raises(InvalidRequestError):
                    await nebula_of(request).generate("a cat", model=MODEL, width=64, height=64, image="/no/such")
                return JSONResponse(1)

            running.app.router.routes.append(Route("/refused", refused))
            assert 200 == (await running.get("/refused")).status


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((None,), "Finish needs a sink, such as DirectorySink('finished'); got None"),
        (("folder",), "sink must be a sink"),
        ((MemorySink(), -1), "most must be a whole number, 0 or more; got -1"),
        ((MemorySink(), True), "most must be a whole number, 0 or more; got True"),
    ],
    ids=str,
)
def test_a_policy_that_cannot_be_meant_is_refused(given, sentence):
    """A mistake in the policy is one sentence."""
    with pytest.raises((ConfigurationError, InvalidRequestError)) as caught:
        Finish(*given)
    assert sentence in str(caught.value)
