"""The application that is measured: FastAPI on a real uvicorn, in a process of its own; it tells what goes on in it."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import signal
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from multiprocessing.synchronize import Event as Signal
from typing import Any

import anyio
import attrs
import httpcore
import uvicorn
from attrs import field, frozen
from fastapi import FastAPI, Response
from footprint import lateness, tick
from picture_server import allow_many_files, pin
from web_events import EventLog

from nebula_async import Config, DirectorySink
from nebula_async.integrations.fastapi import (
    Finish,
    ImageBody,
    Nebula,
    handle_errors,
    image_response,
    nebula_lifespan,
)

KEY = "sk-emulator"
STARTING_SECONDS = 30.0
ANY_RATE = 1_000_000
KEEP_ALIVE_SECONDS = 60
"""Clients that were answered may wait for others before they ask again, longer than the usual 5 s."""

SPAWN = multiprocessing.get_context("spawn")


@frozen(kw_only=True)
class Setup:
    """How an application runs: the root of its API, how many calls it makes at a time (`None`: as many as a client that
    was told no limit), on which core (`None`: any) and loop.

    Pictures of clients that left go into `folder`, if there is one. What the client told is written to the file
    `events` at the end.
    """

    base_url: str
    concurrency: int | None = None
    core: int | None = None
    loop: str = "asyncio"
    folder: str | None = None
    grace_seconds: float = 20.0
    events: str | None = None


@frozen
class Application:
    """An application that is running in a process of its own."""

    port: int
    process: multiprocessing.process.BaseProcess = field(repr=False)

    def ask(self, path: str) -> Any:
        """Return what it answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=STARTING_SECONDS) as reply:
            return json.load(reply)

    def stop(self, seconds: float) -> float:
        """Send it a SIGTERM, and return after how many seconds it had ended. Raises `TimeoutError`."""
        started = time.perf_counter()
        self.process.terminate()
        self.process.join(seconds)
        if self.process.exitcode is None:
            raise TimeoutError(f"the application did not end within {seconds:g} s of its SIGTERM")
        return time.perf_counter() - started


@contextmanager
def running(setup: Setup) -> Iterator[Application]:
    """Run the application until the block is left."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:  # so named, Nagle is off
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        is_up = SPAWN.Event()
        process = SPAWN.Process(target=serve, args=(listener, setup, is_up), daemon=True)
        process.start()
        application = Application(listener.getsockname()[1], process)
    try:
        if not is_up.wait(STARTING_SECONDS):
            raise TimeoutError(f"the application did not start within {STARTING_SECONDS:g} s")
        yield application
    finally:
        process.terminate()
        process.join(STARTING_SECONDS)
        process.kill()
        process.join()


def serve(listener: socket.socket, setup: Setup, is_up: Signal) -> None:
    """Serve until a SIGTERM, as `uvicorn app:app` does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    if setup.core is not None:
        pin(setup.core)
    allow_many_files()
    config = uvicorn.Config(
        build(setup, is_up), loop=setup.loop, log_level="warning", timeout_keep_alive=KEEP_ALIVE_SECONDS
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def build(setup: Setup, is_up: Signal) -> FastAPI:
    """Return the application: what its users ask for, and what the benchmark asks it about itself."""
    log = EventLog()
    late: list[float] = []

    @asynccontextmanager
    async def ticking(_app: FastAPI) -> AsyncIterator[None]:
        ticker = asyncio.create_task(tick(late))
        asyncio.get_running_loop().call_soon(is_up.set)  # uvicorn serves once this has started
        yield
        ticker.cancel()
        if setup.events is not None:  # the client is closed by now: nothing else happens
            await anyio.Path(setup.events).write_text(json.dumps(log.as_dict()))

    lifespan = nebula_lifespan(
        ticking,
        when_left="cancel" if setup.folder is None else Finish(DirectorySink(setup.folder), most=1_000),
        grace_seconds=setup.grace_seconds,
        api_key=KEY,
        config=configure(setup),
        timeout=300,
        observer=log,
    )
    app = FastAPI(lifespan=lifespan)
    handle_errors(app)

    @app.get("/ping")
    async def ping() -> str:
        return "pong"

    @app.post("/images")
    async def images(wish: ImageBody, nebula: Nebula) -> Response:
        made = await nebula.generate(wish.to_request())
        log.handed += 1
        return image_response(made)

    @app.get("/effort")
    async def effort() -> dict[str, Any]:
        found, cpu_seconds = lateness(late), time.process_time()
        late.clear()
        return {"late": attrs.asdict(found), "cpu_seconds": cpu_seconds}

    @app.get("/books")
    async def books() -> dict[str, Any]:
        return log.as_dict()

    @app.get("/held")
    async def held(nebula: Nebula) -> dict[str, int]:
        return {"in_flight": nebula.limits.in_flight, "waiting": nebula.limits.waiting, **count_what_is_held()}

    return app


def configure(setup: Setup) -> Config:
    """Return how the client is set up: it sends the keys by which the books are compared, and trusts in nothing."""
    config = Config(base_url=setup.base_url, idempotency="unknown")
    if setup.concurrency is None:
        return config
    return attrs.evolve(config, concurrency=setup.concurrency, rate_limit=ANY_RATE)


def count_what_is_held() -> dict[str, int]:
    """Return how many tasks, descriptors and connections to the API there are, and how many of those are idle."""
    gc.collect()
    connections = [each for each in gc.get_objects() if isinstance(each, httpcore.AsyncHTTPConnection)]
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(os.listdir("/dev/fd")),  # noqa: PTH208 - one is the listing's own, each time
        "connections": len(connections),
        "idle": sum(each.is_idle() for each in connections),
    }
