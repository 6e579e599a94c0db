"""The progress of many pictures, told to a browser while they are made, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sized
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from nebula_async.checks import shown
from nebula_async.client import AsyncNebula
from nebula_async.errors import ConfigurationError
from nebula_async.integrations.web.batch import Batch
from nebula_async.integrations.web.leaving import ClientLeft
from nebula_async.integrations.web.lifespan import VISITS
from nebula_async.integrations.web.picture_facts import Place
from nebula_async.integrations.web.presence import Presence
from nebula_async.integrations.web.visits import Visits
from nebula_async.items import Item, check_shared, refuse_one
from nebula_async.sinks.sink import Sink, check_sink

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""A cache, or a proxy that collects, would tell nothing until all is over."""


class ProgressResponse(StreamingResponse):
    """Makes the pictures of a batch while it tells of them; it is what `progress_response` returns."""

    def __init__(self, batch: Batch) -> None:
        super().__init__((), media_type="text/event-stream", headers=HEADERS)
        self.batch = batch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the batch, until it is over or its reader has left."""
        if "last-event-id" in Headers(scope=scope):  # a reader that lost its connection: it is told to stop asking
            await Response(status_code=204, background=self.background)(scope, receive, send)
            return
        visits: Visits = scope.get("state", {}).get(VISITS) or Visits("cancel", 0)
        visits.check_open()
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with suppress(ClientLeft):
            await self.batch.run(visits, Presence(Request(scope, receive), is_route_over=True), send)
        if self.background is not None:
            await self.background()


def progress_response(
    nebula: AsyncNebula,
    prompts_or_requests: Iterable[Item] | AsyncIterable[Item],
    *,
    total: int | None = None,
    place: Place | None = None,
    data: bool = False,
    heartbeat_seconds: float = 15.0,
    sink: Sink | None = None,
    concurrency: int | None = None,
    **shared: Any,
) -> StreamingResponse:
    """Make many pictures and tell of each as it is there, as server-sent events: `begin`, a `result` for each, `end`.

    Items, `sink`, `concurrency` and `shared` are those of `generate_many`. The pictures go into `sink`, or with
    `data=True` into the events, as data URLs; `place(image)` is the URL that visitors find a picture at. A comment
    every `heartbeat_seconds` keeps the connection open. A reader that is slow slows the batch down. One that leaves
    cancels it; with `when_left=Finish(…)` nothing more is begun, and what is under way is finished into `sink`.

    Every event has an id, but nothing is kept of a batch: who connects again with `Last-Event-ID`, as browsers do by
    themselves, gets status 204, and nothing is bought twice. Close the `EventSource` at the `end`.

    Raises `TypeError`, `InvalidRequestError` and `ConfigurationError` before anything is sent.
    """
    refuse_one(prompts_or_requests)
    check_shared(shared)
    check_sink(sink)
    if sink is None and not data:
        raise ConfigurationError("give sink= or data=True: else pictures would be paid for and shown to nobody")
    if sink is not None and data:
        raise ConfigurationError("give sink= or data=True, not both: what a sink has taken is no more in memory")
    if not heartbeat_seconds > 0:
        raise ConfigurationError(f"heartbeat_seconds must be above 0; got {shown(heartbeat_seconds)}")
    if total is None and isinstance(prompts_or_requests, Sized):
        total = len(prompts_or_requests)
    batch = Batch(
        nebula=nebula,
        items=prompts_or_requests,
        options={"sink": sink, "concurrency": concurrency, **shared},
        total=total,
        place=place,
        with_data=data,
        heartbeat_seconds=heartbeat_seconds,
    )
    return ProgressResponse(batch)
