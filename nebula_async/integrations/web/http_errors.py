"""What visitors of an application are told when a picture cannot be made, and what its operator is told of it."""

from __future__ import annotations

import logging
import math
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from attrs import frozen
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from nebula_async.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ContentPolicyError,
    DeadlineError,
    DownloadError,
    InvalidRequestError,
    JobError,
    NebulaError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
    SinkError,
    UnusableReplyError,
    cause_of,
)
from nebula_async.requests import ImageRequest, InferenceRequest, field_names

logger = logging.getLogger(__name__)

SECONDS_A_DAY = 86_400

FAILED = 1011
"""The code with which a WebSocket is closed when its server has failed."""

QUIET = 422
"""Visitors mistype all day."""

FIELDS = field_names(ImageRequest) | field_names(InferenceRequest)


@frozen
class Answer:
    """The status that an error becomes, and the sentence that a visitor reads: nothing of the error itself is in it."""

    status: int
    detail: str


OURS = Answer(500, "pictures cannot be made here at the moment: the operator has to look at it")
UPSTREAM = Answer(502, "the picture could not be made: the service that makes pictures failed")

ANSWERS: Mapping[type[NebulaError], Answer] = {
    InvalidRequestError: Answer(422, "no picture can be made of this request: change a parameter"),
    BadRequestError: Answer(422, "no picture can be made of this request: change the prompt or a parameter"),
    ContentPolicyError: Answer(422, "no picture is made of this prompt: it is against the content policy"),
    NotFoundError: Answer(422, "no picture can be made of this request: its model is not known"),
    RateLimitError: Answer(429, "too many pictures are asked for at the moment: try again later"),
    QuotaExhaustedError: Answer(402, "no more pictures can be paid for: the operator has to add credit"),
    BudgetExceededError: Answer(402, "no more pictures can be paid for: the operator's budget is used up"),
    AuthenticationError: OURS,
    PermissionDeniedError: OURS,
    ConfigurationError: OURS,
    SinkError: Answer(500, "the picture was made and could not be stored: the operator has to look at it"),
    JobError: OURS,
    DeadlineError: Answer(504, "the picture was not made in time: try again later"),
    NotSentError: Answer(502, "the picture could not be made: the service that makes pictures is not reached"),
    OutcomeUnknownError: UPSTREAM,
    UnusableReplyError: UPSTREAM,
    DownloadError: UPSTREAM,
    ServerError: UPSTREAM,
    APIStatusError: UPSTREAM,
    NebulaError: OURS,
}
"""A refused key, or a setting, is the operator's fault and never a 401: a visitor cannot mend it.

The day's limit is a 429 too. A 503 would say the same, and lets balancers take a sound process out of service, with all
that it serves beside pictures; `Retry-After` says that it lasts until 00:00 UTC.
"""

ABOUT_REQUESTS = (0, 400, 422)
"""Statuses that blame the request where no code says more; 0 is none."""

DAY_IS_OVER = "no more pictures are made today: try again after 00:00 UTC"

TELLING_CLASSES = (ConfigurationError, JobError, NotSentError, SinkError)
"""Errors whose messages are this library's own, of settings, disks and networks, and are logged. Those of others may
hold a prompt, or what the API answered.
"""


USERINFO = re.compile(r"//[^/\s@]*@")
"""What a transport of the application's own may say of its proxy."""


class HasHandlers(Protocol):
    """An application of Starlette, or of FastAPI."""

    def add_exception_handler(self, exc_class_or_status_code: Any, handler: Any) -> None:
        """Let exceptions of this class be answered by this handler."""


def handle_errors(app: HasHandlers) -> None:
    """Let every `NebulaError` that a route raises become an answer with the status that its cause deserves.

    Visitors get `{"detail": …, "reference": …}`: a sentence of this library's own, and nothing of what the API
    answered, of prompt, URL or key. The log (`nebula_async.integrations`) has the same reference, with what the
    operator needs: cause, charges, and the API's request id.

    429 too many requests, with `Retry-After` · 402 no credit · 422 the request, prompt or model is refused · 500 the
    key, a setting or the place for pictures is at fault · 502 the API failed, or is not reached · 504 out of time.
    """
    app.add_exception_handler(NebulaError, answer_error)


async def answer_error(connection: HTTPConnection, error: NebulaError) -> Response | None:
    """Return what a visitor gets for an error, and log it: the exception handler of `handle_errors`.

    A WebSocket is closed, with code 1011 and the reference.
    """
    scope = connection.scope
    reference = log_error(error, f"{scope.get('method', 'WebSocket')} {scope.get('path', '')!r}")
    if isinstance(connection, WebSocket):
        with suppress(RuntimeError):  # it is closed already
            await connection.close(FAILED, reference)
        return None
    headers = {"Cache-Control": "no-store", **_retry_after(error)}
    return JSONResponse(describe_error(error, reference), answer_to(error).status, headers)


def answer_to(error: NebulaError) -> Answer:
    """Return the status of an error and what is said of it: those of its class, or of the nearest above it."""
    if isinstance(error, RateLimitError) and error.is_daily:
        return Answer(429, DAY_IS_OVER)
    if isinstance(error, NotFoundError) and not (error.code and "model" in error.code):
        return OURS  # it is the key, or the URL, that is not known
    if isinstance(error, BadRequestError) and not error.code and error.status not in ABOUT_REQUESTS:
        return OURS  # it was no API that answered, or not to what it was asked: the URL is wrong, or a proxy between
    if isinstance(error, InvalidRequestError) and (name := _field_of(error)):
        return Answer(422, f"no picture can be made of this request: change its {name}")
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)


def describe_error(error: NebulaError, reference: str) -> dict[str, Any]:
    """Return the body of the answer to an error; `scope` is "day" where nothing will be made before tomorrow."""
    body: dict[str, Any] = {"detail": answer_to(error).detail, "reference": reference}
    return body | ({"scope": error.scope} if isinstance(error, RateLimitError) and error.is_daily else {})


def log_error(error: NebulaError, where: str) -> str:
    """Log an error for the operator, and return the reference that its visitor is told."""
    reference, answer = new_reference(), answer_to(error)
    facts = {
        "reference": reference,
        "status": answer.status,
        "cause": cause_of(error),
        "call": error.idempotency_key,
        "request_id": error.request_id,
        "attempts": error.attempts,
        "charges": str(error.charges),
    }
    told = f": {USERINFO.sub('//***@', error.message)}" if isinstance(error, TELLING_CLASSES) else ""
    text = " ".join(f"{name}={value!r}" for name, value in facts.items() if value is not None)
    logger.log(_level(error, answer.status), "%s failed: %s%s", where, text, told, extra={"nebula": facts})
    return reference


def new_reference() -> str:
    """Return what tells one answer from all others, and nothing else."""
    return secrets.token_hex(6)


def _level(error: NebulaError, status: int) -> int:
    if isinstance(error, RateLimitError):
        return logging.WARNING if error.is_daily else logging.INFO
    return logging.DEBUG if status == QUIET else logging.ERROR


def _retry_after(error: NebulaError) -> dict[str, str]:
    seconds = error.retry_after if isinstance(error, APIStatusError) else None
    if not isinstance(error, RateLimitError):
        return {} if seconds is None or not error.retryable else _whole(seconds)
    if seconds is None and error.is_daily:
        seconds = SECONDS_A_DAY - time.time() % SECONDS_A_DAY
    return _whole(1.0 if seconds is None else seconds)


def _whole(seconds: float) -> dict[str, str]:
    """Return the header, in whole seconds, rounded up: who comes a moment too early is refused once more."""
    bounded = min(max(seconds, 1.0), float(SECONDS_A_DAY)) if math.isfinite(seconds) else 1.0
    return {"Retry-After": str(math.ceil(bounded))}


def _field_of(error: InvalidRequestError) -> str | None:
    """Return the field that a message begins with: a name of ours, and nothing of what was given."""
    name = error.message.partition(" ")[0]
    return name if name in FIELDS else None
