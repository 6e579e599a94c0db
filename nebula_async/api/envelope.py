"""Any error body to the right exception: the body's code first, the status second; reading never fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from attrs import frozen

from nebula_async.api.extract import flat_enough, parse_json
from nebula_async.api.headers import read_delay, read_request_id
from nebula_async.api.messages import Reply
from nebula_async.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
)

MAX_BODY = 64 * 1024
MAX_MESSAGE = 250
MAX_READ = 4_096
"""More of a text is not looked at to find its first characters."""

CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")

BY_CODE: Mapping[str, type[APIStatusError]] = {
    "invalid_prompt": BadRequestError,
    "invalid_size": BadRequestError,
    "invalid_request": BadRequestError,
    "invalid_input": BadRequestError,
    "invalid_image": BadRequestError,
    "content_policy_violation": ContentPolicyError,
    "model_not_found": NotFoundError,
    "invalid_model": NotFoundError,
    "rate_limit_exceeded": RateLimitError,
    "insufficient_quota": QuotaExhaustedError,
    "invalid_api_key": AuthenticationError,
    "token_not_found_in_db": AuthenticationError,
    "unauthorized": AuthenticationError,
    "image_too_large": BadRequestError,
    "unsupported_format": BadRequestError,
    "context_length_exceeded": BadRequestError,
    "batch_size_exceeded": BadRequestError,
}
"""Documented codes, and three undocumented ones for a refused key: they decide on any status."""

BY_STATUS: Mapping[int, type[APIStatusError]] = {
    401: AuthenticationError,
    402: QuotaExhaustedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: APIStatusError,
    425: APIStatusError,
    429: RateLimitError,
}


@frozen(kw_only=True)
class ErrorBody:
    """What an error body says, whichever of the known envelopes it has."""

    message: str | None = None
    code: str | None = None
    details: Any = None
    is_envelope: bool = False


def read_error(reply: Reply, *, now: float) -> APIStatusError:
    """Return the exception for an error reply; `now` is the wall clock in seconds, for dates in headers."""
    return error_of(read_body(reply.body), reply, now=now)


def error_of(body: ErrorBody, reply: Reply, *, now: float) -> APIStatusError:
    """Return the exception for a reply whose body says this."""
    kind = kind_of(body.code, reply.status)
    delay = read_delay(reply.headers, now=now)
    return kind(
        _fact(reply.status, body),
        request_id=read_request_id(reply.headers),
        details=body.details,
        status=reply.status,
        code=body.code,
        retry_after=delay.seconds if delay else None,
    )


def kind_of(code: str | None, status: int) -> type[APIStatusError]:
    """Return the class of error: by a documented code on any status, else by the status.

    Other `invalid_…` codes are bad requests, unless the status has a meaning of its own: proxies write
    `invalid_request_error` on a refused key too.
    """
    if by_code := BY_CODE.get(code or ""):
        return by_code
    if status in BY_STATUS:
        return BY_STATUS[status]
    return ServerError if status >= 500 and not is_known(code) else BadRequestError


def is_known(code: str | None) -> bool:
    """Whether a code says what went wrong."""
    return code is not None and (code in BY_CODE or code.startswith("invalid_"))


def is_error(parsed: object) -> bool:
    """Whether the JSON of a reply says that the request failed, whatever its status."""
    if not isinstance(parsed, Mapping):
        return False
    return parsed.get("status") in ("failed", "error") or bool(parsed.get("error"))


def read_body(body: bytes) -> ErrorBody:
    """Read any of the known envelopes; anything else is an `ErrorBody` that knows nothing."""
    try:
        return read_envelope(parse_json(body[:MAX_BODY]))
    except ValueError:
        return ErrorBody()


def read_envelope(parsed: object) -> ErrorBody:
    """Read any of the known envelopes from the JSON of a body."""
    if not isinstance(parsed, Mapping):
        return ErrorBody()
    error = parsed.get("error")
    inner = error if isinstance(error, Mapping) else {}
    detail = parsed.get("detail")
    texts = (inner.get("message"), error, parsed.get("message"), detail, _joined(detail))
    return ErrorBody(
        message=next((line for text in texts if isinstance(text, str) and (line := _one_line(text))), None),
        code=_code(inner),
        details=flat_enough(inner.get("details", None if isinstance(detail, str) else detail)),
        is_envelope=any(name in parsed for name in ("error", "status", "detail")),
    )


def _code(error: Mapping[str, Any]) -> str | None:
    """Return the word of the error: proxies put the status into `code`, and the word into `type`."""
    words = (word for word in (error.get("code"), error.get("type")) if isinstance(word, str))
    return next((word for word in words if CODE.fullmatch(word) and not word.isdigit()), None)


def _joined(detail: object) -> str | None:
    """Return a list of validation errors as one sentence."""
    if not isinstance(detail, list):
        return None
    return "; ".join(filter(None, (_located(entry) for entry in detail[:10] if isinstance(entry, Mapping))))


def _located(entry: Mapping[str, Any]) -> str:
    place, text = entry.get("loc"), entry.get("msg")
    parts = place if isinstance(place, list) else [place]
    path = ".".join(str(part) for part in parts if isinstance(part, str | int))
    return ": ".join(part for part in (path, text) if isinstance(part, str) and part)


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text[:MAX_READ]).split())


def _fact(status: int, body: ErrorBody) -> str:
    said = body.message or _phrase(status)
    short = said if len(said) <= MAX_MESSAGE else f"{said[:MAX_MESSAGE]}…"
    code = f", {body.code}" if body.code else ""
    return f"the API answered: {short} (HTTP {status}{code})"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "a status that HTTP does not know"
