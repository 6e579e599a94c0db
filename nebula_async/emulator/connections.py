"""Connections that can be broken on purpose, and replies that break them."""

import asyncio
import logging
from typing import Any, cast

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

FLUSH_SECONDS = 5.0

_log = logging.getLogger("nebula_async.emulator")
_log.addHandler(logging.NullHandler())


class BreakableProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, which hands the application its transport in `request.state.transport`.

    It logs to `nebula_async.emulator` instead of `uvicorn.error`, which would reach stderr.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn is as narrow
        """Remember the transport among the state that every request of this connection sees."""
        super().connection_made(transport)
        self.logger = _log
        self.app_state = {**self.app_state, "transport": transport}


class BrokenOff(Response):
    """No reply at all: the connection is aborted."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Abort the connection."""
        await break_connection(scope, receive)


class CutShort(Response):
    """The headers and about half of the body of another reply; then the connection is aborted."""

    def __init__(self, whole: Response) -> None:
        super().__init__(whole.body, whole.status_code)
        self.raw_headers = whole.raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the half, see it off, and abort the connection."""
        half = bytes(self.body)[: len(self.body) // 2]
        start: Message = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await _flush(_transport(scope))
        await break_connection(scope, receive)


async def break_connection(scope: Scope, receive: Receive) -> None:
    """Abort the connection of this request, and return when the server has noticed: it then expects no reply."""
    _transport(scope).abort()
    while (await receive())["type"] != "http.disconnect":
        pass


def _transport(scope: Scope) -> asyncio.Transport:
    state = cast("dict[str, Any]", scope["state"])
    return cast("asyncio.Transport", state["transport"])


async def _flush(transport: asyncio.Transport) -> None:
    # asyncio tells only protocols when a buffer is empty, and ours belongs to uvicorn; so look now and then.
    deadline = asyncio.get_running_loop().time() + FLUSH_SECONDS
    while transport.get_write_buffer_size() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - a transport has no event for it
        await asyncio.sleep(0.002)
