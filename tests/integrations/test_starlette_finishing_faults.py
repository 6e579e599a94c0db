"""Sinks and tellers of pictures whose visitors left, when they fail, hang, or raise what nobody expects."""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest
from asgi import started, taking, until
from leaving_app import SMALL, application, asked
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from web_server import served

from nebula_async import MemorySink
from nebula_async.integrations.starlette import Departed, Finish, finished_key, nebula_of
from nebula_async.testing import RecordingSink


@pytest.fixture
def slow():
    """An emulator that takes its time."""
    with taking(0.4) as emulator:
        yield emulator


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


async def cancelled_by_others(*_given) -> None:
    """Wait for a task that somebody else has cancelled, as a pool of connections may."""
    task = asyncio.ensure_future(asyncio.sleep(9))
    task.cancel()
    await task


class Cancelled(MemorySink):
    """A sink that ends with the cancellation of something of its own."""

    async def open(self, key):
        """Fail."""
        await cancelled_by_others(key)


class Unusual(BaseException):
    """What no `except Exception` sees."""


def raise_unusual(_departed: Departed) -> None:
    """Raise what no `except Exception` sees."""
    raise Unusual


ROGUES = {
    "told, cancelled": (MemorySink, cancelled_by_others),
    "told, unusual": (MemorySink, raise_unusual),
    "sink, cancelled": (Cancelled, None),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("sink", "told"), ROGUES.values(), ids=ROGUES)
async def test_nothing_that_others_raise_ends_what_goes_on_for_others(sink, told, slow, caplog):
    """A sink or a teller that raises the cancellation of something of its own, or what is no `Exception`, is logged;
    the next visitors are served, those who leave too, and no place stays taken.
    """
    caplog.set_level(logging.INFO, "nebula_async.integrations")
    async with served(application(slow, when_left=Finish(sink(), told=told))) as server:
        for number in (1, 2):
            visitor = await server.visit()
            await visitor.ask("GET", "/show")
            await until(lambda number=number: asked(slow) == 2 * number - 1)
            await visitor.leave()
            said = "what tells of departed calls failed" if told else "came to nothing, by CancelledError"
            await until(lambda number=number, said=said: caplog.text.count(said) == number)
            assert 200 == (await server.get("/show"))[0]
        assert 2 == caplog.text.count("without its visitor")


@pytest.mark.asyncio
async def test_a_call_that_ends_with_a_cancellation_of_others_is_its_routes_alone(slow):
    """A call whose own sink raises such a cancellation raises it into its route; other calls go on."""

    async def rogue(request: Request) -> Response:
        with pytest.raises(asyncio.CancelledError):
            await nebula_of(request).generate("a cat", sink=Cancelled(), **SMALL)
        return JSONResponse(1)

    async with started(application(slow, when_left=Finish(MemorySink()))) as running:
        running.app.router.routes.append(Route("/rogue", rogue))
        async with anyio.create_task_group() as group:
            group.start_soon(running.get, "/show")
            assert 200 == (await running.get("/rogue")).status
        assert 200 == (await running.get("/show")).status


@pytest.mark.anyio
async def test_a_teller_that_hangs_is_cancelled(slow, caplog, monkeypatch):
    """Who is told for too long is cancelled, and the place is free again."""
    monkeypatch.setattr("nebula_async.integrations.web.visit.TELLING_SECONDS", 0.1)

    async def hang(_departed: Departed) -> None:
        await anyio.sleep_forever()

    async with started(application(slow, when_left=Finish(MemorySink(), told=hang))) as running:
        with anyio.move_on_after(0.2):
            await running.get("/show")
        visits = running.state["nebula_visits"]
        await until(lambda: not visits.running)
    assert "what tells of departed calls took too long, and was cancelled" in caplog.text


@pytest.mark.anyio
async def test_the_end_waits_for_no_teller_that_hangs(slow, caplog):
    """Once the grace is over a teller has a second, and of a call that was finished nothing is said to be lost."""

    async def hang(_departed: Departed) -> None:
        await anyio.sleep_forever()

    sink = MemorySink()
    async with started(application(slow, when_left=Finish(sink, told=hang), grace_seconds=0.1)) as running:
        with anyio.move_on_after(0.2):
            await running.get("/show")
        await until(lambda: sink.pictures)
        began = anyio.current_time()
    assert anyio.current_time() - began < 4
    assert "were cancelled" not in caplog.text


class Stuck(RecordingSink):
    """A sink whose place is full, and that hangs."""

    async def open(self, key):  # noqa: ARG002 - a sink has to take it
        """Hang."""
        await anyio.sleep_forever()


@pytest.mark.anyio
async def test_the_end_does_not_wait_for_a_sink_that_hangs(slow, caplog, monkeypatch):
    """What a sink does not take is given up soon after the grace, and said to be lost."""
    monkeypatch.setattr("nebula_async.integrations.web.visits.ENDING_SECONDS", 0.3)
    async with started(application(slow, when_left=Finish(Stuck()), grace_seconds=0.8)) as running:
        with anyio.move_on_after(0.2):
            await running.get("/show")
        began = anyio.current_time()
    assert anyio.current_time() - began < 4
    assert "came to nothing, by TimeoutError" in caplog.text


@pytest.mark.anyio
async def test_a_sink_that_fails_only_to_forget_has_kept_the_picture(slow):
    """Once a picture is published it is told to be there; one that is not leaves nothing behind."""
    told: list[Departed] = []
    sink = RecordingSink()
    sink.fail("discard", OSError("no more"), times=None)
    sink.fail("publish", OSError("full"))
    async with started(application(slow, when_left=Finish(sink, told=told.append))) as running:
        for _ in range(2):
            with anyio.move_on_after(0.2):
                await running.get("/named?id=it")
    assert [(), (f"{finished_key('it')}.png",)] == [departed.stored for departed in told]
    assert ["open", "write", "publish", "discard", "open", "write", "publish"] == sink.actions_of("*")
