"""Visitors who leave before their picture is made: on a real server, and on both event loops."""

from __future__ import annotations

import asyncio
import json
import logging

import anyio
import pytest
from asgi import started, taking, until
from leaving_app import MIDDLEWARE, MODEL, SMALL, application, asked, endings
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from web_server import served

from nebula_async import InvalidRequestError, MemorySink
from nebula_async.events import Abandoned, Generated
from nebula_async.integrations.starlette import Finish, nebula_of


@pytest.fixture
def slow():
    """An emulator that takes its time."""
    with taking(0.4) as emulator:
        yield emulator


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
@pytest.mark.parametrize("policy", ["cancel", "finish"])
async def test_what_goes_on_after_the_answer_is_not_left_by_anybody(policy, middleware, slow):
    """A background task, and a task of the application's own, may go on with the client of their request: that the
    answer is sent is no departure.
    """
    made, events, tasks = [], [], []

    async def make(nebula, prompt: str) -> None:
        made.append(await nebula.generate(prompt, **SMALL))

    async def later(request: Request) -> Response:
        nebula = nebula_of(request)
        tasks.append(asyncio.create_task(make(nebula, "a dog")))
        await until(lambda: asked(slow) == 1)
        return JSONResponse(1, background=BackgroundTask(make, nebula, "a cat"))

    when_left = Finish(MemorySink()) if policy == "finish" else policy
    app = application(slow, events, when_left=when_left, middleware=middleware)
    app.router.routes.append(Route("/later", later))
    async with served(app) as server:
        assert 200 == (await server.get("/later"))[0]
        await until(lambda: len(endings(events)) == 2)
    await asyncio.gather(*tasks)
    assert ["Generated", "Generated"] == endings(events)
    assert 2 == len(made)


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
