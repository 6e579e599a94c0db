"""Reply headers, a line each: numbers with bounds, dates beside `email.utils`, whole numbers beside `int`."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_tz

from nebula_async.api.headers import read_date, read_delay, read_policy, read_rate_limit, read_request_id
from targets import same

REFERENCE = "email.utils, int"

NOW = datetime(2025, 11, 20, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0

WORDS = [
    b"Retry-After:", b"Retry-After-Ms:", b"RateLimit:", b"RateLimit-Policy:", b"Date:", b"Age:", b"X-RateLimit-Limit:",
    b"X-RateLimit-Remaining:", b"X-RateLimit-Reset:", b"x-ratelimit-reset-requests:", b"x-request-id:", b"cf-ray:",
    b"x-ratelimit-remaining-requests:", b"\n", b'"m";r=0;t=30', b";q=60;w=60", b';qu="requests"', b";pk=:cGs=:", b"?1",
    b"Thu, 20 Nov 2025 12:00:30 GMT", b"Thursday, 20-Nov-25 12:00:30 GMT", b"Thu Nov 20 12:00:30 2025", b"Feb", b"29",
    b"1763640045", b"999999999999999", b"1.5", b"nan", b"1e9", b"-1", b"\\\"", b"*", b", ", b"\t",
]  # fmt: skip

SEEDS = [
    b"Retry-After: 7\nDate: Thu, 20 Nov 2025 12:00:30 GMT",
    b"Retry-After: Thursday, 20-Nov-25 12:00:30 GMT\nX-Request-Id: abc",
    b'RateLimit: "m";r=0;t=30, b;r=1\nRateLimit-Policy: "m";q=60;w=60;qu="requests", b;q=5;w=1',
    b"X-RateLimit-Limit: 60\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1763640045",
]  # fmt: skip


def check(data: bytes) -> None:
    """Read lines of `name: value`, and the whole as one value."""
    headers = [(name, value) for name, _, value in (line.partition(b":") for line in data.split(b"\n"))]
    delay, limit = read_delay(headers, now=NOW), read_rate_limit(headers, now=NOW)
    waits = [delay.seconds if delay else 0.0, (limit and limit.reset_seconds) or 0.0]
    assert all(0 <= wait <= DAY for wait in waits), headers
    pace, request_id = read_policy(headers), read_request_id(headers)
    assert pace is None or 0 < pace < math.inf, headers
    assert request_id is None or (request_id.isascii() and request_id.isprintable() and 0 < len(request_id) <= 200)
    for _, value in headers:
        check_value(value.strip(b" \t"))


def check_value(value: bytes) -> None:
    """Compare what one value means with what others read there."""
    date = read_date([(b"date", value)])
    wait = read_delay([(b"retry-after", value)], now=NOW)
    if re.fullmatch(rb"[0-9]{1,10}", value):
        same(min(float(int(value)), DAY), wait and wait.seconds, value)
        return
    if date is not None:
        assert wait is not None, value
        assert wait.seconds == min(max(date - NOW, 0), DAY), value
        check_date(value.decode("ascii"), date)


def check_date(text: str, date: float) -> None:
    """Compare a date; of years of two digits, and for email of those below 1000, each has a rule of its own.

    email reads some forms only where they name their zone.
    """
    found = parsedate_tz(text if text.endswith("GMT") else f"{text} GMT")
    if re.search(r"[1-9]\d{3}", text):
        same(datetime(*found[:6], tzinfo=UTC).timestamp() if found else None, date, text)
