"""A batch of pictures whose reader is told of each: how it runs, and how it ends."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import define, field
from starlette.types import Send

from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.engine.fanout import Results
from nebula_async.errors import NebulaError
from nebula_async.integrations.web.http_errors import ANSWERS, describe_error, log_error, new_reference
from nebula_async.integrations.web.leaving import Finish, ShuttingDown
from nebula_async.integrations.web.outcome import outcome_of
from nebula_async.integrations.web.picture_facts import Place, describe_result
from nebula_async.integrations.web.presence import Presence
from nebula_async.integrations.web.settling import keep, key_for
from nebula_async.integrations.web.sse import HEARTBEAT, encode_event
from nebula_async.integrations.web.taking import until_over
from nebula_async.integrations.web.visit import Visit
from nebula_async.integrations.web.visits import Visits
from nebula_async.items import Item, Result
from nebula_async.offload import offload
from nebula_async.results import Failure, Generation

logger = logging.getLogger(__name__)

STOPPED = "the application is shutting down: what was not begun is not made"

LAST_WORD_SECONDS = 1.0
"""How long a reader may take for the last event of a batch that is stopped."""


@define(eq=False, kw_only=True)
class Batch:
    """Makes the pictures of many items, once, and tells a reader of them."""

    nebula: AsyncNebula
    items: Iterable[Item] | AsyncIterable[Item]
    options: Mapping[str, Any]
    total: int | None
    place: Place | None
    with_data: bool
    heartbeat_seconds: float
    visit: Visit = field(factory=Visit, init=False)
    states: dict[str, int] = field(factory=lambda: {"done": 0, "failed": 0}, init=False)
    charges: Charges = field(factory=Charges, init=False)
    _told: int = field(default=0, init=False)

    async def run(self, visits: Visits, presence: Presence, send: Send) -> None:
        """Make the pictures and send the events. Raises `ClientLeft` where the reader left before the end."""
        events, reading = anyio.create_memory_object_stream[bytes](0)
        outcome: Exception | None = None
        async with anyio.create_task_group() as group, events:
            group.start_soon(_forward, reading, send)
            try:
                await visits.attend(presence, self.visit, lambda: self._make(visits, events), self._settle)
            except ShuttingDown:
                with anyio.move_on_after(LAST_WORD_SECONDS) as last:
                    await self._emit(events, self._end({"detail": STOPPED}))
                if last.cancelled_caught:
                    group.cancel_scope.cancel()
            except Exception as error:  # noqa: BLE001 - raised below, bare
                outcome = error
                group.cancel_scope.cancel()  # nobody reads any more
        if outcome is not None:
            raise outcome

    async def _make(self, visits: Visits, events: MemoryObjectSendStream[bytes]) -> None:
        def is_over() -> bool:
            return self.visit.has_left or visits.is_draining

        await self._emit(events, self._event("begin", {"total": self.total}))
        trouble = None
        try:
            async with self.nebula.generate_many(until_over(self.items, is_over), **self.options) as results:
                await self._tell_all(results, events, visits)
        except NebulaError as error:
            trouble = describe_error(error, log_error(error, "a batch"))
        except Exception:
            reference = new_reference()
            logger.exception("a batch failed: reference=%s", reference)
            trouble = {"detail": ANSWERS[NebulaError].detail, "reference": reference}
        if trouble is None and visits.is_draining:
            trouble = {"detail": STOPPED}
        await self._emit(events, self._end(trouble))

    async def _tell_all(self, results: Results[Result], events: MemoryObjectSendStream[bytes], visits: Visits) -> None:
        while True:
            result = None
            with anyio.move_on_after(self.heartbeat_seconds) as waiting:
                result = await anext(results, None)
            if waiting.cancelled_caught:
                await self._emit(events, HEARTBEAT)
            elif result is None:
                return
            else:
                await self._tell(result, events, visits)

    async def _tell(self, result: Result, events: MemoryObjectSendStream[bytes], visits: Visits) -> None:
        self.states["failed" if isinstance(result, Failure) else "done"] += 1
        self.charges += result.error.charges if isinstance(result, Failure) else result.charges
        if isinstance(result, Generation) and self.visit.has_left and isinstance(visits.policy, Finish):
            await self._keep_all(result, visits.policy)
        reference = log_error(result.error, f"item {result.index}") if isinstance(result, Failure) else ""
        if self.with_data:  # to write megabytes of base64 as JSON takes milliseconds
            event = await offload(self._result, result, reference)
        else:
            event = self._result(result, reference)
        await self._emit(events, event)

    def _result(self, result: Result, reference: str) -> bytes:
        try:
            return self._described(result, reference, self.place)
        except Exception:  # of the application's own `place`: others are under way, and paid for
            logger.exception("where the pictures of item %d are is not told: place failed", result.index)
            return self._described(result, reference, None)

    def _described(self, result: Result, reference: str, place: Place | None) -> bytes:
        return self._event("result", describe_result(result, reference, place=place, with_data=self.with_data))

    def _end(self, trouble: Mapping[str, Any] | None) -> bytes:
        state = "complete" if trouble is None else "stopped"
        charges = max(self.charges, self.visit.charges, key=lambda it: it.at_most)  # of what was cancelled, too
        facts = {"state": state, **self.states, "charges": str(charges)}
        return self._event("end", facts | ({} if trouble is None else {"error": trouble}))

    def _event(self, name: str, facts: Mapping[str, Any]) -> bytes:
        number, self._told = self._told, self._told + 1
        return encode_event(facts, event=name, number=number)

    async def _emit(self, events: MemoryObjectSendStream[bytes], event: bytes) -> None:
        """Send an event, unless nobody reads them any more."""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await events.send(event)

    async def _keep_all(self, generation: Generation, policy: Finish) -> None:
        """Store pictures that were meant for events which nobody reads any more."""
        key = key_for(generation.request, self.visit)
        for image in generation.images:
            if image.stored is None:
                error = await outcome_of(partial(keep, policy.sink, key, image))
                if error is not None:  # what else is under way is paid for, too
                    text = "a picture without its reader was not kept: reference=%s"
                    logger.error(text, self.visit.reference, exc_info=error)

    async def _settle(self, _policy: Finish) -> None:
        logger.info(
            "a batch was ended without its reader: reference=%s done=%d failed=%d charges=%s",
            self.visit.reference,
            self.states["done"],
            self.states["failed"],
            self.charges,
        )


async def _forward(reading: MemoryObjectReceiveStream[bytes], send: Send) -> None:
    async with reading:
        async for event in reading:
            await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
