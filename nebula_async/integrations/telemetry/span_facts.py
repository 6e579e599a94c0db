"""What a span says of a call: its attributes, and its steps as events. Nothing here is made of words of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from nebula_async.api.envelope import BY_CODE
from nebula_async.events import (
    Abandoned,
    Asked,
    Failed,
    Generated,
    Held,
    OutageBegan,
    OutageEnded,
    Resumed,
    Retrying,
    Sent,
)
from nebula_async.integrations.telemetry import genai
from nebula_async.integrations.telemetry.figures import Ending, Sums

Facts: TypeAlias = dict[str, Any]

Step: TypeAlias = Sent | Retrying | Held | Resumed | OutageBegan | OutageEnded


def facts_of(event: Asked, sums: Sums) -> Facts:
    """Return what is known of a call when it begins."""
    facts: Facts = sums.span_facts.copy()
    facts[genai.REQUEST_MODEL] = event.model
    if event.seed is not None:
        facts[genai.REQUEST_SEED] = event.seed
    if event.pictures != 1:
        facts[genai.REQUEST_COUNT] = event.pictures
    if event.width is not None:
        facts[genai.WIDTH] = event.width
    if event.height is not None:
        facts[genai.HEIGHT] = event.height
    return facts


def ending_of(asked: Asked, event: Ending, error: str | None) -> Facts:
    """Return what is known of a call when it has ended, and was not when it began."""
    facts: Facts = {genai.CHARGES: str(event.charges)}
    if event.attempts > 1:
        facts[genai.RESENT] = event.attempts - 1
    if error is not None:
        facts[genai.ERROR_TYPE] = error
    if isinstance(event, Generated):
        _add_success(facts, asked, event)
    elif isinstance(event, Failed):
        _add(facts, genai.CODE, event.code)
        _add(facts, genai.STATUS, event.status)
    if not isinstance(event, Abandoned):
        _add(facts, genai.REQUEST_ID, event.request_id)
    return facts


def error_of(event: Ending) -> str | None:
    """Return the kind of error that a call ended with: the API's code where it is a known one, else a class's name."""
    if isinstance(event, Failed):
        return event.code if event.code in BY_CODE else event.error
    if isinstance(event, Abandoned):
        return event.error or genai.CANCELLED
    return None


def step_of(event: Step) -> tuple[str, Facts]:
    """Return the name of a step, and what there is to say of it."""
    return STEPS[type(event)](event)


def _about_retry(event: Retrying) -> tuple[str, Facts]:
    facts = {
        genai.ATTEMPT_NUMBER: event.attempt,
        genai.RETRY_REASON: event.reason,
        genai.RETRY_DELAY: event.delay_seconds,
    }
    return genai.RETRY, facts if event.status is None else facts | {genai.STATUS: event.status}


STEPS: Mapping[type[Step], Callable[[Any], tuple[str, Facts]]] = {
    Sent: lambda event: (genai.ATTEMPT, {genai.ATTEMPT_NUMBER: event.attempt}),
    Retrying: _about_retry,
    Held: lambda event: (genai.HELD, {genai.HELD_SECONDS: event.seconds}),
    Resumed: lambda event: (genai.RESUMED, {genai.HELD_SECONDS: event.seconds}),
    OutageBegan: lambda _event: (genai.OUTAGE_BEGAN, {}),
    OutageEnded: lambda _event: (genai.OUTAGE_ENDED, {}),
}
"""The events that are steps of a call."""


def _add_success(facts: Facts, asked: Asked, event: Generated) -> None:
    if event.pictures != asked.pictures:
        facts[genai.IMAGES] = event.pictures
    if event.served_model != asked.model:
        _add(facts, genai.RESPONSE_MODEL, event.served_model)


def _add(facts: Facts, name: str, value: str | int | None) -> None:
    if value is not None:
        facts[name] = value
