"""The options of an emulator, each checked before anything is started."""

import math
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeVar

import attrs

from nebula_async.emulator.account import TIERS, Tier
from nebula_async.emulator.faults import Fault
from nebula_async.emulator.replies import ErrorBody

ImageFormat = Literal["png", "jpeg", "webp"]
RetryAfter = Literal["seconds", "http-date", "ms"]
Choice = TypeVar("Choice", bound=str | None)

HIGHEST_PORT = 65_535


@attrs.frozen
class Settings:
    """How generations behave: their pace, their files, and what goes wrong on purpose."""

    latency: float
    image_format: ImageFormat
    seed: int
    faults: tuple[Fault, ...]
    error_body: ErrorBody


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


def read_port(given: int) -> int:
    """Return a port; 0 lets the system choose."""
    return read_count("port", given, least=0, most=HIGHEST_PORT)


def read_tier(name: str | None, per_minute: int | None, per_day: int | None) -> Tier:
    """Return the limits of a named tier, or none, with those replaced that are given."""
    named = read_choice("tier", name, *TIERS, None)
    tier = Tier() if named is None else TIERS[named]
    return Tier(
        tier.per_minute if per_minute is None else read_count("per_minute", per_minute),
        tier.per_day if per_day is None else read_count("per_day", per_day),
    )


def read_burst(given: int | None, tier: Tier) -> int:
    """Return how many calls may come at once: what is given, else a minute's worth."""
    return tier.per_minute or 1 if given is None else read_count("burst", given)


def read_latency(given: float) -> float:
    """Return the factor on inference times."""
    if not math.isfinite(given) or given < 0:
        raise ValueError(f"latency is {given!r}; allowed is a factor of 0 or more, 0 switches it off")
    return float(given)


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
