"""A request body as it comes off the wire, before anything in it is believed."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from starlette.requests import Request

from nebula_async.emulator.journal import summarise
from nebula_async.emulator.refusals import Refusal
from nebula_async.emulator.validation import read_fields

LARGEST_BODY_BYTES = 64 * 1024 * 1024
UPLOAD_SECONDS = 60.0
# Larger bodies are parsed in a thread: they carry pictures and would hold up everyone else.
PROMPT_BODY_BYTES = 64 * 1024

Facts = Callable[[Mapping[str, Any]], Mapping[str, object]]


@attrs.frozen
class Submission:
    """What a client sent: its fields and what the journal keeps of them, or why there are none."""

    fields: Mapping[str, Any] = attrs.field(factory=dict)
    facts: Mapping[str, object] = attrs.field(factory=dict)
    problem: Refusal | None = None
    is_large: bool = False


async def read_submission(request: Request, facts: Facts) -> Submission:
    """Read a request body within its bounds of size and time; its refusal is kept for when it is its turn."""
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            body = await _read_body(request)
    except TimeoutError:
        return Submission(problem=Refusal(408, "The request body did not arrive in time"))
    if body is None:
        return Submission(problem=Refusal(413, "The request body is too large"))
    if len(body) <= PROMPT_BODY_BYTES:
        return _parse(body, facts)
    return await asyncio.to_thread(_parse, body, facts)


async def _read_body(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY_BYTES:
            return None
    return bytes(body)


def _parse(body: bytes, facts: Facts) -> Submission:
    try:
        fields = read_fields(body)
    except Refusal as refusal:
        return Submission(problem=refusal)
    kept = summarise(fields)
    prompt = kept.get("prompt")
    known = {"prompt": prompt if isinstance(prompt, str) else None, **facts(kept), "fields": kept}
    return Submission(fields, known, is_large=len(body) > PROMPT_BODY_BYTES)
