"""Pictures whose visitors left: finished, stored, told and found again."""

from __future__ import annotations

import logging

import anyio
import pytest
from asgi import started, taking, until
from leaving_app import MIDDLEWARE, application, asked
from starlette.applications import Starlette
from starlette.routing import Route
from web_server import served

from nebula_async import ConfigurationError, DirectorySink, InvalidRequestError, MemorySink
from nebula_async.emulator import Emulator, Fault
from nebula_async.integrations.starlette import Departed, Finish, finished_key, stored_image_response
from nebula_async.sinks.names import key_of


@pytest.fixture
def slow():
    """An emulator that takes its time."""
    with taking(0.4) as emulator:
        yield emulator


@pytest.mark.asyncio
@pytest.mark.parametrize("middleware", MIDDLEWARE.values(), ids=MIDDLEWARE)
async def test_what_was_paid_for_is_finished_into_the_sink(middleware, slow, tmp_path, caplog):
    """With `Finish` the picture of a visitor who left is stored under the id of the request, its teller hears of it,
    and who comes back finds it; the log tells neither prompt nor key (F40).
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
    assert ("Order 17", (f"{tmp_path / finished_key('Order 17')}.png",), None) == (
        departed.request.id,
        departed.stored,
        departed.error,
    )
    assert (1, 1) == (departed.charges.at_least, slow.journal.charged)
    assert "a call was finished without its visitor" in caplog.text
    assert "secret" not in caplog.text
    assert slow.key not in caplog.text
    name = finished_key("Order 17")
    app = Starlette(routes=[Route("/{name:path}", lambda _request: stored_image_response(tmp_path, name))])
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


IDS = [
    "a",
    "A",
    "a ",
    "a-",
    "猫",
    "犬",
    "...",
    "a/b",
    "../a",
    "a" * 256,
    "a" * 255 + "b",
    "order-17",
    "\U0001f63a",
    "x\0",
]


@pytest.mark.anyio
async def test_every_id_has_a_key_of_its_own(tmp_path):
    """Whatever two ids have in common, their keys differ; each is found by its key and by no other name, in a folder
    where no prompt and no number of an item leads.
    """
    keys = [finished_key(identity) for identity in IDS]
    assert len(IDS) == len(set(keys))
    for number, key in enumerate(keys):
        picture = b"\x89PNG" + bytes([number])
        writer = await DirectorySink(tmp_path).open(key)
        await writer.write(picture)
        assert f"{tmp_path / key}.png" == await writer.publish("image/png", ".png")
        app = Starlette(routes=[Route("/", lambda _request, key=key: stored_image_response(tmp_path, key))])
        async with started(app) as running:
            assert picture == (await running.get("/")).body
    assert all(key.startswith("finished/") and len(key) < 100 and key.isascii() for key in keys)
    assert all("/" not in key_of("finished/a", name) for name in [*IDS, *keys])


@pytest.mark.anyio
async def test_the_first_picture_of_an_id_stays(slow, tmp_path):
    """An id that is used twice leads to the first picture; where the second is, its teller hears."""
    told: list[Departed] = []
    async with started(application(slow, when_left=Finish(DirectorySink(tmp_path), told=told.append))) as running:
        for number in (1, 2):
            with anyio.move_on_after(0.2):
                await running.get("/named?id=twice")
            await until(lambda number=number: len(told) == number)
    first, second = (departed.stored for departed in told)
    assert (f"{tmp_path / finished_key('twice')}.png",) == first
    assert (f"{tmp_path / finished_key('twice')}-1.png",) == second


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


@pytest.mark.anyio
async def test_a_route_that_is_cancelled_does_not_cancel_what_is_to_be_finished(slow):
    """A timeout of the application's own is a visitor who left, too: the picture is stored."""
    sink = MemorySink()
    async with started(application(slow, when_left=Finish(sink))) as running:
        with anyio.move_on_after(0.2):
            await running.get("/show")
    assert 1 == len(sink.pictures)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((None,), "Finish needs a sink, such as DirectorySink('finished'); got None"),
        (("folder",), "sink must be a sink"),
        ((MemorySink(), -1), "most must be a whole number, 0 or more; got -1"),
        ((MemorySink,), "sink must be a sink"),
        ((MemorySink(), 1, "told"), "told must be a function that takes a Departed; got 'told'"),
        ((MemorySink(), True), "most must be a whole number, 0 or more; got True"),
    ],
    ids=str,
)
def test_a_policy_that_cannot_be_meant_is_refused(given, sentence):
    """A mistake in the policy is one sentence."""
    with pytest.raises((ConfigurationError, InvalidRequestError)) as caught:
        Finish(*given)
    assert sentence in str(caught.value)
