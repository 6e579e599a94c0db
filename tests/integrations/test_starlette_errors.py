"""What visitors are told of errors, and what their operator is."""

from __future__ import annotations

import logging
import math

import pytest
from asgi import started
from starlette.applications import Starlette
from starlette.routing import Route

from nebula_async import errors
from nebula_async.charges import Charges
from nebula_async.errors import NebulaError
from nebula_async.integrations.starlette import handle_errors
from nebula_async.integrations.web.http_errors import ANSWERS, TELLING_CLASSES, answer_to

pytestmark = pytest.mark.anyio

CANARY = "canary-5f1d"

STATUSES = {
    "APIStatusError": 502,
    "AuthenticationError": 500,
    "BadRequestError": 422,
    "BudgetExceededError": 402,
    "ConfigurationError": 500,
    "ContentPolicyError": 422,
    "DeadlineError": 504,
    "DownloadError": 502,
    "InvalidRequestError": 422,
    "JobError": 500,
    "NebulaError": 500,
    "NotFoundError": 500,
    "NotSentError": 502,
    "OutcomeUnknownError": 502,
    "PermissionDeniedError": 500,
    "QuotaExhaustedError": 402,
    "RateLimitError": 429,
    "ServerError": 502,
    "SinkError": 500,
    "UnusableReplyError": 502,
}
KINDS = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, NebulaError) and kind.__module__ == errors.__name__
    ),
    key=lambda kind: kind.__name__,
)


def failing(error: Exception) -> Starlette:
    """Return an application whose only route raises this."""

    async def route(_request):
        raise error

    app = Starlette(routes=[Route("/", route)])
    handle_errors(app)
    return app


async def answer_of(error: Exception):
    """Return the answer that a visitor gets for an error."""
    async with started(failing(error)) as application:
        return await application.get("/")


def test_every_error_has_a_status():
    """No error of this library is left to be a 500 without a word."""
    assert set(STATUSES) == {kind.__name__ for kind in KINDS}
    assert set(KINDS) == set(ANSWERS)


@pytest.mark.logs_secrets  # the log of the application tells what visitors are not told
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_visitors_learn_nothing_of_what_went_on_behind(kind, caplog):
    """Whatever an error holds, its answer has the status of its class, a sentence of ours and a reference, and the log
    has the same reference, but neither the prompt nor what the API said.
    """
    caplog.set_level(logging.DEBUG, "nebula_async")
    error = kind(
        f"{CANARY} sk-{CANARY} https://{CANARY}.example/a?sig={CANARY}",
        attempts=2,
        charges=Charges(0, 2),
        request_id="their-17",
        idempotency_key="0123456789abcdef",
        details={"error": CANARY, "prompt": CANARY},
    )
    error.__cause__ = ValueError(CANARY)
    answer = await answer_of(error)
    assert STATUSES[kind.__name__] == answer.status
    assert {"detail", "reference"} == set(answer.json)
    assert CANARY not in f"{answer.headers}{answer.body!r}"
    assert "no-store" == answer.headers["cache-control"]
    (record,) = [record for record in caplog.records if answer.json["reference"] in record.getMessage()]
    assert "charges='0-2'" in record.getMessage()
    assert "their-17" in record.getMessage()
    assert issubclass(kind, TELLING_CLASSES) == (CANARY in record.getMessage())
    assert record.exc_info is None


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.BadRequestError("", status=400), 422, {None}),
        (errors.BadRequestError("", status=413, code="image_too_large"), 422, {None}),
        (errors.BadRequestError("", status=405), 500, {None}),
        (errors.BadRequestError("", status=302), 500, {None}),
        (errors.RateLimitError("", retry_after=6.2), 429, {"7"}),
        (errors.RateLimitError("", retry_after=0.0), 429, {"1"}),
        (errors.RateLimitError("", retry_after=math.inf), 429, {"1"}),
        (errors.RateLimitError(""), 429, {"1"}),
        (errors.RateLimitError("", retry_after=7_200.4, scope="day"), 429, {"7201"}),
        (errors.RateLimitError("", retry_after=10.0**9), 429, {"86400"}),
        (errors.ServerError("", retryable=True, status=503, retry_after=2.5), 502, {"3"}),
        (errors.ServerError("", status=503), 502, {None}),
        (errors.NotFoundError("", code="model_not_found"), 422, {None}),
        (errors.NotFoundError(""), 500, {None}),
    ],
    ids=repr,
)
async def test_visitors_are_told_when_to_come_again(error, status, retry_after):
    """`Retry-After` is in whole seconds, rounded up, never 0 and never more than a day."""
    answer = await answer_of(error)
    assert status == answer.status
    assert answer.headers.get("retry-after") in retry_after


async def test_the_end_of_the_day_says_so():
    """The day's limit is told apart from the minute's, and lasts until 00:00 UTC."""
    answer = await answer_of(errors.RateLimitError("", scope="day"))
    assert (429, "day") == (answer.status, answer.json["scope"])
    assert "00:00 UTC" in answer.json["detail"]
    assert 1 <= int(answer.headers["retry-after"]) <= 86_400


async def test_what_a_proxy_is_entered_with_is_not_logged(caplog):
    """Where a transport names its proxy with user and password, the log names it without."""
    await answer_of(errors.NotSentError(f"no way through http://me:{CANARY}@proxy.example:3128/"))
    assert "http://***@proxy.example:3128/" in caplog.text
    assert CANARY not in caplog.text


async def test_the_field_that_is_wrong_is_named():
    """A request that is refused before it is sent names its field, and nothing of what was given."""
    answer = await answer_of(errors.InvalidRequestError(f"width must be a whole number from 16 to 8192; got {CANARY}"))
    assert "no picture can be made of this request: change its width" == answer.json["detail"]


def test_an_error_of_a_class_of_ones_own_has_the_status_of_its_parent():
    """Subclasses need no row in the table."""

    class Late(errors.DeadlineError):
        """A deadline of the application's own."""

    assert 504 == answer_to(Late("")).status


async def test_other_errors_are_not_touched():
    """What is no error of this library's stays the application's own affair."""
    with pytest.raises(KeyError):
        await answer_of(KeyError("mine"))


async def test_visitors_who_mistype_do_not_fill_the_log(caplog):
    """A 422 is logged at DEBUG, a 429 at INFO, and what the operator has to look at as an error."""
    caplog.set_level(logging.DEBUG, "nebula_async")
    for error in (errors.ContentPolicyError(""), errors.RateLimitError(""), errors.QuotaExhaustedError("")):
        await answer_of(error)
    assert [logging.DEBUG, logging.INFO, logging.ERROR] == [record.levelno for record in caplog.records]
