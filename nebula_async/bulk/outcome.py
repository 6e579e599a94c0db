"""What the end of a call means for its item, and for the whole job."""

from __future__ import annotations

from nebula_async.bulk.states import State
from nebula_async.engine.verdict import is_fatal
from nebula_async.errors import (
    APIStatusError,
    ConfigurationError,
    DownloadError,
    InvalidRequestError,
    JobError,
    NebulaError,
    RateLimitError,
    ServerError,
    SinkError,
    UnusableReplyError,
)
from nebula_async.results import Failure, Generation


def is_quota(error: NebulaError) -> bool:
    """Whether the day's quota is what refuses."""
    return isinstance(error, RateLimitError) and error.is_daily


def stops_job(error: NebulaError) -> bool:
    """Whether nothing else would succeed now: the key, the credit, the daily quota, the disk, URLs we may not call."""
    is_forbidden = isinstance(error, DownloadError) and error.is_forbidden
    is_ours = isinstance(error, ConfigurationError | JobError | SinkError)
    return is_quota(error) or is_forbidden or is_fatal(error) or is_ours


def state_after(error: NebulaError) -> State:
    """Return where an item stands whose call ended with an error."""
    if isinstance(error, UnusableReplyError) and error.charges.at_most:
        return State.BAD
    if _is_refusal(error):
        return State.REJECTED
    return State.UNKNOWN if error.charges.at_most else State.PENDING


def waits_again(result: Generation | Failure) -> bool:
    """Whether the item of a result waits for another run."""
    return isinstance(result, Failure) and state_after(result.error) is State.PENDING


def about_missing(missing: int, asked: int) -> str | None:
    """Return what is said of an item whose pictures did not all come."""
    return f"{missing} of {asked} pictures are missing" if missing else None


def _is_refusal(error: NebulaError) -> bool:
    """Whether the API, or this library, will have nothing to do with this very request."""
    is_about_request = isinstance(error, APIStatusError) and not isinstance(error, RateLimitError | ServerError)
    return isinstance(error, InvalidRequestError) or (is_about_request and not stops_job(error))
