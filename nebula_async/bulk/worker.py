"""One item through the client, and what its outcome means for it and for the job."""

from __future__ import annotations

from attrs import evolve

from nebula_async.api.serverless import pictures_asked
from nebula_async.bulk.ledger import State
from nebula_async.bulk.manifest import Item
from nebula_async.client import AsyncNebula, Result
from nebula_async.config import Config
from nebula_async.engine.verdict import is_fatal
from nebula_async.errors import (
    APIStatusError,
    ConfigurationError,
    InvalidRequestError,
    JobError,
    NebulaError,
    RateLimitError,
    ServerError,
    UnusableReplyError,
)
from nebula_async.requests import ImageRequest
from nebula_async.results import Failure


async def generate_item(nebula: AsyncNebula, item: Item) -> Result:
    """Generate the pictures of an item, waiting for the rate limit as long as it takes; its number is the index."""
    try:
        async with nebula.generate_many((item.request,), concurrency=1) as results:
            result = await anext(results)
    except RateLimitError as error:  # the daily quota
        return Failure(request=item.request, error=error, index=item.number)
    return evolve(result, index=item.number)


def stops_job(error: NebulaError) -> bool:
    """Whether nothing else would succeed now: the key, the credit, the daily quota, the disk."""
    is_quota = isinstance(error, RateLimitError) and error.scope == "day"
    return is_quota or is_fatal(error) or isinstance(error, ConfigurationError | JobError)


def state_after(error: NebulaError) -> State:
    """Return where an item stands whose call ended with an error."""
    if isinstance(error, UnusableReplyError | JobError):
        return State.BAD
    if _is_refusal(error):
        return State.REJECTED
    return State.UNKNOWN if error.charges.at_most else State.PENDING


def at_stake(request: ImageRequest, config: Config) -> int:
    """Return how many pictures a call may be charged at most."""
    calls = 1 if config.idempotency == "replay" else min(1 + config.retry.resend_unknown, config.retry.attempts)
    return calls * pictures_asked(request)


def _is_refusal(error: NebulaError) -> bool:
    """Whether the API, or this library, will have nothing to do with this very request."""
    is_about_request = isinstance(error, APIStatusError) and not isinstance(error, RateLimitError | ServerError)
    return isinstance(error, InvalidRequestError) or (is_about_request and not stops_job(error))
