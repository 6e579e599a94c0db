"""The line that shows how a run is going: what fits stands there, what matters most first."""

from __future__ import annotations

from decimal import Decimal

import pytest
from attrs import evolve
from terminals import uncoloured

from nebula_async.cli.live_line import Look, last_line, live_line, log_line
from nebula_async.cli.rate import RecentRate
from nebula_async.cli.tally import Standing

STANDING = Standing(
    total=1000,
    done=412,
    failed=3,
    left=585,
    in_flight=16,
    pictures=412,
    refusals=2,
    seconds=209.7,
    per_minute=118.2,
    cost_at_least=Decimal("0.7828"),
    cost_at_most=Decimal("0.7828"),
    unpriced=0,
    projected=Decimal("1.8943"),
    limit_per_minute=120.0,
    per_day=2000,
    used_today=1203,
    course="running",
    course_seconds=0.0,
    seconds_left=298.0,
)
PLAIN = Look(has_colour=False)
COURSES = {
    "held": "waiting 12 s: too many requests",
    "quota": "the day's quota is used up, the next begins in 12 s",
    "outage": "the API does not answer: asking now and then",
    "draining": "finishing what is in flight: 16",
}


def test_a_wide_terminal_shows_all():
    """Done, failed, left, rate, refusals, money spent and projected, the limits in force, the time left, and a bar."""
    assert live_line(STANDING, 200, PLAIN) == (
        "━━━━━━━━━━━━────────────────── 412 done, 3 failed, 585 left · 118 pictures a minute · 2 throttled"
        " · $0.78 of about $1.89 · limit 120 a minute · 1,203 of 2,000 today · 4 min 58 s left"
    )


NARROW = {
    80: "━━───── 412 done, 3 failed, 585 left · 118/min · $0.78 of ~$1.89 · 5 min left",
    60: "━━───── 412/1000, 3 failed · 118/min · $0.78 · 5 min left",
    50: "412/1000, 3 failed · 118 a minute · 5 min left",
    40: "412/1000 · 118 a minute · 5 min left",
    30: "412/1000 · 4 min 58 s left",
    25: "412/1000 · 5 min left",
    12: "412/1000",
    8: "412/1",
    1: "4",
}


@pytest.mark.parametrize("columns", NARROW)
def test_a_narrow_terminal_shows_what_matters_most(columns):
    """The counts and the time left stay longest; what does not fit is left out."""
    assert NARROW[columns] == live_line(STANDING, columns, PLAIN)


@pytest.mark.parametrize("course", ["running", *COURSES])
@pytest.mark.parametrize("is_unicode", [True, False])
def test_no_line_fills_a_terminal(course, is_unicode):
    """At every width the last columns stay free, so that nothing wraps."""
    standing = evolve(STANDING, course=course, course_seconds=12.0)
    lines = {columns: live_line(standing, columns, Look(is_unicode, has_colour=False)) for columns in range(4, 220)}
    assert [] == [columns for columns, line in lines.items() if len(line) > columns - 3]
    assert all(line.isascii() for line in lines.values()) == (not is_unicode)


@pytest.mark.parametrize("course", COURSES)
def test_what_a_run_waits_for_is_said(course):
    """Refusals, the day's end, an outage and a drain are named, on a wide line and in a log."""
    standing = evolve(STANDING, course=course, course_seconds=12.0)
    assert COURSES[course] in live_line(standing, 140, PLAIN)
    assert COURSES[course] in log_line(standing)


def test_colours_take_no_room():
    """With colours the same letters are shown."""
    coloured = live_line(STANDING, 100, Look())
    assert live_line(STANDING, 100, PLAIN) == uncoloured(coloured) != coloured


def test_a_log_has_plain_letters():
    """Each line of a log is whole, in ASCII, and the last says what the run came to."""
    assert log_line(STANDING) == (
        "412 done, 3 failed, 585 left, 118 pictures a minute, 2 throttled, $0.78 of about $1.89, limit 120 a minute,"
        " 1,203 of 2,000 today, 4 min 58 s left"
    )
    assert last_line(STANDING) == (
        "412 done, 3 failed, 585 left, 412 pictures in 3 min 30 s, 118 a minute, 2 throttled, $0.78"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"projected": None, "cost_at_most": Decimal(0), "cost_at_least": Decimal(0)}, "price not known"),
        ({"projected": None, "unpriced": 4}, "$0.7828 + 4 unpriced"),
        (
            {"projected": None, "unpriced": 4, "cost_at_most": Decimal(0), "cost_at_least": Decimal(0)},
            "cost not known (4 pictures)",
        ),
        ({"cost_at_least": Decimal("0.7")}, "up to $0.78 of about $1.89"),
        ({"projected": Decimal("0.0760"), "cost_at_most": Decimal("0.0019")}, "$0.0019 of about $0.0760"),
        ({"per_minute": 0.5}, "0.5 pictures a minute"),
        ({"seconds_left": 200_000.0}, "2 days left"),
    ],
)
def test_odd_values_are_said_as_they_are(changes, told):
    """A price that is not known, an unsettled cost, small amounts, a slow rate and long times."""
    assert told in log_line(evolve(STANDING, **changes))


def test_what_has_no_price_is_counted_at_the_end_too():
    """The last line has the words of the summary."""
    assert last_line(evolve(STANDING, projected=None, unpriced=4)).endswith(", $0.7828 + 4 unpriced")


@pytest.mark.parametrize("name", ["per_minute", "limit_per_minute", "per_day", "seconds_left"])
def test_what_is_not_known_is_left_out(name):
    """At the beginning there is no rate, and not every account has limits that are known."""
    assert "None" not in log_line(evolve(STANDING, **{name: None}))


def test_the_rate_is_that_of_late():
    """A run that was slow at first shows the speed that it has now."""
    rate = RecentRate(60)
    for second in range(600):
        rate.look(float(second), second if second < 300 else 300 + 10 * (second - 300))
    assert 10 == pytest.approx(rate.per_second, rel=0.05)


def test_a_wait_for_a_day_and_a_stopped_process_are_no_slowness():
    """After a night of waiting, or Ctrl-Z, the rate is what it was before."""
    rate = RecentRate(60)
    for second in range(100):
        rate.look(float(second), 5 * second)
    for second in range(100, 50_000, 4):
        rate.look(float(second), 495, is_waiting=True)
    rate.look(90_000.0, 495)
    assert 5 == pytest.approx(rate.per_second, rel=0.05)


def test_there_is_no_rate_in_the_first_second():
    """What could only be guessed is not told."""
    rate = RecentRate(60)
    rate.look(0.0, 0)
    rate.look(0.5, 9)
    assert None is rate.per_second
