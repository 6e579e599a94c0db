"""Applications under test: on a real uvicorn in the event loop of the test, and visitors who may leave."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn
from anyio.abc import SocketStream
from attrs import define, field

PATIENCE = 60.0


@define(eq=False)
class Visitor:
    """A visitor with a connection of its own, who speaks plain HTTP/1.1."""

    stream: SocketStream
    received: bytearray = field(factory=bytearray)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> None:
        """Send a request."""
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: test", f"content-length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.stream.send("\r\n".join([*lines, "", ""]).encode() + data)

    async def read_until(self, text: bytes) -> bytes:
        """Return what has come, as soon as this is in it."""
        with anyio.fail_after(PATIENCE):
            while text not in self.received:
                self.received += await self.stream.receive()
        return bytes(self.received)

    async def read_all(self) -> bytes:
        """Return what comes until the server closes."""
        with anyio.fail_after(PATIENCE):
            async for piece in self.stream:
                self.received += piece
        return bytes(self.received)

    async def read_answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer that comes next."""
        head, _, rest = (await self.read_until(b"\r\n\r\n")).partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", "0"))
        with anyio.fail_after(PATIENCE):
            while len(rest) < size:
                rest += await self.stream.receive()
        self.received = bytearray(rest[size:])
        return int(first.split()[1]), headers, rest[:size]

    async def leave(self) -> None:
        """Close the connection."""
        await self.stream.aclose()


@define(eq=False)
class Served:
    """A server with an application, in the event loop of the test."""

    server: uvicorn.Server
    port: int
    visitors: list[Visitor] = field(factory=list)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def visit(self) -> Visitor:
        """Return a visitor who has come."""
        self.visitors.append(Visitor(await anyio.connect_tcp("127.0.0.1", self.port)))
        return self.visitors[-1]

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of what is there."""
        visitor = await self.visit()
        await visitor.ask("GET", path, **headers)
        answer = await visitor.read_answer()
        await visitor.leave()
        return answer

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer to a JSON body."""
        visitor = await self.visit()
        await visitor.ask("POST", path, body, content_type="application/json", **headers)
        answer = await visitor.read_answer()
        await visitor.leave()
        return answer


@asynccontextmanager
async def served(app: Any, **settings: Any) -> AsyncIterator[Served]:
    """Serve an application; it has to end in good order."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    options = {"log_level": "warning", "access_log": False, "lifespan": "on", "timeout_graceful_shutdown": 10}
    server = uvicorn.Server(uvicorn.Config(app, **options | settings))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.005)
    found = Served(server, listener.getsockname()[1])
    try:
        yield found
    finally:
        for visitor in found.visitors:
            await visitor.leave()
        server.should_exit = True
        with anyio.fail_after(PATIENCE):
            await task
