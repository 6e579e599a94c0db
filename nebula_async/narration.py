"""What observers are told of a call's beginning and end."""

from __future__ import annotations

import re

from nebula_async.config import Config
from nebula_async.errors import APIStatusError, NebulaError
from nebula_async.events import Asked, Failed, Generated
from nebula_async.requests import InferenceRequest, Request
from nebula_async.results import Generation
from nebula_async.urls import server_of

WORD = re.compile(r"[A-Za-z0-9_.:/@+=-]{1,200}")
"""What a server names by itself, a model or an id, is told only where it cannot be a sentence: it may be the prompt."""


def asked(key: str, request: Request, config: Config, per_minute: float | None, concurrency: int) -> Asked:
    """Return what is told when a call begins, before anything of it is checked."""
    is_inference = isinstance(request, InferenceRequest)
    address, port = server_of(config.inference_url if is_inference else config.base_url)
    width, height = _size(request)
    return Asked(
        call=key,
        model=request.model,
        dialect=request.dialect,
        pictures=request.pictures,
        width=width,
        height=height,
        seed=request.seed,
        address=address,
        port=port,
        per_minute=per_minute,
        concurrency=concurrency,
    )


def generated(generation: Generation, seconds: float) -> Generated:
    """Return what is told of a call that was answered with pictures."""
    return Generated(
        call=generation.idempotency_key or "",
        model=generation.request.model,
        pictures=len(generation.images),
        attempts=generation.attempts,
        charges=generation.charges,
        seconds=seconds,
        served_model=_word(generation.model),
        request_id=_word(generation.request_id),
    )


def failed(key: str, request: Request, error: NebulaError, seconds: float) -> Failed:
    """Return what is told of a call that ended without a picture."""
    status, code = (error.status, error.code) if isinstance(error, APIStatusError) else (None, None)
    return Failed(
        call=key,
        model=request.model,
        error=type(error).__name__,
        attempts=error.attempts,
        charges=error.charges,
        seconds=seconds,
        status=status,
        code=_word(code),
        request_id=_word(error.request_id),
    )


def _word(said: str | None) -> str | None:
    return said if said is not None and WORD.fullmatch(said) else None


def _size(request: Request) -> tuple[int | None, int | None]:
    if not isinstance(request, InferenceRequest):
        return request.width, request.height
    if request.size is None:
        return None, None
    width, _, height = request.size.partition("x")
    return int(width), int(height)
