"""What happened, as frozen values, and who is told. No event holds a key, a prompt, a URL or picture bytes."""

from __future__ import annotations

import logging
from typing import Protocol, TypeAlias

from attrs import asdict, frozen

from nebula_async.charges import Charges

logger = logging.getLogger("nebula_async")
logger.addHandler(logging.NullHandler())


@frozen(kw_only=True)
class Sent:
    """An attempt was admitted and is about to be sent; `call` is the call's idempotency key."""

    call: str
    attempt: int


@frozen(kw_only=True)
class Retrying:
    """An attempt failed and will be repeated in `delay_seconds`; `reason` is what the verdict said."""

    call: str
    attempt: int
    reason: str
    delay_seconds: float


@frozen(kw_only=True)
class Held:
    """The API refused a request as one too many: everyone waits for `seconds`."""

    call: str
    seconds: float


@frozen(kw_only=True)
class Resumed:
    """The first attempt since a refusal leaves, `seconds` after everyone began to wait."""

    call: str
    seconds: float


@frozen(kw_only=True)
class QuotaReached:
    """The day's quota is used up: a job waits for 00:00 UTC, `seconds` away as it seems."""

    seconds: float


@frozen(kw_only=True)
class LimitChanged:
    """The limit that is believed in, in requests a minute, has changed by a tenth or more since it was last told."""

    per_minute: float


@frozen(kw_only=True)
class OutageBegan:
    """Nobody is answered any more, so a job sends single probes; `reason` is why the last attempt failed."""

    call: str
    reason: str


@frozen(kw_only=True)
class OutageEnded:
    """The probes of a job were answered: it goes on."""

    call: str


@frozen(kw_only=True)
class Abandoned:
    """A call was cancelled; `charges` says what its attempts may have cost."""

    call: str
    attempts: int
    charges: Charges


@frozen(kw_only=True)
class ParameterIgnored:
    """A parameter will not be honoured as it stands, or the model is not in the catalogue."""

    model: str
    problem: str


@frozen(kw_only=True)
class SharingLost:
    """The processes of this host cannot share the account's limit any more, because of `reason`.

    Each goes on with less than its part of the rate; a new one waits if `is_waiting`.
    """

    reason: str
    is_waiting: bool


@frozen(kw_only=True)
class SharingRegained:
    """The processes of this host share the account's limit again."""


@frozen(kw_only=True)
class Generated:
    """A request was answered with pictures."""

    call: str
    model: str
    pictures: int
    attempts: int
    charges: Charges
    seconds: float


@frozen(kw_only=True)
class Failed:
    """A request ended without a picture; `error` is the name of the exception's class."""

    call: str | None
    model: str
    error: str
    attempts: int
    charges: Charges
    seconds: float


Event: TypeAlias = (
    Sent
    | Retrying
    | Held
    | Resumed
    | QuotaReached
    | LimitChanged
    | OutageBegan
    | OutageEnded
    | Abandoned
    | ParameterIgnored
    | SharingLost
    | SharingRegained
    | Generated
    | Failed
)

LEVELS: dict[type[Event], int] = {
    ParameterIgnored: logging.WARNING,
    OutageBegan: logging.WARNING,
    OutageEnded: logging.WARNING,
    SharingLost: logging.WARNING,
    SharingRegained: logging.WARNING,
    Held: logging.INFO,
    Resumed: logging.INFO,
    QuotaReached: logging.WARNING,
    LimitChanged: logging.INFO,
    Abandoned: logging.INFO,
    Failed: logging.INFO,
}


class Observer(Protocol):
    """Anyone who wants to know: any callable that takes an event. It is called on the event loop; what it raises is
    logged and goes no further.
    """

    def __call__(self, event: Event, /) -> None:
        """Take note of an event."""
        ...


def log_event(event: Event) -> None:
    """Log an event under `nebula_async`: its name as the message, its facts as `extra`. The default observer."""
    level = LEVELS.get(type(event), logging.DEBUG)
    if logger.isEnabledFor(level):
        facts = asdict(event, recurse=False)
        text = " ".join(f"{name}={_on_one_line(value)}" for name, value in facts.items())
        logger.log(level, "%s %s", type(event).__name__, text, extra={"nebula": facts})


def _on_one_line(value: object) -> object:
    return repr(value) if isinstance(value, str) and not value.isprintable() else value


def guarded(observer: Observer) -> Observer:
    """Return the observer with its exceptions logged instead of raised."""

    def notify(event: Event, /) -> None:
        try:
            observer(event)
        except Exception:  # an observer is other people's code
            logger.exception("the observer failed on %s", type(event).__name__)

    return notify
