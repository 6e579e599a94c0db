"""The end of an application: a real uvicorn, in a process of its own, is told to end in the middle of its work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from asgi import started, taking, until
from attrs import define
from places import announced
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from web_server import Visitor

from nebula_async.emulator import Emulator
from nebula_async.integrations.starlette import (
    Finish,
    handle_errors,
    health_routes,
    image_response,
    nebula_lifespan,
    nebula_of,
)
from nebula_async.sinks.memory import MemorySink

HERE = Path(__file__).parent
SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
SLOW = 8.0
"""Seconds that a picture takes where the end is not to wait for it."""


@define
class Running:
    """A server of another process."""

    process: subprocess.Popen[str]
    port: int

    def end(self) -> tuple[float, str]:
        """Tell it to end; return how long that took, and what it has logged."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        _, logged = self.process.communicate(timeout=40)
        return time.monotonic() - began, logged

    async def visit(self, path: str, emulator: Emulator, asked: int = 1) -> Visitor:
        """Return a visitor whose picture is under way."""
        visitor = Visitor(await anyio.connect_tcp("127.0.0.1", self.port))
        await visitor.ask("GET", path)
        await until(lambda: len(emulator.journal.generations) >= asked)
        return visitor


@contextmanager
def running(emulator: Emulator, *arguments: str, **options: object) -> Iterator[Running]:
    """Run the application with these options of its lifespan."""
    words = ["-m", "uvicorn", "--port", "0", "--app-dir", str(HERE), *arguments, "drained_app:app"]
    environ = os.environ | announced(emulator) | {"OPTIONS": json.dumps(options)}
    with subprocess.Popen([sys.executable, *words], env=environ, stderr=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stderr if "running on http" in line)
        try:
            yield Running(process, int(line.partition("127.0.0.1:")[2].split()[0]))
        finally:
            process.kill()


@pytest.mark.asyncio
async def test_a_call_that_outlasts_the_grace_is_cancelled_and_told():
    """Without any setting of the server's, a call that never ends holds the end up for as long as the grace, its
    visitor gets a 503 that says when to come again, and the log what may have been paid for.
    """
    with taking(SLOW) as emulator, running(emulator, grace_seconds=0.5) as server:
        visitor = await server.visit("/show", emulator)
        seconds, logged = await anyio.to_thread.run_sync(server.end)
        status, headers, _ = await visitor.read_answer()
        await visitor.leave()
    assert (503, "1") == (status, headers["retry-after"])
    assert seconds < SLOW - 2
    assert "1 calls were cancelled after the 0.5 s of grace; 0-1 pictures may have been paid for" in logged
    assert "Finished server process" in logged
    assert "Traceback" not in logged


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", ["cancel", "finish"])
async def test_a_call_that_ends_within_the_grace_is_answered(policy, tmp_path):
    """Who waits gets the picture although the server is ending; who has left finds it in the sink."""
    finish = {"finish_into": str(tmp_path)} if policy == "finish" else {}
    with taking(0.8) as emulator, running(emulator, **finish) as server:
        waits, leaves = await server.visit("/show", emulator), await server.visit("/show", emulator, asked=2)
        await leaves.leave()
        seconds, logged = await anyio.to_thread.run_sync(server.end)
        status, _, body = await waits.read_answer()
        await waits.leave()
    assert 200 == status
    assert body.startswith(b"\x89PNG")
    assert (policy == "finish") == (len(list(tmp_path.glob("finished/*.png"))) == 1)
    assert "were cancelled after" not in logged
    assert seconds < 15


@pytest.mark.asyncio
async def test_what_the_server_cancels_is_finished_all_the_same(tmp_path):
    """Where uvicorn's own `timeout_graceful_shutdown` is over first, it cancels the routes; the lifespan still has its
    grace, and what was to be finished is stored.
    """
    with (
        taking(2.5) as emulator,
        running(emulator, "--timeout-graceful-shutdown", "1", finish_into=str(tmp_path)) as server,
    ):
        visitor = await server.visit("/show", emulator)
        _, logged = await anyio.to_thread.run_sync(server.end)
        await visitor.leave()
    assert "timeout graceful shutdown exceeded" in logged
    assert 1 == len(list(tmp_path.glob("finished/*.png")))
    assert "a call was finished without its visitor" in logged


@pytest.mark.asyncio
async def test_a_batch_ends_with_a_last_event():
    """A batch takes no more items once the server ends, and its last event says that it was stopped."""
    with taking(0.05) as emulator, running(emulator) as server:
        visitor = await server.visit("/many", emulator, asked=3)
        seconds, _ = await anyio.to_thread.run_sync(server.end)
        received = (await visitor.read_all()).decode()
        await visitor.leave()
    last = received[received.index("event: end") :]
    assert '"state":"stopped"' in last
    assert "the application is shutting down" in last
    assert received.count("event: result") == emulator.journal.charged
    assert seconds < 15


async def show(request: Request) -> Response:
    """Make a picture."""
    return image_response(await nebula_of(request).generate("a cat", **SMALL))


@pytest.mark.anyio
async def test_new_calls_are_refused_while_the_application_drains(emulator):
    """Once the end has begun a new call is a 503 with `Retry-After`, and readiness says so; liveness does not."""
    app = Starlette(routes=[Route("/show", show), *health_routes()])
    app.router.lifespan_context = nebula_lifespan(api_key=emulator.key, base_url=emulator.base_url)
    handle_errors(app)
    async with started(app) as application:
        assert 200 == (await application.get("/show")).status
        application.state["nebula_visits"].note_end()
        refused, ready = await application.get("/show"), await application.get("/health/ready")
        assert (503, "1") == (refused.status, refused.headers["retry-after"])
        assert (503, "draining") == (ready.status, ready.json["state"])
        assert 200 == (await application.get("/health/live")).status
    emulator.assert_charged(1)


@pytest.mark.anyio
async def test_the_end_waits_for_what_goes_on_without_its_visitor(caplog):
    """What outlasts the grace is cancelled, told to whoever wants to know, and logged with what it may have cost."""
    told, left = [], anyio.Event()
    with taking(SLOW) as emulator:
        policy = Finish(MemorySink(), told=told.append)
        app = Starlette(routes=[Route("/show", show)])
        options = {"api_key": emulator.key, "base_url": emulator.base_url}
        app.router.lifespan_context = nebula_lifespan(when_left=policy, grace_seconds=0.1, **options)
        async with started(app) as application, anyio.create_task_group() as group:
            group.start_soon(application.ask, "GET", "/show", b"", None, left)
            await until(lambda: emulator.journal.generations)
            left.set()
    assert [None] == [departed.generation for departed in told]
    assert "0-1" == str(told[0].charges)
    assert "1 calls were cancelled after the 0.1 s of grace; 0-1 pictures may have been paid for" in caplog.text
