"""What happened, as frozen values, and who is told. No event holds a key, a prompt, a URL or picture bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeAlias

from attrs import asdict, define, field, frozen

from nebula_async.charges import Charges

logger = logging.getLogger("nebula_async")
logger.addHandler(logging.NullHandler())


@frozen(kw_only=True)
class Asked:
    """A call for pictures began; exactly one of `Generated`, `Failed` and `Abandoned` tells how it ended.

    Both are told in the caller's own task. `call` is the call's idempotency key, `dialect` "serverless" or "inference";
    `width`, `height` and `seed` are `None` where they are left to the API; `per_minute` (`None`: not known) and
    `concurrency` are the limits that the client kept to when it was last told of a change.
    """

    call: str
    model: str
    dialect: str
    pictures: int
    width: int | None
    height: int | None
    seed: int | None
    address: str
    port: int
    per_minute: float | None
    concurrency: int


@frozen(kw_only=True)
class Sent:
    """An attempt was admitted and is about to be sent; `call` is the call's idempotency key."""

    call: str
    attempt: int


@frozen(kw_only=True)
class Retrying:
    """An attempt failed and will be repeated in `delay_seconds`; `reason` is what the verdict said, `status` the HTTP
    status, if there was one.
    """

    call: str
    attempt: int
    reason: str
    delay_seconds: float
    status: int | None = None


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
    """A call was cancelled; `charges` says what its attempts may have cost.

    `error` is the name of the exception that broke it off, where that was no cancellation: Ctrl-C, for example.
    """

    call: str
    attempts: int
    charges: Charges
    error: str | None = None


@frozen(kw_only=True)
class ParameterIgnored:
    """A parameter will not be honoured as it stands, or the model is not in the catalogue."""

    model: str
    problem: str


@frozen(kw_only=True)
class SharingLost:
    """The processes that share the account's limit, on this host or over Redis, cannot meet, because of `reason`.

    Each goes on with less than its part of the rate; a new one waits if `is_waiting`.
    """

    reason: str
    is_waiting: bool


@frozen(kw_only=True)
class SharingRegained:
    """The processes share the account's limit again."""


@frozen(kw_only=True)
class Generated:
    """A request was answered with pictures; `served_model` is the model that the reply names, if it does."""

    call: str
    model: str
    pictures: int
    attempts: int
    charges: Charges
    seconds: float
    served_model: str | None = None
    request_id: str | None = None


@frozen(kw_only=True)
class Failed:
    """A request ended without a picture; `error` is the name of the exception's class.

    `status` and `code` are those that the API answered with, if it did.
    """

    call: str
    model: str
    error: str
    attempts: int
    charges: Charges
    seconds: float
    status: int | None = None
    code: str | None = None
    request_id: str | None = None


Event: TypeAlias = (
    Asked
    | Sent
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


TellPrompt: TypeAlias = Callable[[str, str, str | None], None]
"""Told the key of a call, its prompt and its negative prompt: words that no event holds."""


def prompt_teller(observer: Observer) -> TellPrompt | None:
    """Return the method `tell_prompt` of an observer that wants the words as well: it is called after `Asked`, in the
    same task. `None` for one that has none, as most.
    """
    tell: TellPrompt | None = getattr(observer, "tell_prompt", None)
    return tell


@define(eq=False, repr=False)
class Guarded:
    """An observer whose exceptions are logged instead of raised."""

    observer: Observer
    tell_prompt: TellPrompt | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tell_prompt = self._tell_prompt if prompt_teller(self.observer) else None

    def __call__(self, event: Event, /) -> None:
        """Tell the observer of an event."""
        try:
            self.observer(event)
        except Exception:  # an observer is other people's code
            logger.exception("the observer failed on %s", type(event).__name__)

    def _tell_prompt(self, call: str, prompt: str, negative_prompt: str | None) -> None:
        try:
            if tell := prompt_teller(self.observer):
                tell(call, prompt, negative_prompt)
        except Exception as error:  # noqa: BLE001 - no traceback and no message: they may show the words
            logger.error("the observer failed on a prompt: %s", type(error).__name__)  # noqa: TRY400


def guarded(observer: Observer) -> Guarded:
    """Return the observer with its exceptions logged instead of raised."""
    return observer if isinstance(observer, Guarded) else Guarded(observer)


def observers(*many: Observer) -> Observer:
    """Return an observer that tells several, in turn; what one raises is logged, and the next is told all the same."""
    return Observers(tuple(guarded(each) for each in many))


@define(eq=False, repr=False)
class Observers:
    """Several observers as one."""

    many: tuple[Guarded, ...]
    tell_prompt: TellPrompt | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tell_prompt = self._tell_prompt if any(each.tell_prompt for each in self.many) else None

    def __call__(self, event: Event, /) -> None:
        """Tell each of an event."""
        for tell in self.many:
            tell(event)

    def _tell_prompt(self, call: str, prompt: str, negative_prompt: str | None) -> None:
        for each in self.many:
            if each.tell_prompt:
                each.tell_prompt(call, prompt, negative_prompt)
