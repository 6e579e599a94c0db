"""The options of an emulator, each checked before anything is started."""

import math
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeVar

import attrs

from nebula_async.emulator.dialects import ErrorBody
from nebula_async.emulator.faults import Fault
from nebula_async.emulator.limits import TIERS, Limits, Tier, Window

ImageFormat = Literal["png", "jpeg", "webp"]
RetryAfter = Literal["seconds", "http-date", "ms"]
ExpiredStatus = Literal[404, 403]
Choice = TypeVar("Choice", bound=str | int | None)

HIGHEST_PORT = 65_535
FORBIDDEN_WORDS = ("gore", "nsfw")


@attrs.frozen
class Settings:
    """How generations behave: their pace, their files, what is refused, and what goes wrong on purpose."""

    latency: float
    image_format: ImageFormat
    seed: int
    faults: tuple[Fault, ...]
    error_body: ErrorBody
    url_seconds: float
    expired_status: ExpiredStatus
    forbidden: re.Pattern[str] | None
    replays: bool


def read_choice(name: str, given: Choice, *allowed: Choice) -> Choice:
    """Return what was given if it is allowed."""
    if given not in allowed:
        raise ValueError(f"{name} is {given!r}; allowed is {', '.join(map(str, allowed))}")
    return given


def read_count(name: str, given: int, *, least: int = 1, most: float = math.inf) -> int:
    """Return a whole number within its bounds."""
    if type(given) is not int or not least <= given <= most:
        bounds = f"from {least}" if math.isinf(most) else f"from {least} to {most}"
        raise ValueError(f"{name} is {given!r}; allowed is a whole number {bounds}")
    return given


def read_ports(port: int, storage_port: int) -> tuple[int, int]:
    """Return the ports of the API and of the image storage; 0 lets the system choose."""
    ports = read_count("port", port, least=0, most=HIGHEST_PORT)
    if ports and storage_port == port:
        raise ValueError(
            f"storage_port is {storage_port!r}, as is port; allowed is another port, or 0 for any free one"
        )
    return ports, read_count("storage_port", storage_port, least=0, most=HIGHEST_PORT)


def read_limits(
    tier: str | None, per_minute: int | None, per_day: int | None, window: Window, burst: int | None
) -> Limits:
    """Return the limits of a named tier, or none, with those replaced that are given, and how a minute is counted."""
    named = read_choice("tier", tier, *TIERS, None)
    limits = Tier() if named is None else TIERS[named]
    limits = Tier(
        limits.per_minute if per_minute is None else read_count("per_minute", per_minute),
        limits.per_day if per_day is None else read_count("per_day", per_day),
    )
    counted = read_choice("window", window, "bucket", "fixed", "sliding")
    if burst is not None and counted != "bucket":
        raise ValueError(f"burst is {burst!r} and window is {window!r}; allowed is a burst with the window 'bucket'")
    return Limits(limits, counted, limits.per_minute or 1 if burst is None else read_count("burst", burst))


def read_latency(given: float) -> float:
    """Return the factor on inference times."""
    if not math.isfinite(given) or given < 0:
        raise ValueError(f"latency is {given!r}; allowed is a factor of 0 or more, 0 switches it off")
    return float(given)


def read_seconds(name: str, given: float) -> float:
    """Return a length of time."""
    if not math.isfinite(given) or given < 0:
        raise ValueError(f"{name} is {given!r}; allowed is a number of seconds, 0 or more")
    return float(given)


def read_words(given: Iterable[str]) -> re.Pattern[str] | None:
    """Return what finds any of these words, whole and in any case, or None without any; one alone needs no list."""
    words = (given,) if isinstance(given, str) else tuple(given)
    if not all(word.strip() for word in words):
        raise ValueError(f"forbidden_words is {words!r}; allowed are words, none of them empty")
    choices = "|".join(re.escape(word.strip()) for word in words)
    return re.compile(rf"(?<!\w)(?:{choices})(?!\w)", re.IGNORECASE) if words else None


def read_faults(given: Iterable[str | Fault]) -> tuple[Fault, ...]:
    """Return faults given as values or in the form of the command line; one alone needs no list."""
    faults = (given,) if isinstance(given, str | Fault) else given
    return tuple(fault if isinstance(fault, Fault) else Fault.parse(fault) for fault in faults)


def read_keys(given: Iterable[str]) -> tuple[str, ...]:
    """Return the accepted keys; one alone needs no list."""
    keys = (given,) if isinstance(given, str) else tuple(given)
    if not keys or not all(key.strip() for key in keys):
        raise ValueError(f"keys has {len(keys)} keys, some of them empty; allowed is one key or more, none empty")
    return keys


def read_credit(given: Decimal | int | str) -> Decimal:
    """Return a balance in USD."""
    try:
        credit = Decimal(given)
    except (InvalidOperation, TypeError, ValueError):
        credit = Decimal("NaN")
    if not credit.is_finite():
        raise ValueError(f"credit is {given!r}; allowed is an amount in USD such as 100 or 0.05")
    return credit
