"""How a run is going, in one line: as much of it as fits, what matters most first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

from attrs import frozen

from nebula_async.cli.model_table import cost_text
from nebula_async.cli.tally import Standing
from nebula_async.quantities import HOUR, MINUTE, counted, duration

CENT = Decimal("0.01")
TENTH_OF_A_CENT = Decimal("0.0001")

BEHIND = 3
"""Columns that stay free at the end, for the ^C of a terminal that shows it."""

SHORTEST_BAR, LONGEST_BAR = 6, 30

Parts = Mapping[str, tuple[str, ...]]
"""The parts of the line in the order in which they stand; of each its forms, the shortest first."""

WANTED = (
    ("counts", 0), ("course", 0), ("time", 0), ("rate", 0), ("counts", 1), ("cost", 0), ("counts", 2), ("cost", 1),
    ("bar", 0), ("course", 1), ("refusals", 0), ("limit", 0), ("day", 0), ("rate", 1), ("cost", 2), ("limit", 1),
    ("time", 1), ("rate", 2),
)  # fmt: skip
"""Which form of which part is wanted first, where there is room for it."""

COLOURS = {"counts": "", "course": "33", "bar": "36"}


@frozen
class Look:
    """What a terminal can show."""

    is_unicode: bool = True
    has_colour: bool = True


def live_line(standing: Standing, width: int, look: Look) -> str:
    """Return the line for a terminal of so many columns; it never fills the last one."""
    room = max(width - BEHIND, 1)
    parts = _parts(standing)
    separator = " · " if look.is_unicode else ", "
    chosen = _fitting(parts, room, len(separator))
    if "counts" not in chosen:
        return parts["counts"][0][:room]
    spare = room - _length(chosen, len(separator))
    texts = [_coloured(name, chosen[name], look) for name in parts if name in chosen and name != "bar"]
    line = separator.join(texts)
    if "bar" not in chosen:
        return line
    return f"{_bar(standing, min(SHORTEST_BAR + spare, LONGEST_BAR), look)} {line}"


def log_line(standing: Standing) -> str:
    """Return the line for a log: all of it, in plain letters."""
    parts = _parts(standing)
    return ", ".join(forms[-1] for name, forms in parts.items() if name != "bar")


def last_line(standing: Standing) -> str:
    """Return the last line of a log: what the run came to."""
    parts, seconds = _parts(standing), standing.seconds
    took = f"{seconds:.1f} s" if seconds < MINUTE else duration(seconds)
    made = f"{counted(standing.pictures, 'picture')} in {took}"
    rate = [f"{60 * standing.pictures / seconds:,.0f} a minute"] if seconds >= 1 else []
    cost = _cost(standing)[-1] if standing.unpriced else _amount(standing)
    return ", ".join([parts["counts"][-1], made, *rate, *parts.get("refusals", ()), cost])


def _parts(standing: Standing) -> Parts:
    parts = {
        "bar": (" " * SHORTEST_BAR,),
        "counts": _counts(standing),
        "course": _course(standing),
        "rate": _rate(standing),
        "refusals": (f"{standing.refusals:,} throttled",) if standing.refusals else (),
        "cost": _cost(standing),
        "limit": _limit(standing),
        "day": () if standing.per_day is None else (f"{standing.used_today:,} of {standing.per_day:,} today",),
        "time": _time(standing),
    }
    return {name: forms for name, forms in parts.items() if forms}


def _counts(standing: Standing) -> tuple[str, ...]:
    done, failed, left = standing.done, standing.failed, standing.left
    short = f"{done}/{standing.total}"
    told = f"{short}, {failed:,} failed" if failed else f"{done:,} done, {left:,} left"
    return short, told, f"{done:,} done, {failed:,} failed, {left:,} left"


def _course(standing: Standing) -> tuple[str, ...]:
    seconds = duration(standing.course_seconds)
    return {
        "running": (),
        "held": (f"waiting {seconds}", f"waiting {seconds}: too many requests"),
        "quota": (f"next day in {seconds}", f"the day's quota is used up, the next begins in {seconds}"),
        "outage": ("no answer", "the API does not answer: asking now and then"),
        "draining": (f"finishing {standing.in_flight}", f"finishing what is in flight: {standing.in_flight}"),
    }[standing.course]


def _rate(standing: Standing) -> tuple[str, ...]:
    if standing.per_minute is None:
        return ()
    rate = f"{standing.per_minute:,.0f}" if standing.per_minute >= 10 else f"{standing.per_minute:.2g}"
    return f"{rate}/min", f"{rate} a minute", f"{rate} pictures a minute"


def _cost(standing: Standing) -> tuple[str, ...]:
    spent = _amount(standing)
    if standing.unpriced:
        whole = cost_text(standing.cost_at_least, standing.cost_at_most, standing.unpriced)
        return (spent, whole) if standing.cost_at_most else (f"cost {whole}",)
    if standing.projected is None:
        return (spent,) if standing.cost_at_most else ("price not known",)
    if standing.course == "draining" or standing.projected <= standing.cost_at_most:
        return (spent,)
    projected = _dollars(standing.projected, standing.projected)
    return spent, f"{spent} of ~{projected}", f"{spent} of about {projected}"


def _amount(standing: Standing) -> str:
    most = standing.cost_at_most
    unsure = "" if standing.cost_at_least == most else "up to "
    return f"{unsure}{_dollars(most, most if standing.projected is None else standing.projected)}"


def _dollars(amount: Decimal, scale: Decimal) -> str:
    """Return an amount with as many decimals as make sense for what all costs."""
    return f"${amount.quantize(CENT if scale >= 1 else TENTH_OF_A_CENT):,f}"


def _limit(standing: Standing) -> tuple[str, ...]:
    if standing.limit_per_minute is None:
        return ()
    return f"limit {standing.limit_per_minute:,.0f}/min", f"limit {standing.limit_per_minute:,.0f} a minute"


def _time(standing: Standing) -> tuple[str, ...]:
    if standing.seconds_left is None or not standing.left:
        return ()
    seconds = standing.seconds_left
    rounded = seconds if seconds < MINUTE or seconds >= HOUR else MINUTE * math.ceil(seconds / MINUTE)
    return f"{duration(rounded)} left", f"{duration(seconds)} left"


def _fitting(parts: Parts, room: int, between: int) -> dict[str, str]:
    """Return the parts that fit, each in the longest form that does."""
    chosen: dict[str, str] = {}
    for name, form in WANTED:
        forms = parts.get(name, ())
        if form < len(forms):
            more = chosen | {name: forms[form]}
            chosen = more if _length(more, between) <= room else chosen
    return chosen


def _length(chosen: Mapping[str, str], between: int) -> int:
    bar = len(chosen["bar"]) + 1 if "bar" in chosen else 0
    texts = [text for name, text in chosen.items() if name != "bar"]
    return bar + sum(map(len, texts)) + between * max(len(texts) - 1, 0)


def _coloured(name: str, text: str, look: Look) -> str:
    return _in_colour(text, COLOURS.get(name, ""), look)


def _in_colour(text: str, colour: str, look: Look) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and text and look.has_colour else text


def _bar(standing: Standing, width: int, look: Look) -> str:
    share = (standing.total - standing.left) / max(standing.total, 1)
    full = min(int(width * share), width)
    filled, empty = ("━", "─") if look.is_unicode else ("#", "-")
    return _in_colour(filled * full, COLOURS["bar"], look) + _in_colour(empty * (width - full), "2", look)
