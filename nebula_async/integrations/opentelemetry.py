"""Traces and metrics where OpenTelemetry collects them: `AsyncNebula(observer=Telemetry())` (extra `otel`)."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Token
from threading import Timer
from time import time_ns
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from nebula_async.checks import shown
from nebula_async.errors import ConfigurationError
from nebula_async.events import Abandoned, Asked, Event, Failed, Generated, Sent, TellPrompt
from nebula_async.integrations.telemetry import genai
from nebula_async.integrations.telemetry.call_span import CallSpan
from nebula_async.integrations.telemetry.figures import SCOPE, Ending, UnderWay, figures_of
from nebula_async.integrations.telemetry.span_facts import STEPS, Step

MOST_UNDER_WAY = 65_536
"""Of more calls that began and did not end the oldest are forgotten: every call ends, but memory relies on nobody."""

MOST_WAITING = 128
LONGEST_WAIT = 1.0
"""So many calls that have ended wait for their spans to be made, for so many seconds, while others are under way."""

LOOK_EVERY = 8
"""The first of so many makes sure that the wait has its end: a fork leaves threads behind."""


class Telemetry:
    """An observer that tells OpenTelemetry: a span for each call, with its attempts as events, and metrics.

    Without providers it uses the global ones, also where they are set later; without OpenTelemetry's SDK it does next
    to nothing. The span is the current one while its call runs: what a sink or an instrumented library does meanwhile
    becomes its child. It is handed on at the latest a second after its call, and at once where no other is under way.
    No span, metric or log holds a key, a URL or picture bytes; spans hold prompts only with `capture_content`, which
    the variable `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` sets where it is `None`. One `Telemetry` serves
    any number of clients, event loops and threads. Raises `ConfigurationError`.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        capture_content: bool | None = None,
    ) -> None:
        _check("tracer_provider", tracer_provider, "get_tracer")
        _check("meter_provider", meter_provider, "get_meter")
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._figures = figures_of(meter_provider)
        self._calls: dict[str, CallSpan] = {}
        self._under_way = UnderWay(self._calls)
        self._figures.under_way.add(self._under_way)
        self._ended: deque[CallSpan] = deque()
        self._timer: Timer | None = None
        self._notes: dict[type[Event], Callable[[Any], None]] = {
            Asked: self._begin,
            **dict.fromkeys(STEPS, self._step),
            Sent: self._sent,
            **dict.fromkeys((Generated, Failed, Abandoned), self._end),
        }
        captures = _is_asked_to_capture() if capture_content is None else capture_content
        self.tell_prompt: TellPrompt | None = self._tell_prompt if captures else None

    def __call__(self, event: Event, /) -> None:
        """Take note of an event."""
        note = self._notes.get(type(event))
        if note is not None:
            note(event)

    def _sent(self, event: Sent) -> None:
        if event.attempt > 1:
            self._step(event)
        elif event.call in self._calls:
            self._calls[event.call].sent = time_ns()

    def _step(self, event: Step) -> None:
        found = self._calls.get(event.call)
        if found is not None:
            found.steps = [*found.steps, (time_ns(), event)]

    def _begin(self, event: Asked) -> None:
        calls = self._calls
        if event.call in calls or len(calls) >= MOST_UNDER_WAY:
            calls.pop(event.call if event.call in calls else next(iter(calls))).give_up()
        parent = context.get_current()
        call = CallSpan(event, self._figures.begun(event), self._tracer, parent, time_ns())
        call.token = context.attach(trace.set_span_in_context(call, parent))
        calls[event.call] = call

    def _end(self, event: Ending) -> None:
        """Make the caller's span the current one again, and have that of the call made soon."""
        call = self._calls.pop(event.call, None)
        if call is None:
            return
        _leave(call.over(event))
        self._ended.append(call)
        # What nobody awaits any more is closed in the midst of anything, perhaps with a lock of OpenTelemetry's held.
        is_orphan = isinstance(event, Abandoned) and event.error is not None
        if not is_orphan and (len(self._ended) >= MOST_WAITING or not self._calls):
            self._write()
        elif len(self._ended) % LOOK_EVERY == 1 and (self._timer is None or not self._timer.is_alive()):
            self._wait()

    def _wait(self) -> None:
        self._timer = Timer(LONGEST_WAIT, self._write_late)
        self._timer.daemon = True
        self._timer.start()

    def _write_late(self) -> None:
        self._timer = None
        self._write()

    def _write(self) -> None:
        """Make and end the spans of the calls that have ended, and count them.

        One step for all of them, then the next: code that is run in a row costs less than half.
        """
        batch = _drained(self._ended)
        for call in batch:
            call.write()
        for call in batch:
            call.add_steps()
        for call in batch:
            if call.ending is not None:
                self._figures.ended(call.sums, call.ending, call.steps, call.error, _seconds(call, call.ending))
        for call in batch:
            call.close()

    def _tell_prompt(self, call: str, prompt: str, negative_prompt: str | None) -> None:
        found = self._calls.get(call)
        if found is not None:
            found.tell_prompt(prompt, negative_prompt)


def _drained(ended: deque[CallSpan]) -> list[CallSpan]:
    """Take out all that are there; another thread may take some of them."""
    batch = []
    with suppress(IndexError):
        while True:
            batch.append(ended.popleft())
    return batch


def _seconds(call: CallSpan, ending: Ending) -> float:
    return max(0, call.ended - call.began) / 1e9 if isinstance(ending, Abandoned) else ending.seconds


def _leave(token: Token[Context] | None) -> None:
    """Make the caller's span the current one again. OpenTelemetry's own `detach` would log an error where a call is
    closed elsewhere, by whoever collected what nobody awaits any more; nothing was left there.
    """
    try:
        if token is not None:
            token.var.reset(token)
    except ValueError:
        return


def _is_asked_to_capture() -> bool:
    return os.environ.get(genai.CAPTURE_VARIABLE, "").strip().lower() in genai.CAPTURES


def _check(name: str, provider: object, method: str) -> None:
    if provider is not None and (isinstance(provider, type) or not hasattr(provider, method)):
        kind = "TracerProvider" if method == "get_tracer" else "MeterProvider"
        raise ConfigurationError(f"{name} must be a {kind} of OpenTelemetry; got {shown(provider)}")
