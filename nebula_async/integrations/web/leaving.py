"""What becomes of a picture whose visitor has left: the policies, and the refusals that go with them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

from attrs import field, frozen
from starlette.exceptions import HTTPException

from nebula_async.charges import Charges
from nebula_async.checks import shown
from nebula_async.errors import ConfigurationError
from nebula_async.requests import Request
from nebula_async.results import Generation
from nebula_async.sinks.sink import Sink, check_sink

LEFT, UNAVAILABLE = 499, 503


@frozen(kw_only=True)
class Departed:
    """A call that went on after its visitor had left, and how it ended.

    `stored` says where its pictures are, as the sink told; `charges` what they may have cost; `error` why there are
    none, or why the sink did not keep them. `request.id` is what the visitor named it, `reference` what the log does.
    """

    reference: str
    request: Request
    generation: Generation | None = None
    stored: tuple[str, ...] = ()
    charges: Charges = field(factory=Charges)
    error: BaseException | None = None


Teller: TypeAlias = Callable[[Departed], Awaitable[None] | None]


def _check_most(_policy: object, _attribute: object, most: Any) -> None:
    if type(most) is not int or most < 0:
        raise ConfigurationError(f"most must be a whole number, 0 or more; got {shown(most)}")


def _check_place(_policy: object, _attribute: object, sink: Any) -> None:
    if sink is None:
        raise ConfigurationError("Finish needs a sink, such as DirectorySink('finished'); got None")
    check_sink(sink)


def _check_told(_policy: object, _attribute: object, told: Any) -> None:
    if not (told is None or callable(told)):
        raise ConfigurationError(f"told must be a function that takes a Departed; got {shown(told)}")


@frozen
class Finish:
    """A policy: a call whose visitor leaves goes on, because it is paid for, and its pictures are stored into `sink`.

    Their key is `finished_key` of the request's `id`, or else has the reference of the log. At most `most` calls go on
    at a time without their visitors; one more is cancelled. `told` is called with the `Departed` when one has ended: it
    may write down where the pictures are, so that a visitor who comes back finds them. What it raises is logged; it is
    cancelled when it takes more than 10 seconds, or 1 once the application's grace is over.
    """

    sink: Sink = field(validator=_check_place)
    most: int = field(default=64, validator=_check_most)
    told: Teller | None = field(default=None, validator=_check_told)


Policy: TypeAlias = Literal["cancel", "ignore"] | Finish
"""What becomes of the call of a visitor who leaves: it is cancelled, it goes on as if nobody had left, or it is
finished into a sink.
"""


class ClientLeft(HTTPException):
    """The visitor has left: there is nobody to answer. No route need catch it; status 499 stands in logs alone."""

    def __init__(self, detail: str = "the client has left") -> None:
        super().__init__(LEFT, detail)


class ShuttingDown(HTTPException):
    """The application ends, and takes no new calls: status 503, with `Retry-After`."""

    def __init__(self, retry_after: float = 1.0) -> None:
        headers = {"Retry-After": str(max(math.ceil(retry_after), 1)), "Cache-Control": "no-store"}
        super().__init__(UNAVAILABLE, "the application is shutting down: try again in a moment", headers)


def check_policy(policy: object) -> None:
    """Refuse what is no policy. Raises `ConfigurationError`."""
    if policy not in ("cancel", "ignore") and not isinstance(policy, Finish):
        raise ConfigurationError(f"when_left must be 'cancel', 'ignore' or Finish(sink); got {shown(policy)}")
