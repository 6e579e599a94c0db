"""The items of a run of many: prompts and requests, what they share, and what becomes of them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, TypeAlias

from attrs import evolve

from nebula_async.charges import Charges
from nebula_async.checks import shown
from nebula_async.errors import InvalidRequestError, RateLimitError
from nebula_async.requests import DIALECTS, ImageRequest, InferenceRequest, Request, field_names, read_request
from nebula_async.results import Failure, Generation

Item: TypeAlias = str | ImageRequest | InferenceRequest
Result: TypeAlias = Generation | Failure


def refuse_one(items: object) -> None:
    """Refuse one prompt or request where many are wanted: a text is an iterable of its letters. Raises `TypeError`."""
    if isinstance(items, str | bytes | ImageRequest | InferenceRequest):
        raise TypeError("this takes an iterable of prompts or requests; for one picture use generate")


async def listed(items: Iterable[Item] | AsyncIterable[Item]) -> list[Item]:
    """Return all items. Raises `TypeError` for one that is none of many."""
    refuse_one(items)
    return [item async for item in items] if isinstance(items, AsyncIterable) else list(items)


def check_shared(parameters: Mapping[str, Any]) -> None:
    """Refuse what cannot be a parameter of every item. Raises `InvalidRequestError`."""
    allowed = frozenset().union(*map(field_names, DIALECTS.values())) - {"prompt", "id"}
    if unknown := sorted(parameters.keys() - allowed):
        known = ", ".join(sorted(allowed))
        raise InvalidRequestError(f"{', '.join(unknown)} cannot be shared by all items; what can is {known}")


def fill_in(item: object, parameters: Mapping[str, Any]) -> Request:
    """Return a prompt, or a request, with the parameters that it leaves out. Raises `InvalidRequestError`.

    A prompt becomes a request of the serverless API.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    if not isinstance(item, ImageRequest | InferenceRequest):
        return read_request({"prompt": item, **given})
    if foreign := sorted(given.keys() - field_names(type(item))):
        text = f"the {item.dialect} API has no {', '.join(foreign)}: that cannot be shared with a request to it"
        raise InvalidRequestError(text)
    return evolve(item, **{name: value for name, value in given.items() if getattr(item, name) is None})


def end_of_day(result: Result) -> RateLimitError | None:
    """Return the error that ends a run of many after this result, if the daily quota is used up."""
    error = result.error if isinstance(result, Failure) else None
    if not isinstance(error, RateLimitError) or not error.is_daily:
        return None
    return evolve(error, attempts=0, charges=Charges(), idempotency_key=None)


def likeness(item: object, parameters: Mapping[str, Any]) -> Request:
    """Return the request of an item, or the likeness of one that could not be made."""
    if isinstance(item, ImageRequest | InferenceRequest):
        return item
    try:
        return fill_in(item, parameters)
    except InvalidRequestError:
        return ImageRequest.refused(item if isinstance(item, str) else shown(item), parameters.get("model"))
