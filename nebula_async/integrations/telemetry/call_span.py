"""The span of one call, made late.

OpenTelemetry's own span costs twice as much where its code has just left the processor's caches. So what happens is
only noted, with its time, and the spans of calls that have ended are made one after the other. Whoever asks for the
current span meanwhile gets it at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextvars import Token
from threading import RLock
from time import time_ns
from typing import Any

from attrs import define, field
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from nebula_async.events import Asked
from nebula_async.integrations.telemetry import genai
from nebula_async.integrations.telemetry.figures import Ending, Sums
from nebula_async.integrations.telemetry.span_facts import Facts, Step, ending_of, error_of, facts_of, step_of

MOST_CHARACTERS = 32_768
"""Longer prompts are cut in spans."""

NOTHING: Facts = {}

_making = RLock()


@define(eq=False)
class CallSpan(Span):
    """A call: what it asked for, when what happened, in nanoseconds since 1970; and its span, once there is one.

    It ends with its call: `end` by others does nothing. `sent` is when the first attempt was, the most there is to most
    calls; all else are `steps`. `token` makes the caller's span the current one again.
    """

    asked: Asked
    sums: Sums
    tracer: Tracer
    parent: Context
    began: int
    sent: int = 0
    steps: Sequence[tuple[int, Step]] = ()
    ended: int = 0
    ending: Ending | None = None
    error: str | None = None
    token: Token[Context] | None = None
    words: Facts | None = None
    _span: Span | None = field(default=None, init=False)

    def tell_prompt(self, prompt: str, negative_prompt: str | None) -> None:
        """Let the span hold these words."""
        message = {"role": "user", "parts": [{"type": "text", "content": _cut(prompt)}]}
        self.words = {genai.INPUT_MESSAGES: json.dumps([message], ensure_ascii=False)}
        if negative_prompt is not None:
            self.words[genai.NEGATIVE_PROMPT] = _cut(negative_prompt)

    def over(self, ending: Ending) -> Token[Context] | None:
        """Note how the call ended, and return what makes the caller's span the current one again, once."""
        self.ended, self.ending = time_ns(), ending
        token, self.token = self.token, None
        return token

    def write(self) -> None:
        """Make the span of a call that has ended, with all that is known of it but for its steps."""
        ending = self.ending
        if ending is None:
            return
        self.error = error_of(ending)
        facts = ending_of(self.asked, ending, self.error)
        if self._span is None:
            self._open(facts)
        else:
            self._span.set_attributes(facts)

    def add_steps(self) -> None:
        """Let the span tell what happened, and whether the call failed."""
        span = self._own
        if not span.is_recording():
            return
        if self.sent:
            span.add_event(genai.ATTEMPT, None, self.sent)
        for at, event in self.steps:
            span.add_event(*step_of(event), at)
        if self.error is not None:
            span.set_status(Status(StatusCode.ERROR))

    def close(self) -> None:
        """End the span, when the call ended."""
        self._own.end(self.ended)

    def give_up(self) -> None:
        """End the span, if there is one, of a call of which nothing more is heard."""
        if self._span is not None:
            self._span.end()

    def _open(self, ending: Facts | None = None) -> Span:
        facts = facts_of(self.asked, self.sums)
        facts.update(self.words or NOTHING)
        facts.update(ending or NOTHING)
        with _making:  # a thread of the call may ask for the current span, too; and its parent may be another call's
            if self._span is None:
                self._span = self.tracer.start_span(
                    self.sums.span_name, self.parent, SpanKind.CLIENT, facts, start_time=self.began
                )
            return self._span

    @property
    def _own(self) -> Span:
        return self._span or self._open()

    def get_span_context(self) -> SpanContext:
        """Return what children refer to."""
        return self._own.get_span_context()

    def is_recording(self) -> bool:
        """Whether anything of it will be exported."""
        return self._own.is_recording()

    def set_attribute(self, key: str, value: Any) -> None:
        """Add an attribute."""
        self._own.set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes."""
        self._own.set_attributes(attributes)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Add an event."""
        self._own.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Add a link."""
        self._own.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """Give it another name."""
        self._own.update_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set its status; that of a call that failed is an error in the end."""
        self._own.set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an exception as an event."""
        self._own.record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        """Do nothing: it ends with its call."""


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"
