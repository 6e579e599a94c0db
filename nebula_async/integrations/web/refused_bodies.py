"""What visitors are told of a body that is refused: as FastAPI tells it, but no more of it than is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse

from nebula_async.checks import shown
from nebula_async.integrations.web import http_errors

MOST_SHOWN = 200
"""Characters of a value; a picture in base64 has millions."""

MOST_ERRORS = 50
"""A body may have a field too many twenty thousand times."""

LONGEST_NUMBER = 2**64


def handle_errors(app: FastAPI) -> None:
    """Let every `NebulaError` that a route raises become an answer with the status that its cause deserves.

    Visitors get `{"detail": …, "reference": …}`: a sentence of this library's own, and nothing of what the API
    answered, of prompt, URL or key. The log (`nebula_async.integrations`) has the same reference, with what the
    operator needs: cause, charges, and the API's request id.

    429 too many requests, with `Retry-After` · 402 no credit · 422 the request, prompt or model is refused · 500 the
    key, a setting or the place for pictures is at fault · 502 the API failed, or is not reached · 504 out of time.

    A body that is refused stays the 422 that FastAPI makes of it, unless the application has a handler of its own; but
    values, and the list, are cut where they are long, and what no JSON can hold (lone surrogates, infinity) is no 500.
    """
    http_errors.handle_errors(app)
    if app.exception_handlers.get(RequestValidationError) is request_validation_exception_handler:
        app.add_exception_handler(RequestValidationError, answer_refused)


async def answer_refused(_request: Request, error: Exception) -> JSONResponse:
    """Return what a visitor gets for a body that is refused."""
    found: Any = error.errors() if isinstance(error, RequestValidationError) else []
    told = [_plain_error(each) for each in found[:MOST_ERRORS]]
    if len(found) > MOST_ERRORS:
        told.append({"type": "more", "loc": ["body"], "msg": f"{len(found) - MOST_ERRORS} more things are wrong"})
    return JSONResponse({"detail": told}, 422, {"Cache-Control": "no-store"})


def _plain_error(error: Mapping[str, Any]) -> dict[str, Any]:
    loc = [part if isinstance(part, int) else _plain(part) for part in error.get("loc", ())]
    told = {"type": error.get("type"), "loc": loc, "msg": _plain(error.get("msg", ""))}
    given = error.get("input")
    is_short = isinstance(given, str | int | float) or given is None
    return told | ({"input": _plain(given)} if is_short and "input" in error else {})


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) > LONGEST_NUMBER:
        return shown(value)
    if isinstance(value, str):
        return (value[:MOST_SHOWN] + "…" * (len(value) > MOST_SHOWN)).encode("utf-8", "replace").decode()
    return value
