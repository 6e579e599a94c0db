"""When the next request may leave is a matter of numbers; the clock is handed in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from wire import seeded

from nebula_async.engine.pace import Pace


def refuse(pace: Pace, now: float, *, sent_at: float, delay: float | None = None) -> float:
    """Tell of a refusal; return for how long everyone is held."""
    return pace.throttled(now, sent_at=sent_at, delay=delay, source=seeded(4))


def test_nothing_waits_without_a_limit():
    """Without a known limit and without a refusal, everything may leave at once."""
    pace = Pace(None)
    for _ in range(100):
        pace.release(5.0)

        assert 0.0 == pace.wait(5.0)


def test_requests_are_spaced_evenly_under_a_limit():
    """A limit of 60 a minute means one each second and a little more: never a burst, also not at the start."""
    pace, now, left = Pace(60), 100.0, []
    for _ in range(60):
        now += pace.wait(now)
        pace.release(now)
        left.append(now)

    gaps = [later - earlier for earlier, later in pairwise(left)]
    assert 100.0 == left[0]
    assert pytest.approx([1 / 0.98] * 59) == gaps


def test_idle_time_is_not_saved_up():
    """After an hour without requests there is no burst."""
    pace = Pace(60)
    pace.release(0.0)
    pace.release(3600.0)

    assert pytest.approx(1 / 0.98) == pace.wait(3600.0)


@pytest.mark.parametrize("delay", [0.5, 7.0, 100.0])
def test_a_refusal_holds_everyone_for_as_long_as_it_asks(delay):
    """Nothing leaves before the moment that the server names, and all of it soon after."""
    pace = Pace(None)
    held = refuse(pace, 10.0, sent_at=9.0, delay=delay)

    assert held == pace.wait(10.0)
    assert delay <= held <= delay + min(0.1 * delay + 0.25, 5)
    assert 0.0 == pace.wait(10.0 + held)


def test_one_hold_for_a_burst_of_refusals():
    """Fifty refusals of requests that were in flight together are one hold, not fifty."""
    pace = Pace(None)
    held = [refuse(pace, 10.0 + number / 1000, sent_at=9.0) for number in range(50)]

    assert held[0] > 0
    assert [0.0] * 49 == held[1:]


def test_a_burst_that_names_the_same_moment_is_one_hold():
    """Refusals that name a delay which ends within the hold do not lengthen it by their jitter."""
    pace = Pace(None)
    source = seeded(6)
    held = [pace.throttled(10.0, sent_at=9.0, delay=5.0, source=source) for _ in range(50)]

    assert 1 == sum(seconds > 0 for seconds in held)


def test_a_later_moment_lengthens_the_hold():
    """Of several moments that the server names the latest counts."""
    pace = Pace(None)
    refuse(pace, 10.0, sent_at=9.0, delay=1.0)

    assert refuse(pace, 10.1, sent_at=9.0, delay=30.0) >= 30.0
    assert pace.wait(10.1) >= 30.0


def test_an_earlier_moment_does_not_shorten_the_hold():
    """A hold lasts, whatever a later refusal says."""
    pace = Pace(None)
    refuse(pace, 10.0, sent_at=9.0, delay=30.0)
    refuse(pace, 10.1, sent_at=10.05, delay=1.0)

    assert pace.wait(10.0) >= 30.0


def test_holds_grow_while_nothing_is_accepted():
    """Refusal after refusal, the own back-off doubles from a second to half a minute; a success takes it back."""
    pace, now, held = Pace(None), 0.0, []
    for _ in range(8):
        held.append(refuse(pace, now, sent_at=now))
        now += held[-1] + 1

    bounds = (1, 2, 4, 8, 16, 30, 30, 30)
    assert all(0.5 * bound <= seconds <= bound for seconds, bound in zip(held, bounds, strict=True))

    pace.accepted()
    assert refuse(pace, now, sent_at=now) <= 1


def test_backoff_scales_the_own_holds_only():
    """Tests and tools can take away the waits that we choose, not those that the server asks for."""
    pace = Pace(None, backoff=0)

    assert 0.0 == refuse(pace, 1.0, sent_at=0.5)
    assert refuse(pace, 2.0, sent_at=1.5, delay=3.0) >= 3.0


def test_refusals_alone_are_timed():
    """How long there have been refusals and nothing else is known once several holds have passed; a success ends it."""
    pace = Pace(None)
    seen = []
    for now in (100.0, 150.0, 200.0, 250.0):
        refuse(pace, now, sent_at=now)
        seen.append(pace.refusing_for(now))

    assert [0.0, 0.0, 100.0, 150.0] == seen

    pace.accepted()
    assert 0.0 == pace.refusing_for(300.0)


def test_one_long_wait_is_no_verdict_on_the_day():
    """A server that asks for a long wait, and then refuses a burst, has not closed for the day."""
    pace = Pace(None)
    refuse(pace, 0.0, sent_at=0.0, delay=200.0)
    for _ in range(8):
        refuse(pace, 210.0, sent_at=209.0, delay=200.0)

    assert 0.0 == pace.refusing_for(211.0)


def test_a_busy_server_is_no_verdict_on_the_day():
    """Waits that a busy server asks for (503) hold everyone, and say nothing of the limit."""
    pace = Pace(None)
    for now in (0.0, 50.0, 100.0, 150.0):
        pace.throttled(now, sent_at=now, delay=1.0, source=seeded(4), is_limit=False)
    refuse(pace, 200.0, sent_at=200.0)

    assert 0.0 == pace.refusing_for(200.0)
