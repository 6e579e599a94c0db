"""An application called without a server, on any event loop: its lifespan, its answers, and visitors who leave."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
from attrs import define, field

from nebula_async.emulator import Emulator, Fault

PATIENCE = 60.0


def taking(seconds: float) -> Emulator:
    """Return an emulator that takes so long for each reply."""
    return Emulator(latency=0, faults=[Fault("delay", f"{seconds}", probability=1)])


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so."""
    with anyio.move_on_after(PATIENCE):
        while not is_so():  # noqa: ASYNC110 - what is waited for is in another process, or another thread
            await anyio.sleep(0.005)
    assert is_so(), "it did not come to that"


@define
class Answer:
    """What an application has sent."""

    status: int = 0
    headers: dict[str, str] = field(factory=dict)
    body: bytes = b""
    is_whole: bool = False

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@define(eq=False)
class Started:
    """An application whose lifespan has begun."""

    app: Any
    state: dict[str, Any]

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        leaves: anyio.Event | None = None,
        reads: anyio.Event | None = None,
    ) -> Answer:
        """Return the answer to a request, whose visitor leaves when the one event is set, and reads no body before the
        other one is.
        """
        answer, parts, leaves = Answer(), [body], leaves or anyio.Event()
        pairs = headers.items() if isinstance(headers, dict) else headers or []
        plain, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": plain,
            "raw_path": plain.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
            + [(name.lower().encode(), value.encode()) for name, value in pairs],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
            "state": dict(self.state),
        }

        async def receive() -> dict[str, Any]:
            if parts:
                return {"type": "http.request", "body": parts.pop(), "more_body": False}
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                await (reads.wait() if reads else anyio.lowlevel.checkpoint())
                answer.body += message.get("body", b"")
                answer.is_whole = not message.get("more_body", False)

        await self.app(scope, receive, send)
        return answer

    async def get(self, path: str, **headers: str) -> Answer:
        """Return the answer to a GET."""
        return await self.ask("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})

    async def post(self, path: str, body: object, leaves: anyio.Event | None = None) -> Answer:
        """Return the answer to a POST of JSON."""
        return await self.ask("POST", path, json.dumps(body).encode(), leaves=leaves)


@asynccontextmanager
async def started(app: Any) -> AsyncIterator[Started]:
    """Run the lifespan of an application around the block."""
    async with app.router.lifespan_context(app) as state:
        yield Started(app, dict(state or {}))
