"""Whether the visitor of a request is still there."""

from __future__ import annotations

import logging
from contextlib import suppress

import anyio
from attrs import define, field
from starlette.requests import ClientDisconnect, Request

from nebula_async.integrations.web.answered import is_answered
from nebula_async.integrations.web.outcome import outcome_of

logger = logging.getLogger(__name__)

WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


@define(eq=False)
class Presence:
    """Watches one request for its visitor's leaving, for any number of calls at the same time.

    One of them asks the server at a time: some servers tell it only once. Where the route is over (`is_route_over`)
    nobody reads the body any more. What goes on when the answer has been sent is nobody's to leave.
    """

    request: Request
    is_route_over: bool = False
    has_left: bool = False
    _asking: anyio.Lock = field(factory=lambda: anyio.Lock(), init=False)

    async def wait_until_left(self) -> None:
        """Return when the visitor has left; one whose request has a body that no route has read is never seen to."""
        async with self._asking:
            if not self.has_left:
                await self._ask_or_give_up()
                self.has_left = True

    async def _ask_or_give_up(self) -> None:
        error = await outcome_of(self._ask)
        if error is not None:  # servers and middleware are other people's code: the call goes on, whoever waits for it
            logger.error("whether a visitor has left cannot be seen", exc_info=error)
            await anyio.sleep_forever()

    async def _ask(self) -> None:
        if not (self.is_route_over or self._is_body_read()):
            if _may_have_body(self.request):  # what is read here would be lost to a route that reads it later
                await anyio.sleep_forever()
            with suppress(ClientDisconnect):
                await self.request.body()
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        if is_answered(self.request.scope):  # so servers tell the end of an answer, too
            await anyio.sleep_forever()

    def _is_body_read(self) -> bool:
        """Whether all of the body has come; a route may have read it whole, as a stream, or as a form."""
        return hasattr(self.request, "_body") or self.request._stream_consumed


def _may_have_body(request: Request) -> bool:
    if "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0":
        return True
    is_framed = request.scope.get("http_version", "1.1") in ("1.0", "1.1")  # else a body needs no header
    return not is_framed and request.method not in WITHOUT_BODY
