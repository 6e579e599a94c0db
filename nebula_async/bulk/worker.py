"""One item's call, and what its outcome means for the item and for the job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
from attrs import define, field

from nebula_async.bulk.ledger import State
from nebula_async.charges import Charges
from nebula_async.config import Config
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
    UnusableReplyError,
)
from nebula_async.requests import Request


@define(eq=False)
class ItemCall:
    """The call for one item, as the journal of its attempts: the ledger knows of each before it leaves.

    It is for so many `pictures`. `begin` notes that the item is about to be sent and returns the name for its picture;
    `put_back` notes that it waits again. `is_ending` says whether anything may still be sent.
    """

    pictures: int
    begin: Callable[[], Awaitable[str]]
    put_back: Callable[[], Awaitable[None]]
    is_ending: Callable[[], bool]
    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    name: str | None = None
    is_at_stake: bool = False

    async def sending(self) -> None:
        """Note it, unless what an earlier attempt may have cost is noted; give the call up where the job ends."""
        if self.is_at_stake:
            return
        if self.is_ending():
            self.scope.cancel()
            await anyio.lowlevel.checkpoint()
        self.is_at_stake = True
        self.name = await self.begin()

    async def ended(self, charges: Charges) -> None:
        """Note that the item waits again, if nothing can have been charged; give the call up where the job ends."""
        if charges.at_most == 0:
            await self.put_back()
            self.is_at_stake = False
            if self.is_ending():
                self.scope.cancel()

    def give_up(self) -> None:
        """End the call, unless it may have been paid for."""
        if not self.is_at_stake:
            self.scope.cancel()


def stops_job(error: NebulaError) -> bool:
    """Whether nothing else would succeed now: the key, the credit, the daily quota, the disk, URLs we may not call."""
    is_quota = isinstance(error, RateLimitError) and error.is_daily
    is_forbidden = isinstance(error, DownloadError) and error.is_forbidden
    return is_quota or is_forbidden or is_fatal(error) or isinstance(error, ConfigurationError | JobError)


def state_after(error: NebulaError) -> State:
    """Return where an item stands whose call ended with an error."""
    if isinstance(error, UnusableReplyError | DownloadError | JobError) and error.charges.at_most:
        return State.BAD
    if _is_refusal(error):
        return State.REJECTED
    return State.UNKNOWN if error.charges.at_most else State.PENDING


def at_stake(request: Request, config: Config) -> int:
    """Return how many pictures a call may be charged at most."""
    calls = 1 if config.idempotency == "replay" else min(1 + config.retry.resend_unknown, config.retry.attempts)
    return calls * request.pictures


def _is_refusal(error: NebulaError) -> bool:
    """Whether the API, or this library, will have nothing to do with this very request."""
    is_about_request = isinstance(error, APIStatusError) and not isinstance(error, RateLimitError | ServerError)
    return isinstance(error, InvalidRequestError) or (is_about_request and not stops_job(error))
