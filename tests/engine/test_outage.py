"""Whether a service is down is a matter of numbers; the clock is handed in."""

from __future__ import annotations

import math

import pytest
from wire import seeded

from nebula_async.engine.outage import MOST_FAILURES, MOST_PROBES, MOST_PROBES_UNPROVEN, Outage


def make_outage(**options) -> Outage:
    """Return an outage with a source of chance that is always the same."""
    return Outage(seeded(3), **options)


def opened(**options) -> Outage:
    """Return an outage that has just begun, at 0."""
    outage = make_outage(**options)
    assert outage.open(0.0)
    return outage


def probe(outage: Outage, now: float) -> float:
    """Send a probe that fails, at the moment when one may leave; return that moment."""
    now += outage.wait(now)
    assert outage.release()
    outage.failed(now, is_probe=True)
    outage.end_probe()
    return now


def test_it_begins_after_twenty_failures_in_a_row():
    """Nineteen failures are chance, the twentieth within half a minute is an outage."""
    outage = make_outage()
    begins = [outage.failed(number, is_probe=False) for number in range(MOST_FAILURES)]

    assert [False] * 19 + [True] == begins
    assert outage.is_open


def test_a_success_in_between_starts_the_count_again():
    """While anything is answered there is no outage (F27)."""
    outage = make_outage()
    for number in range(200):
        outage.failed(number / 100, is_probe=False)
        if number % 15 == 0:
            outage.succeeded(number / 100, is_probe=False)
    assert not outage.is_open


def test_failures_far_apart_are_no_outage():
    """One failure every two seconds is not enough: what counts lies within half a minute."""
    outage = make_outage()
    assert not any(outage.failed(2.0 * number, is_probe=False) for number in range(100))


def test_while_open_one_probe_at_a_time_is_sent():
    """While a probe is under way nobody else is sent, and after it failed there is a wait."""
    outage = opened()
    assert 0.5 <= outage.wait(0.0) <= 1
    assert outage.release()
    assert math.inf == outage.wait(5.0)
    outage.failed(5.0, is_probe=True)
    outage.end_probe()
    assert 0 < outage.wait(5.0) < math.inf


def test_waits_between_probes_grow_to_a_minute():
    """An outage of an hour is probed every minute or so, and its end is seen within one."""
    outage, now, waits = opened(), 0.0, []
    outage.succeeded(0.0, is_probe=False)
    for _ in range(12):
        waits.append(outage.wait(now))
        now = probe(outage, now)
    bounds = [min(60, 2**number) for number in range(12)]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))


def test_three_answers_end_it():
    """After three answers in a row everyone is sent again; a failure in between starts their count anew."""
    outage = opened()
    assert not outage.succeeded(1.0, is_probe=True)
    assert not outage.succeeded(2.0, is_probe=True)
    outage.failed(3.0, is_probe=True)
    assert [False, False, True] == [outage.succeeded(moment, is_probe=True) for moment in (4.0, 5.0, 6.0)]
    assert (False, 0.0) == (outage.is_open, outage.wait(6.0))


def test_what_was_in_flight_is_no_probe():
    """What had been sent before the outage began says nothing of it, neither by failing nor by being answered late."""
    outage = opened()
    before = outage.wait(1.0)
    for _ in range(500):
        outage.failed(1.0, is_probe=False)
        assert not outage.succeeded(1.0, is_probe=False)
    assert (before, False, True) == (outage.wait(1.0), outage.is_hopeless, outage.is_open)


@pytest.mark.parametrize(("has_worked", "most"), [(True, MOST_PROBES), (False, MOST_PROBES_UNPROVEN)])
def test_it_is_hopeless_in_the_end(has_worked, most):
    """After about an hour it is given up; after half a minute, where nothing has ever been answered."""
    outage, now = make_outage(), 0.0
    if has_worked:
        outage.succeeded(0.0, is_probe=False)
    outage.open(0.0)
    for number in range(most):
        assert not outage.is_hopeless, number
        now = probe(outage, now)
    assert outage.is_hopeless
    assert 2000 < now < 4500 if has_worked else 15 < now < 40


def test_without_backoff_nothing_waits():
    """Tests and tools can take the waits away."""
    assert 0.0 == opened(backoff=0).wait(0.0)
