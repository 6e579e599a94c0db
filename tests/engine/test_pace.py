"""When the next request may leave is a matter of numbers; the clock is handed in."""

from __future__ import annotations

import math

import pytest
from pacing import found, gaps, refuse, send
from wire import seeded

from nebula_async.engine.pace import Course, Pace


def test_a_few_leave_at_once_where_no_limit_is_known():
    """Who asks for eight pictures without a tier does not wait; what comes after them leaves evenly."""
    left = send(Pace(None), 5.0, 12)

    assert [5.0] * 8 == left[:8]
    assert pytest.approx([0.5] * 4) == gaps(left[7:])


def test_the_first_burst_comes_once():
    """Not every pause of the caller ends in a burst."""
    pace = Pace(None)
    send(pace, 0.0, 8)

    assert pytest.approx([0.5] * 7) == gaps(send(pace, 3600.0, 8))


def test_requests_are_spaced_evenly_under_a_limit():
    """A limit of 60 a minute means one each second and a little more: never a burst, also not at the start."""
    left = send(Pace(60), 100.0, 60)

    assert 100.0 == left[0]
    assert pytest.approx([1 / 0.98] * 59) == gaps(left)


def test_idle_time_is_not_saved_up():
    """After an hour without requests there is no burst."""
    pace = Pace(60)
    pace.release(0.0)
    pace.release(3600.0)

    assert pytest.approx(1 / 0.98) == pace.wait(3600.0)


def test_a_late_timer_loses_no_rate():
    """An event loop that wakes a millisecond too late, fifty times a second, still uses the limit."""
    pace, source, now = Pace(3_000), seeded(5), 0.0
    for _ in range(3_000):
        now += pace.wait(now)
        now += source.uniform(0.0002, 0.001)
        pace.release(now)

    assert pytest.approx(3_000 / 49, abs=0.05) == now


def test_a_long_delay_of_the_caller_is_not_made_up():
    """A process that stood still for a second does not send what it missed: at most the next one comes earlier."""
    pace = Pace(600)
    [left] = send(pace, 0.0, 1)
    left = send(pace, left + 1.0, 20)

    assert pytest.approx([0.1 / 0.98] * 19) == gaps(left)


@pytest.mark.parametrize("delay", [0.5, 7.0, 100.0])
def test_a_refusal_holds_everyone_for_as_long_as_it_asks(delay):
    """Nothing leaves before the moment that the server names, and all of it soon after (F21)."""
    pace = Pace(None)
    held = refuse(pace, 10.0, sent_at=9.0, delay=delay)

    assert held == pace.wait(10.0) == pace.held_for(10.0)
    assert delay <= held <= delay + min(0.1 * delay + 0.25, 5)
    assert 0.0 == pace.wait(10.0 + held) == pace.held_for(10.0 + held)


def test_one_cut_and_one_hold_for_a_burst_of_refusals():
    """Fifty refusals of requests that were in flight together are one, whenever they come (F23)."""
    pace = Pace(3_000)
    now = send(pace, 0.0, 200)[-1]
    held, believed = [], []
    for number in range(50):
        held.append(refuse(pace, now + number / 100, sent_at=now - number / 100))
        believed.append(pace.believed(now))

    assert held[0] > 0
    assert [0.0] * 49 == held[1:]
    assert believed[0] < 0.98 * 3_000
    assert {believed[0]} == set(believed)


def test_a_burst_that_names_the_same_moment_is_one_hold():
    """Refusals that name a delay which ends within the hold do not lengthen it by their jitter."""
    pace = Pace(None)
    source = seeded(6)
    held = [pace.throttled(10.0, sent_at=9.0, delay=5.0, source=source) for _ in range(50)]

    assert 1 == sum(seconds > 0 for seconds in held)


def test_a_later_moment_lengthens_the_hold():
    """Of several moments that the server names the latest counts, and nothing is cut again."""
    pace = Pace(60)
    refuse(pace, 10.0, sent_at=9.0, delay=1.0)
    believed = pace.believed(10.0)

    assert refuse(pace, 10.1, sent_at=9.0, delay=30.0) >= 30.0
    assert pace.wait(10.1) >= 30.0
    assert believed == pace.believed(10.1)


def test_an_earlier_moment_does_not_shorten_the_hold():
    """A hold lasts, whatever a later refusal says."""
    pace = Pace(None)
    refuse(pace, 10.0, sent_at=9.0, delay=30.0)
    refuse(pace, 10.1, sent_at=10.05, delay=1.0)

    assert pace.wait(10.0) >= 30.0


def test_a_pause_that_nobody_named_is_short():
    """Where requests had been accepted, one more token of a bucket is waited for, a little longer than it takes."""
    pace = found(10)
    interval = 60 / pace.believed(0.2)

    assert interval <= pace.held_for(0.2) <= 1.4 * interval


def test_pauses_grow_while_the_limit_is_closed():
    """Refusal after refusal with nothing accepted between, the own pauses grow to ten seconds at most."""
    pace, now, held = found(10), 0.2, []
    for _ in range(7):
        [now] = send(pace, now, 1)
        now += 0.1
        held.append(refuse(pace, now, sent_at=now - 0.1))

    bounds = (3, 9, 10, 10, 10, 10, 10)
    assert all(0.5 * bound <= seconds <= bound for seconds, bound in zip(held, bounds, strict=True))


def test_one_request_goes_ahead_after_a_pause_that_nobody_named():
    """Only when it has not been refused for as long as refusals take do the others follow, at their pace."""
    pace = found(100)
    left = send(pace, 0.2, 4)

    assert gaps(left)[0] >= 1.49 * 0.2
    assert pytest.approx([60 / pace.believed(0.0)] * 2) == gaps(left)[1:]


def test_a_server_that_names_its_delay_is_believed():
    """After it, requests leave at their pace at once: nothing is tried first."""
    pace = Pace(6_000)
    send(pace, 0.0, 500)
    refuse(pace, 6.0, sent_at=5.9, delay=1.0)

    assert max(gaps(send(pace, 6.0, 20))) < 0.02


def test_backoff_scales_the_own_pauses_only():
    """Tests and tools can take away the waits that we choose, not those that the server asks for."""
    pace = Pace(None, backoff=0)

    assert 0.0 == refuse(pace, 1.0, sent_at=0.5)
    assert refuse(pace, 2.0, sent_at=1.5, delay=3.0) >= 3.0


def test_without_backoff_only_what_is_named_is_waited_for():
    """With a back-off of 0 there is no slow start and no found limit; a limit that was named is kept to."""
    pace = Pace(None, backoff=0)
    refuse(pace, 1.0, sent_at=0.5)

    assert [2.0] * 100 == send(pace, 2.0, 100)
    assert pytest.approx(1 / 0.98) == send(Pace(60, backoff=0), 0.0, 2)[1]


def test_refusals_alone_are_timed():
    """How long there have been refusals and nothing else is known once several holds have passed; a success ends it."""
    pace = Pace(None)
    seen = []
    for now in (100.0, 150.0, 200.0, 250.0):
        refuse(pace, now, sent_at=now)
        seen.append(pace.refusing_for(now))

    assert [0.0, 0.0, 100.0, 150.0] == seen

    pace.accepted(300.0, is_wanted=False)
    assert 0.0 == pace.refusing_for(300.0)


def test_one_long_wait_is_no_verdict_on_the_day():
    """A server that asks for a long wait, and then refuses a burst, has not closed for the day."""
    pace = Pace(None)
    refuse(pace, 0.0, sent_at=0.0, delay=200.0)
    for _ in range(8):
        refuse(pace, 210.0, sent_at=209.0, delay=200.0)

    assert 0.0 == pace.refusing_for(211.0)


def test_a_busy_server_says_nothing_of_the_limit():
    """Its refusals hold everyone, also those that name no delay; the rate stays, and so does the verdict on the day."""
    pace = Pace(600)
    held = [refuse(pace, now, sent_at=now, delay=delay, is_limit=False) for now, delay in ((0.0, 1.0), (50.0, None))]
    assert held[0] >= 1.0
    assert 1.0 <= held[1] <= 2.0
    assert pytest.approx(0.98 * 600) == pace.believed(50.0)

    for now in (100.0, 150.0):
        refuse(pace, now, sent_at=now, delay=1.0, is_limit=False)
    refuse(pace, 200.0, sent_at=200.0)
    assert 0.0 == pace.refusing_for(200.0)


def test_turns_that_need_no_decision_are_known_ahead():
    """Under a known limit whoever shares it can give turns out; not in the first burst, nor while a limit is closed."""
    pace = Pace(600)
    pace.release(5.0)
    assert Course(last=5.0, interval=pytest.approx(60 / (0.98 * 600)), held_until=-math.inf) == pace.course
    refuse(pace, 5.2, sent_at=5.0)
    assert pace.course is None

    unknown = Pace(None)
    assert unknown.course is None
    send(unknown, 5.0, 9)
    assert Course(last=5.5, interval=pytest.approx(0.5), held_until=-math.inf) == unknown.course


def test_turns_that_others_took_count():
    """Who comes back from a course goes on after its last turn, and a refusal then knows how many had left."""
    pace, alone = Pace(600), Pace(600)
    for each in (pace, alone):
        each.release(0.0)
    interval = pace.course.interval
    pace.follow(99 * interval, 99, [(number * interval, number) for number in range(10, 100, 10)])
    send(alone, 0.0, 99)
    assert pytest.approx(alone.wait(99 * interval)) == pace.wait(99 * interval)
    pace.follow(5 * interval, 0, [])
    assert pytest.approx(100 * interval) == 99 * interval + pace.wait(99 * interval)

    believed = []
    for each in (pace, alone):
        refuse(each, 99 * interval + 0.1, sent_at=99 * interval)
        believed.append(each.believed(99 * interval + 0.1))
    assert pytest.approx(believed[0], rel=0.05) == believed[1]


def test_only_who_learns_has_to_be_told():
    """A limit that is known and kept needs no word of each accepted request; an unknown or refusing one does."""
    pace = Pace(600)
    assert (True, False) == (Pace(None).is_learning, pace.is_learning)
    refuse(pace, 0.0, sent_at=0.0, delay=1.0, is_limit=False)
    assert pace.is_learning
    pace.accepted(2.0, is_wanted=True)
    assert not pace.is_learning


def test_nothing_is_believed_before_anything_is_known():
    """A limit that nobody named or met is not guessed at; one that was given is kept to with some room."""
    assert (None, pytest.approx(588)) == (Pace(None).believed(0.0), Pace(600).believed(0.0))


def test_a_share_of_a_rate_is_no_more_than_that():
    """Who goes on with a half, here or at another clock, leaves the other half to others, whatever a server names."""
    pace = Pace(600)
    other = pace.part(0.5)
    pace.narrow(0.5)
    for each in (pace, other):
        assert pytest.approx(0.98 * 300) == each.believed(0.0)
        each.learn(6_000)
        assert pytest.approx(0.98 * 300) == each.believed(0.0)
