"""What the API refuses reaches the user as the documented exception, with all that the API said."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from nebula_async import (
    APIStatusError,
    AsyncNebula,
    AuthenticationError,
    BadRequestError,
    Charges,
    Config,
    ContentPolicyError,
    ImageRequest,
    InferenceRequest,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    RetryPolicy,
    ServerError,
)
from nebula_async.emulator import Emulator, Fault

pytestmark = pytest.mark.asyncio  # what a reply says does not depend on the event loop

REQUESTS = {
    "serverless": ImageRequest("a cat", model="black-forest-labs/FLUX.1-schnell", width=16, height=16),
    "inference": InferenceRequest("a cat", model="sdxl", size="16x16"),
}

DOCUMENTED = {
    "invalid_prompt": BadRequestError,
    "content_policy_violation": ContentPolicyError,
    "invalid_size": BadRequestError,
    "rate_limit_exceeded": RateLimitError,
    "insufficient_quota": QuotaExhaustedError,
    "invalid_request": BadRequestError,
    "invalid_input": BadRequestError,
    "invalid_image": BadRequestError,
    "image_too_large": BadRequestError,
    "unsupported_format": BadRequestError,
    "context_length_exceeded": BadRequestError,
    "batch_size_exceeded": BadRequestError,
    "model_not_found": NotFoundError,
    "invalid_model": NotFoundError,
}
"""The codes of the inference API's page and of the pages beside it."""

BY_STATUS = {
    400: BadRequestError,
    401: AuthenticationError,
    402: QuotaExhaustedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: BadRequestError,
    429: RateLimitError,
    500: ServerError,
    503: ServerError,
}

SAID = "Something is wrong with it"

ENVELOPES = {
    "E1": ({"status": "failed", "message": SAID, "data": None}, None, None),
    "E2": ({"detail": SAID}, None, None),
    "E3": ({"detail": [{"loc": ["body", "size"], "msg": SAID, "type": "value_error"}]}, None, "body.size"),
    "E4": ({"status": "error", "error": {"code": "odd_word", "message": SAID, "details": {"a": 1}}}, "odd_word", "a"),
    "E5": ({"error": {"message": SAID, "type": "odd_word", "param": None, "code": "400"}}, "odd_word", None),
    "E6": ({"error": SAID}, None, None),
}
"""Bodies by the name of their envelope; the code that is in them, and what is in their details."""


@pytest.fixture
def start():
    """Start an emulator with these faults."""
    with ExitStack() as stack:
        yield lambda *faults, **options: stack.enter_context(Emulator(faults=faults, **options))


async def refused(emulator: Emulator, dialect: str, key: str | None = None) -> APIStatusError:
    """Return the error that one request ends with."""
    config = Config(
        base_url=emulator.base_url, inference_url=emulator.inference_url, retry=RetryPolicy(attempts=1, backoff=0)
    )
    async with AsyncNebula(key or emulator.key, config=config) as nebula:
        with pytest.raises(APIStatusError) as caught:
            await nebula.generate(REQUESTS[dialect])
    return caught.value


def saying(status: int, body: object) -> Fault:
    """Return the fault of a server that answers every request with this body, under a request id."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Fault(str(status), body=text, headers={"X-Request-Id": "r-77"}, probability=1)


@pytest.mark.parametrize("dialect", REQUESTS)
@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("code", DOCUMENTED)
async def test_a_documented_code_decides(start, code, status, dialect):
    """A documented code gives its exception on any status, with code, message, details and request id."""
    details = {"reason": "the reason"}
    body = {"status": "error", "error": {"code": code, "message": SAID, "details": details}}
    error = await refused(start(saying(status, body)), dialect)

    assert DOCUMENTED[code] is type(error)
    assert (code, status, details, "r-77") == (error.code, error.status, error.details, error.request_id)
    assert f"the API answered: {SAID} (HTTP {status}, {code})" in str(error)
    assert Charges(0, 0) == error.charges


@pytest.mark.parametrize("dialect", REQUESTS)
@pytest.mark.parametrize("status", BY_STATUS)
@pytest.mark.parametrize("name", ENVELOPES)
async def test_every_envelope_is_read(start, name, status, dialect):
    """Whatever envelope an error comes in, its message, code and details are told, and the status decides (B23)."""
    body, code, detail = ENVELOPES[name]
    error = await refused(start(saying(status, body)), dialect)

    assert BY_STATUS[status] is type(error)
    assert (code, status, "r-77") == (error.code, error.status, error.request_id)
    assert SAID in str(error)
    assert detail is None or detail in str(error) + str(error.details)


@pytest.mark.parametrize("dialect", REQUESTS)
@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b"not JSON", b'{"detail": "cut'])
@pytest.mark.parametrize("status", BY_STATUS)
async def test_what_is_no_envelope_is_told_by_its_status(start, status, body, dialect):
    """E7: HTML, plain text, nothing and half an envelope end in the status's own exception and phrase."""
    error = await refused(start(saying(status, body)), dialect)

    assert BY_STATUS[status] is type(error)
    assert (None, status, "r-77") == (error.code, error.status, error.request_id)
    assert f"(HTTP {status})" in str(error)


@pytest.mark.parametrize(
    ("request_", "kind", "code"),
    [
        (InferenceRequest("some gore", model="sdxl"), ContentPolicyError, "content_policy_violation"),
        (InferenceRequest("a cat", model="no-such"), NotFoundError, "model_not_found"),
        (InferenceRequest("a cat", model="sdxl", size="9999x9999"), BadRequestError, "invalid_size"),
    ],
)
async def test_the_emulators_own_refusals(start, request_, kind, code):
    """What the inference API refuses by itself costs nothing and names its request."""
    emulator = start()
    config = Config(inference_url=emulator.inference_url)
    async with AsyncNebula(emulator.key, config=config) as nebula:
        with pytest.raises(kind) as caught:
            await nebula.generate(request_)

    assert (code, "emulator-1", Charges(0, 0)) == (caught.value.code, caught.value.request_id, caught.value.charges)
    assert 0 == emulator.journal.charged


@pytest.mark.parametrize(("dialect", "kind"), [("serverless", NotFoundError), ("inference", AuthenticationError)])
async def test_a_key_that_is_not_known(start, dialect, kind):
    """A key that the API does not know stops everything, in the way of each dialect, and the message says so."""
    error = await refused(start(), dialect, key="sk-unknown")

    assert kind is type(error)
    assert "Check the key in NEBULA_API_KEY" in str(error)


async def test_no_credit_and_too_many_requests(start):
    """Credit and rate are one for both dialects: what one of them uses up is gone for the other."""
    poor = start(credit="0.001")
    assert [QuotaExhaustedError] * 2 == [type(await refused(poor, dialect)) for dialect in REQUESTS]
    busy = start(per_minute=1, retry_after="seconds")
    config = Config(base_url=busy.base_url, inference_url=busy.inference_url)
    async with AsyncNebula(busy.key, config=config) as nebula:
        await nebula.generate(REQUESTS["serverless"])
    error = await refused(busy, "inference")
    assert (RateLimitError, "rate_limit_exceeded", True) == (type(error), error.code, error.retryable)
    assert 0 < error.retry_after <= 60
