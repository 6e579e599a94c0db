"""What reply headers say about waiting, limits and the request: numbers, whatever the bytes; never an exception.

Retry-After: RFC 9110, section 10.2.3. RateLimit and RateLimit-Policy: draft-ietf-httpapi-ratelimit-headers-10, lists of
RFC 9651. X-RateLimit-*: no standard; as commonly sent. The API documents none of them: they are used where they come.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TypeAlias

from attrs import evolve, frozen

from nebula_async.results import RateLimit

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Raw header lines: name, in any case, and value."""

_Values: TypeAlias = Mapping[bytes, Sequence[bytes]]

MAX_SECONDS = 86_400.0
"""A longer delay is cut to a day."""

UNIX_TIME = 1_000_000_000
"""A reset that is as large as this is no number of seconds but a point in time."""

LONGEST_WINDOW = 300
"""Seconds over which a limit is one of pace."""

MOST_LINES = 1_000
"""So many header lines are looked at."""

MAX_LIST_BYTES = 4_096
MAX_LIST_ITEMS = 32
MAX_REQUEST_ID = 200

REQUEST_ID_NAMES = (b"x-request-id", b"request-id", b"x-amzn-requestid", b"cf-ray")


@frozen
class Delay:
    """How long the server asks to wait, 0 to 86,400 seconds; `capped` if it asked for longer."""

    seconds: float
    capped: bool = False


def read_delay(headers: Headers, *, now: float) -> Delay | None:
    """Return the wait that the reply asks for; `None` where it says nothing usable.

    The first of `Retry-After-Ms`, `Retry-After`, `RateLimit`, `X-RateLimit-Reset`, `X-RateLimit-Reset-Requests` that is
    valid counts; of several lines the longest wait. The last three count only where no request is left. A date is
    compared with the reply's own `Date`, else with `now` (seconds since 1970); one that is past gives 0.
    """
    values = _values(headers)
    clock = _clock(values, now)
    return next((_delay(max(waits)) for read in _DELAYS if (waits := list(read(values, clock)))), None)


def read_rate_limit(headers: Headers, *, now: float) -> RateLimit | None:
    """Return requests allowed, requests left and seconds until more are; `None` where the reply says nothing usable.

    Read from `RateLimit` and `RateLimit-Policy`: of several limits the one with the fewest requests left. Else from
    `X-RateLimit-Limit`, `-Remaining` and `-Reset`, whichever of them are there.
    """
    values = _values(headers)
    unofficial = _unofficial_rate_limit(values, _clock(values, now))
    fewest = min(_quotas(values), key=lambda it: (it.remaining or 0, -(it.reset_seconds or 0)), default=unofficial)
    if fewest is None or fewest.reset_seconds is None:
        return fewest
    return evolve(fewest, reset_seconds=_delay(fewest.reset_seconds).seconds)


def read_policy(headers: Headers) -> float | None:
    """Return the fewest requests a minute that `RateLimit-Policy` allows; `None` where it says nothing usable.

    What it says of stretches longer than a few minutes is no pace: a day's requests may be made in an hour.
    """
    if all(name.lower() != b"ratelimit-policy" for name, _ in islice(headers, MOST_LINES)):  # nearly always
        return None
    return min(_paces(_values(headers)), default=None)


def read_request_id(headers: Headers) -> str | None:
    """Return the first id that the reply carries, at most 200 characters; one that cannot be printed is passed over."""
    values = _values(headers)
    given = (value[:MAX_REQUEST_ID] for name in REQUEST_ID_NAMES for value in values.get(name, ()))
    return next((value.decode("ascii") for value in given if re.fullmatch(rb"[ -~]+", value)), None)


def read_date(headers: Headers) -> float | None:
    """Return the server's own clock, in seconds since 1970, as `Date` tells it; `None` where it says nothing usable."""
    return next((date for value in _values(headers).get(b"date", ()) if (date := _date(value)) is not None), None)


def _values(headers: Headers) -> _Values:
    values: dict[bytes, list[bytes]] = {}
    for name, value in islice(headers, MOST_LINES):
        values.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return values


def _delay(seconds: float) -> Delay:
    return Delay(min(max(seconds, 0.0), MAX_SECONDS), capped=seconds > MAX_SECONDS)


def _numbers(values: _Values, name: bytes) -> Iterator[float]:
    # float() alone accepts nan, inf, 1e9, 1_000 and digits of other scripts
    return (float(value) for value in values.get(name, ()) if re.fullmatch(rb"[0-9]{1,10}(\.[0-9]{1,6})?", value))


def _counts(values: _Values, name: bytes) -> Iterator[int]:
    return (count for value in values.get(name, ()) if (count := _count(value)) is not None)


def _count(value: bytes) -> int | None:
    return int(value) if re.fullmatch(rb"[0-9]{1,15}", value) else None


# Delays: each reader yields the valid waits of one header, in seconds.


def _clock(values: _Values, now: float) -> float:
    return next((date for value in values.get(b"date", ()) if (date := _date(value)) is not None), now)


def _retry_after_ms(values: _Values, _now: float) -> Iterator[float]:
    return (number / 1_000 for number in _numbers(values, b"retry-after-ms"))


def _retry_after(values: _Values, now: float) -> Iterator[float]:
    yield from _numbers(values, b"retry-after")
    dates = map(_date, values.get(b"retry-after", ()))
    yield from (date - now for date in dates if date is not None)


def _rate_limit(values: _Values, _now: float) -> Iterator[float]:
    return (quota.reset_seconds for quota in _quotas(values) if quota.remaining == 0 and quota.reset_seconds)


def _reset(values: _Values, now: float) -> Iterator[float]:
    used_up = not min(_numbers(values, b"x-ratelimit-remaining"), default=0)
    return _resets(values, b"x-ratelimit-reset", now) if used_up else iter(())


def _reset_requests(values: _Values, now: float) -> Iterator[float]:
    used_up = not min(_numbers(values, b"x-ratelimit-remaining-requests"), default=0)
    return _resets(values, b"x-ratelimit-reset-requests", now) if used_up else iter(())


_DELAYS = (_retry_after_ms, _retry_after, _rate_limit, _reset, _reset_requests)


def _resets(values: _Values, name: bytes, now: float) -> Iterator[float]:
    return (number - now if number >= UNIX_TIME else number for number in _numbers(values, name))


def _unofficial_rate_limit(values: _Values, now: float) -> RateLimit | None:
    limit = min(_counts(values, b"x-ratelimit-limit"), default=None)
    remaining = min(_counts(values, b"x-ratelimit-remaining"), default=None)
    reset = max(_resets(values, b"x-ratelimit-reset", now), default=None)
    if limit is None and remaining is None and reset is None:
        return None
    return RateLimit(limit=limit, remaining=remaining, reset_seconds=reset)


# Dates of RFC 9110, section 5.6.7: in English whatever the locale; a missing zone is read as GMT.

_DAY = rb"(?i:mon|tue|wed|thu|fri|sat|sun)"
_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_MONTH = rb"(?P<month>(?i:" + b"|".join(_MONTHS) + rb"))"
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES = (
    _DAY
    + rb"[a-z]{0,6}, (?P<day>\d\d?)(?P<mark>[ -])"
    + _MONTH
    + rb"(?P=mark)(?P<year>\d{4}|\d\d) "
    + _TIME
    + rb"( GMT)?",
    _DAY + rb" " + _MONTH + rb" (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})( GMT)?",
)


def _date(value: bytes) -> float | None:
    found = next((match for form in _DATES if (match := re.fullmatch(form, value))), None)
    if found is None:
        return None
    day, hour, minute, second = map(int, found.group("day", "hour", "minute", "second"))
    month = 1 + _MONTHS.index(found["month"].lower())
    try:
        return datetime(_year(found["year"]), month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:  # the 30th of February
        return None


def _year(digits: bytes) -> int:
    year = int(digits)
    if len(digits) == 4:
        return year
    return year + (1900 if year >= 70 else 2000)  # RFC 850 gave two digits


# RateLimit lists: a list with any error counts as not there. (`re` compiles these and the dates at their first use.)

_STRING = rb'"(?:[ !#-\[\]-~]|\\["\\])*"'
_TOKEN = rb"[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]*"
_BARE = rb"-?[0-9]{1,15}(?:\.[0-9]{1,3})?|\?[01]|:[A-Za-z0-9+/=]*:|" + _STRING + rb"|" + _TOKEN
_PARAMETER = rb"; *([a-z*][a-z0-9_.*-]*)(?:=(" + _BARE + rb"))?"
_ITEM = (
    rb"(?P<name>" + _STRING + rb"|" + _TOKEN + rb")"
    rb"(?P<parameters>(?:" + _PARAMETER + rb")*)"
    rb"(?:[ \t]*,[ \t]*(?!\Z)|\Z)"
)


def _quotas(values: _Values) -> Iterator[RateLimit]:
    """Yield each limit of `RateLimit` that counts requests and is possible."""
    if any(age.strip(b"0") for age in values.get(b"age", ())):  # a cached reply tells of another time
        return
    policies = dict(_list(values, b"ratelimit-policy"))
    for name, state in _list(values, b"ratelimit"):
        policy = policies.get(name, {})
        limit, remaining = _count(policy.get(b"q", b"")), _count(state.get(b"r", b""))
        counts_requests = policy.get(b"qu", b'"requests"') == b'"requests"'
        if counts_requests and remaining is not None and (limit is None or remaining <= limit):
            seconds = _count(state.get(b"t", b""))  # 0 tells nothing
            yield RateLimit(limit=limit, remaining=remaining, reset_seconds=float(seconds) if seconds else None)


def _paces(values: _Values) -> Iterator[float]:
    """Yield the requests a minute of each limit of `RateLimit-Policy` that counts requests in minutes or seconds."""
    for _, policy in _list(values, b"ratelimit-policy"):
        quota, seconds = _count(policy.get(b"q", b"")), _count(policy.get(b"w", b""))
        counts_requests = policy.get(b"qu", b'"requests"') == b'"requests"'
        if counts_requests and quota and seconds and seconds <= LONGEST_WINDOW:
            yield 60 * quota / seconds


def _list(values: _Values, name: bytes) -> Sequence[tuple[bytes, Mapping[bytes, bytes]]]:
    text = b", ".join(values.get(name, ()))
    if len(text) > MAX_LIST_BYTES:
        return ()
    try:
        items = list(_items(text))
    except ValueError:
        return ()
    return items if len(items) <= MAX_LIST_ITEMS else ()


def _items(text: bytes) -> Iterator[tuple[bytes, Mapping[bytes, bytes]]]:
    at, form = 0, re.compile(_ITEM)
    while at < len(text):
        item = form.match(text, at)
        if item is None:
            raise ValueError
        yield item["name"], dict(re.findall(_PARAMETER, item["parameters"]))
        at = item.end()
