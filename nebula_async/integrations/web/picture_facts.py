"""What is told of pictures in JSON: plain facts, and where a picture is; its bytes only where they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pybase64

from nebula_async.images.image import Image
from nebula_async.integrations.web.http_errors import answer_to, describe_error
from nebula_async.results import Failure, Generation

Place: TypeAlias = Callable[[Image], str | None]
"""What tells visitors where a picture is: of the image, with its `stored`, to a URL of the application's own."""


def describe_result(
    result: Generation | Failure, reference: str, *, place: Place | None, with_data: bool
) -> dict[str, Any]:
    """Return what is told of one result of many: its index and id, its state, and its pictures or why there are none.

    Of a failure that is the sentence for visitors, and the reference under which the log has more.
    """
    facts: dict[str, Any] = {"index": result.index, "id": result.request.id, "charges": str(_charges(result))}
    if isinstance(result, Failure):
        error = {"status": answer_to(result.error).status, **describe_error(result.error, reference)}
        return {**facts, "state": "failed", "error": error}
    return {**facts, "state": "done", **describe_generation(result, place=place, with_data=with_data)}


def describe_generation(generation: Generation, *, place: Place | None, with_data: bool) -> dict[str, Any]:
    """Return what is told of a generation: seed, cost in USD, and its pictures."""
    return {
        "seed": generation.request.seed,
        "cost": None if generation.cost is None else f"{generation.cost:f}",
        "images": [_describe(image, place=place, with_data=with_data) for image in generation.images],
    }


def data_url(image: Image) -> str:
    """Return a picture as a URL that holds it. Raises `ValueError` for one that is not in memory."""
    return f"data:{image.media_type};base64,{pybase64.b64encode_as_string(image.content)}"


def _describe(image: Image, *, place: Place | None, with_data: bool) -> dict[str, Any]:
    facts = {"media_type": image.media_type, "width": image.width, "height": image.height}
    where = None if place is None else place(image)
    return facts | ({} if where is None else {"url": where}) | ({"data": data_url(image)} if with_data else {})


def _charges(result: Generation | Failure) -> object:
    return result.error.charges if isinstance(result, Failure) else result.charges
