"""Reply headers become numbers that can be waited for, whatever a server or a proxy writes into them."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nebula_async.api.headers import Delay, read_date, read_delay, read_policy, read_rate_limit, read_request_id
from nebula_async.results import RateLimit

NOW = datetime(2025, 11, 20, 12, 0, 0, tzinfo=UTC).timestamp()
DAY = 86_400.0
CAPPED = Delay(DAY, capped=True)


def lines(**headers: str) -> list[tuple[bytes, bytes]]:
    """Return raw headers; an underscore in a name stands for a dash."""
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]


def repeated(name: bytes, *values: bytes) -> list[tuple[bytes, bytes]]:
    """Return several raw lines of one header."""
    return [(name, value) for value in values]


@pytest.mark.parametrize(
    ("value", "delay"),
    [
        ("0", Delay(0)),
        ("7", Delay(7)),
        (" \t7 ", Delay(7)),
        ("007", Delay(7)),
        ("2.5", Delay(2.5)),
        ("86400", Delay(DAY)),
        ("86401", CAPPED),
        ("9999999999.999999", CAPPED),
        ("10000000000", None),
        ("1.0000001", None),
        ("1.", None),
        (".5", None),
        ("nan", None),
        ("inf", None),
        ("-1", None),
        ("+1", None),
        ("1e9", None),
        ("1_000", None),
        ("\u00b2", None),
        ("5, 10", None),
        ("5 s", None),
        ("1" * 400, None),
        ("", None),
        ("soon", None),
        ("Thu, 20 Nov 2025 12:00:30 GMT", Delay(30)),
        ("thu, 20 nov 2025 12:00:30 GMT", Delay(30)),
        ("Thu, 20 Nov 2025 12:00:30", Delay(30)),
        ("Thursday, 20-Nov-25 12:00:30 GMT", Delay(30)),
        ("Thursday, 20-Nov-2025 12:00:30", Delay(30)),
        ("Thu, 20 Nov-2025 12:00:30 GMT", None),
        ("Thu Nov 20 12:00:30 2025", Delay(30)),
        ("Sat Nov  1 12:00:30 2025", Delay(0)),
        ("Tiu Nov 20 12:00:30 2025", None),
        ("Nov, 20 Nov 2025 12:00:30 GMT", None),
        ("Thu, 20 Nov 2025 11:59:00 GMT", Delay(0)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", Delay(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", CAPPED),
        ("Sun, 01 Jan 0000 00:00:00 GMT", None),
        ("Mon, 30 Feb 2026 00:00:00 GMT", None),
        ("Thu, 20 Nov 2025 12:00:30 PST", None),
        ("Thu, 20 Nov 2025 25:00:30 GMT", None),
    ],
)
def test_retry_after(value, delay):
    """Retry-After is read as seconds or as a date; what is neither is ignored, and no wait is longer than a
    day (B38).
    """
    assert delay == read_delay(lines(Retry_After=value), now=NOW)


def test_digits_of_other_scripts_are_ignored():
    """Digits that Python would take for a number, and no server writes, are no delay (B38)."""
    assert read_delay([(b"Retry-After", "\uff11\uff12".encode())], now=NOW) is None


def test_a_date_is_compared_with_the_date_of_the_reply():
    """A wrong clock on this machine does not change a wait that the server gave as a date."""
    headers = lines(date="Mon, 03 Mar 2031 00:00:00 GMT", retry_after="Mon, 03 Mar 2031 00:00:09 GMT")

    assert Delay(9) == read_delay(headers, now=NOW)


def test_an_unreadable_reply_date_is_ignored():
    """Without a usable Date header the own clock is used."""
    headers = lines(date="yesterday", retry_after="Thu, 20 Nov 2025 12:00:30 GMT")

    assert Delay(30) == read_delay(headers, now=NOW)


def test_the_longest_of_several_waits_counts():
    """A proxy may add a line of its own: the longest valid wait is kept."""
    headers = repeated(b"RETRY-AFTER", b"5", b"nan", b"Thu, 20 Nov 2025 12:00:30 GMT", b"10")

    assert Delay(30) == read_delay(headers, now=NOW)


ALL = lines(
    retry_after_ms="1500",
    retry_after="2",
    ratelimit='"minute";r=0;t=3',
    x_ratelimit_reset="4",
    x_ratelimit_reset_requests="5",
)


@pytest.mark.parametrize(("first", "seconds"), [*enumerate([1.5, 2, 3, 4, 5])])
def test_the_more_exact_header_wins(first, seconds):
    """Of several headers the one that says most exactly how long to wait is used."""
    assert Delay(seconds) == read_delay(ALL[first:], now=NOW)
    assert Delay(seconds) == read_delay(ALL[first:][::-1], now=NOW)


def test_an_unusable_header_leaves_the_word_to_the_next():
    """An invalid Retry-After does not hide a valid limit header."""
    assert Delay(5) == read_delay(lines(retry_after="-1", ratelimit="a;r=0", x_ratelimit_reset="5"), now=NOW)


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        (lines(x_ratelimit_reset="30"), Delay(30)),
        (lines(x_ratelimit_reset="30", x_ratelimit_remaining="0"), Delay(30)),
        (lines(x_ratelimit_reset="30", x_ratelimit_remaining="12"), None),
        (lines(x_ratelimit_reset="30", x_ratelimit_remaining="many"), Delay(30)),
        (lines(x_ratelimit_reset="30", x_ratelimit_remaining_requests="12"), Delay(30)),
        (lines(x_ratelimit_reset="1763640045"), Delay(45)),
        (lines(x_ratelimit_reset="1763640045", date="Thu, 20 Nov 2025 12:00:40 GMT"), Delay(5)),
        (lines(x_ratelimit_reset="1000000000"), Delay(0)),
        (lines(x_ratelimit_reset="999999999"), CAPPED),
        (lines(x_ratelimit_reset="9999999999"), CAPPED),
        (lines(x_ratelimit_reset="6m0s"), None),
        (lines(x_ratelimit_reset_requests="7", x_ratelimit_remaining_requests="0"), Delay(7)),
        (lines(x_ratelimit_reset_requests="7", x_ratelimit_remaining_requests="1"), None),
        (lines(x_ratelimit_reset="1", x_ratelimit_remaining="1", x_ratelimit_reset_requests="7"), Delay(7)),
        (repeated(b"X-RateLimit-Remaining", b"0", b"9") + lines(x_ratelimit_reset="3"), Delay(3)),
        (lines(retry_after_ms="250"), Delay(0.25)),
        (lines(retry_after_ms="9999999999"), CAPPED),
        ([], None),
    ],
)
def test_reset_headers(headers, delay):
    """A reset is a wait only where no request is left; a large one is a point in time (B38)."""
    assert delay == read_delay(headers, now=NOW)


def quota(limit: int | None, remaining: int, reset_seconds: float | None) -> RateLimit:
    """Return a limit as the RateLimit headers tell it."""
    return RateLimit(limit=limit, remaining=remaining, reset_seconds=reset_seconds)


@pytest.mark.parametrize(
    ("value", "rate_limit", "delay"),
    [
        ('"default";r=50;t=30', quota(None, 50, 30), None),
        ('"default";r=0;t=30', quota(None, 0, 30), Delay(30)),
        ("default; r=0; t=30", quota(None, 0, 30), Delay(30)),
        ('"a";r=0;t=86400', quota(None, 0, DAY), Delay(DAY)),
        ('"a";r=0;t=86401', quota(None, 0, DAY), CAPPED),
        ('"a";r=0;t=999999999999999', quota(None, 0, DAY), CAPPED),
        ('"a";r=0;t=0', quota(None, 0, None), None),
        ('"a";r=0', quota(None, 0, None), None),
        ('"burst";r=5;t=1, "day";r=100;t=80000', quota(None, 5, 1), None),
        ('"burst";r=0;t=1\t,"day";r=0;t=800', quota(None, 0, 800), Delay(800)),
        ('"a;r=9,b\\"";pk=:cGs=:;x=?1;y=1.5;z=tok;flag;r=0;t=2', quota(None, 0, 2), Delay(2)),
        ('"a";r=1;r=0;t=2', quota(None, 0, 2), Delay(2)),
        ('"a";t=30', None, None),
        ('"a";r=-1;t=30', None, None),
        ('"a";r=1.5;t=30', None, None),
        ('"a";r="0";t=30', None, None),
        ('"a";r=0;t=30,', None, None),
        ('"a";r=0;t=30,,"b";r=0', None, None),
        ('"a";r=0;t=30 "b"', None, None),
        ('"a";r=0;t=1234567890123456', None, None),
        ('"a";r=0;t=', None, None),
        ('"a;r=0;t=30', None, None),
        ('"\u00e9";r=0;t=30', None, None),
        ("limit=100, remaining=0, reset=30", None, None),
        ("5;r=0;t=30", None, None),
        (", ".join(['"a";r=0;t=3'] * 32), quota(None, 0, 3), Delay(3)),
        (", ".join(['"a";r=0;t=3'] * 33), None, None),
        (", ".join(['"a";r=0;t=3'] * 10_000), None, None),
        ('"' + "a" * 4_096 + '";r=0;t=3', None, None),
        ("", None, None),
    ],
)
def test_rate_limit(value, rate_limit, delay):
    """A RateLimit list tells what is left and, where nothing is, how long to wait; one with an error is
    ignored (B39).
    """
    assert rate_limit == read_rate_limit(lines(RateLimit=value), now=NOW)
    assert delay == read_delay(lines(RateLimit=value), now=NOW)


@pytest.mark.parametrize(
    ("policy", "rate_limit"),
    [
        ('"m";q=60;w=60', quota(60, 0, 9)),
        ('"m";q=60;qu="requests";w=60', quota(60, 0, 9)),
        ('"m";q=60;qu="content-bytes"', None),
        ('"m";q=60;qu="bananas"', None),
        ('"m";q=60;qu', None),
        ('"other";q=60', quota(None, 0, 9)),
        ('"m";q=60;;', quota(None, 0, 9)),
        ('"m"', quota(None, 0, 9)),
    ],
)
def test_the_policy_tells_the_limit_and_its_unit(policy, rate_limit):
    """The limit comes from RateLimit-Policy; a limit of anything but requests is not taken for one."""
    headers = lines(RateLimit='"m";r=0;t=9', RateLimit_Policy=policy)

    assert rate_limit == read_rate_limit(headers, now=NOW)
    assert (Delay(9) if rate_limit else None) == read_delay(headers, now=NOW)


@pytest.mark.parametrize(
    ("headers", "rate_limit"),
    [
        (lines(ratelimit='"m";r=61;t=9', ratelimit_policy='"m";q=60'), None),
        (lines(ratelimit='"m";r=0;t=9', age="1"), None),
        (lines(ratelimit='"m";r=0;t=9', age="0"), quota(None, 0, 9)),
        (repeated(b"RateLimit", b'"a";r=7', b'"b";r=3;t=1'), quota(None, 3, 1)),
        (lines(x_ratelimit_limit="60", x_ratelimit_remaining="59", x_ratelimit_reset="30"), quota(60, 59, 30)),
        (lines(x_ratelimit_limit="60", x_ratelimit_remaining="0", x_ratelimit_reset="1763640045"), quota(60, 0, 45)),
        (lines(x_ratelimit_remaining="3"), quota(None, 3, None)),
        (lines(x_ratelimit_limit="60"), RateLimit(limit=60)),
        (lines(x_ratelimit_reset="99999999"), RateLimit(reset_seconds=DAY)),
        (lines(x_ratelimit_limit="-5", x_ratelimit_remaining="1e3", x_ratelimit_reset="nan"), None),
        (lines(x_ratelimit_limit="60", ratelimit='"m";r=1'), quota(None, 1, None)),
        ([], None),
    ],
)
def test_rate_limits_of_a_reply(headers, rate_limit):
    """The limit of a reply is what its headers say and can be true; the standard header comes first."""
    assert rate_limit == read_rate_limit(headers, now=NOW)


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [
        (lines(X_Request_Id="abc-1"), "abc-1"),
        (lines(cf_ray="ray", x_amzn_requestid="amazon", request_id="plain", x_request_id="first"), "first"),
        (lines(cf_ray="ray", x_amzn_requestid="amazon", request_id="plain"), "plain"),
        (lines(cf_ray="ray", x_amzn_requestid="amazon"), "amazon"),
        (lines(cf_ray="8f1-FRA"), "8f1-FRA"),
        (lines(x_request_id="", cf_ray="ray"), "ray"),
        (lines(x_request_id="\x1b[31mred", cf_ray="ray"), "ray"),
        (lines(x_request_id="caf\u00e9"), None),
        (lines(x_request_id="x" * 10_000), "x" * 200),
        ([], None),
    ],
)
def test_request_id(headers, request_id):
    """The id to quote to the API's support is found, short and safe to print."""
    assert request_id == read_request_id(headers)


NAMES = [
    *(b"Retry-After-Ms", b"retry-after", b"RateLimit", b"ratelimit-policy", b"Date", b"Age", b"x-ratelimit-limit"),
    *(b"X-RateLimit-Reset", b"X-RateLimit-Remaining", b"x-ratelimit-reset-requests", b"x-request-id", b"cf-ray"),
]
VALUES = st.one_of(
    st.binary(max_size=60),
    st.from_regex(rb'[0-9.,;:=" rqtw-]{0,40}', fullmatch=True),
    st.from_regex(rb'"[a-z]";r=[0-9]{1,17};t=[0-9]{1,17}(, b;r=0;t=[0-9])?', fullmatch=True),
    st.from_regex(rb"(Mon, )?[0-9]{2} (Jan|Feb|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}( GMT)?", fullmatch=True),
    st.floats().map(lambda number: repr(number).encode()),
    st.integers().map(lambda number: str(number).encode()),
)


@given(st.lists(st.tuples(st.sampled_from(NAMES) | st.binary(max_size=20), VALUES), max_size=8), st.floats(0, 1e11))
def test_any_headers_give_bounded_numbers(headers, now):
    """Whatever the headers say, nothing is raised and every wait is finite, from 0 to a day (B38, B39)."""
    delay, limit, request_id = read_delay(headers, now=now), read_rate_limit(headers, now=now), read_request_id(headers)

    waits = [delay.seconds if delay else 0.0, (limit and limit.reset_seconds) or 0.0]
    assert all(math.isfinite(wait) and wait >= 0 and wait <= DAY for wait in waits)
    assert request_id is None or (
        request_id.isascii() and request_id.isprintable() and len(request_id) in range(1, 201)
    )


@pytest.mark.parametrize("value", [b'"' * 2**20, b"a;" * 2**19, b"1" * 2**20, b" " * 2**20 + b"x", b'"a";r=0;' * 450])
def test_long_values_take_linear_time(value):
    """A header of a megabyte does not stop the event loop."""
    headers = [(name, value) for name in NAMES]
    started = time.perf_counter()
    read_delay(headers, now=NOW)
    read_rate_limit(headers, now=NOW)

    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("policy", "per_minute"),
    [
        ('"default";q=60;w=60', 60),
        ('"burst";q=10;w=1', 600),
        ('"burst";q=10;w=1, "minute";q=300;w=60', 300),
        ('"day";q=2000;w=86400', None),
        ('"day";q=2000;w=86400, "minute";q=300;w=60', 300),
        ('"bytes";q=10;w=60;qu="content-bytes"', None),
        ('"default";q=0;w=60', None),
        ('"default";q=60;w=0', None),
        ('"default";q=60', None),
        ("60;w=60", None),
        ("nonsense ;;;", None),
        ("", None),
    ],
)
def test_a_policy_names_a_pace(policy, per_minute):
    """Of the limits that a policy names the lowest pace counts; a day's quota is none, and junk is ignored (B39)."""
    assert per_minute == read_policy(lines(RateLimit_Policy=policy))
    assert read_policy(lines(Retry_After="7")) is None


@given(st.lists(st.tuples(st.sampled_from([b"ratelimit-policy", b"RateLimit-Policy", b"x"]), st.binary())))
def test_no_policy_is_too_strange(headers):
    """Whatever bytes come, the pace is a number above zero or nothing at all."""
    per_minute = read_policy(headers)
    assert per_minute is None or 0 < per_minute < math.inf


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0), (b"soon", None), (b"", None)]
)
def test_the_clock_of_the_server(value, seconds):
    """A reply's own date is its server's clock; one that cannot be read tells nothing."""
    assert seconds == read_date([(b"Date", value)])
    assert read_date([]) is None
