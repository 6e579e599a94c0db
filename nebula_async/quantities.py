"""Counts, amounts of money, times and sizes as people read them."""

from __future__ import annotations

import math
from decimal import Decimal

MINUTE, HOUR, DAY = 60, 3_600, 86_400
LONG_DAYS = 2


def counted(count: int, thing: str) -> str:
    """Return a number of things in words."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def dollars(amount: Decimal) -> str:
    """Return an amount as people write it: two decimals, or as many as it has."""
    text = f"{amount:,f}"
    whole, _, decimals = text.partition(".")
    return f"${whole}.{decimals.rstrip('0'):0<2}"


def duration(seconds: float) -> str:
    """Return a time in its two largest units."""
    if seconds >= LONG_DAYS * DAY:
        return counted(round(seconds / DAY), "day")
    seconds = math.ceil(seconds)
    minutes, rest = divmod(seconds, MINUTE)
    if seconds < MINUTE:
        return f"{rest} s"
    if seconds < HOUR:
        return f"{minutes} min" + (f" {rest} s" if minutes < 10 and rest else "")
    return f"{minutes // 60} h {minutes % 60} min"


def precise_seconds(seconds: float) -> str:
    """Return a time that was measured: below two minutes in seconds, two digits at least, else as `duration` does."""
    if seconds >= 2 * MINUTE:
        return duration(seconds)
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def in_milliseconds(seconds: float) -> str:
    """Return a short time as people read it."""
    return f"{seconds * 1_000:.3g} ms" if seconds < 1 else f"{seconds:.1f} s"


def size(count: float) -> str:
    """Return a number of bytes in its largest unit, in thousands."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:,.3g} TB"
