"""A limit that nobody named is found, kept to, and found again when it changes; a named one is never exceeded."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pacing import found, refuse, send, use

from nebula_async.engine.pace import Pace


def test_an_unknown_rate_doubles_with_each_reply_time():
    """Where more is wanted than may leave, what is accepted lets the rate grow until something is refused."""
    pace, rates = Pace(None), []
    left = send(pace, 0.0, 8)[-1]
    for replied in (3.0, 6.0, 9.0, 12.0):
        for _ in range(round(3 * rates[-1]) if rates else 1):
            pace.accepted(replied, is_wanted=True)
        rates.append(1 / pace.wait(left))

    assert pytest.approx([3.0, 6.0, 12.0, 24.0], rel=0.1) == rates
    assert pace.believed(12.0) is None


@pytest.mark.parametrize("make", [lambda: Pace(None), lambda: found(5)], ids=["nothing refused", "refused"])
def test_a_rate_that_nobody_waits_for_does_not_grow(make):
    """What a slow caller gets accepted says nothing of how fast it could go."""
    pace = make()
    now = use(pace, 60.0, 10, is_wanted=False)
    [left] = send(pace, now, 1)
    before = pace.wait(left)
    now = use(pace, now, 600, is_wanted=False)
    [left] = send(pace, now, 1)

    assert before == pytest.approx(pace.wait(left))


def test_a_closed_limit_is_no_lower_limit():
    """How often a closed window refuses says nothing of its size."""
    pace, now = found(10), 0.2
    believed = pace.believed(now)
    for _ in range(5):
        [now] = send(pace, now, 1)
        refuse(pace, now + 0.1, sent_at=now)

    assert believed == pace.believed(now)


def test_a_found_limit_is_approached_and_then_tried():
    """After a refusal the rate dips a little below what was seen, comes back within seconds, and then tries more."""
    pace, now = found(10), 0.2
    seen = [pace.believed(now)]
    for seconds in (2, 6, 20, 30):
        now = use(pace, now, seconds)
        seen.append(pace.believed(now))

    assert sorted(seen) == seen
    assert pytest.approx([0.96 * 600, 600, 1.15 * 600], rel=0.04) == [seen[0], seen[2], seen[3]]
    assert 2 * 600 < seen[4]


def test_a_known_limit_is_never_exceeded():
    """After a refusal the rate comes back to a known limit, and not above it."""
    pace = Pace(600)
    send(pace, 0.0, 100)
    refuse(pace, 10.2, sent_at=10.1)
    assert pace.believed(10.2) < 0.97 * 600

    use(pace, 10.2, 600)
    assert pytest.approx(0.98 * 600) == pace.believed(610.2)


@pytest.mark.parametrize(("known", "named", "believed"), [(None, 60, 58.8), (600, 60, 58.8), (60, 600, 58.8)])
def test_a_named_limit_lowers_the_rate_and_never_raises_it(known, named, believed):
    """What a server's policy names holds at once, until it names another; a limit that was given stays the highest."""
    pace = Pace(known)
    pace.learn(1)
    pace.learn(named)

    assert pytest.approx(believed) == pace.believed(0.0)
    assert pytest.approx(60 / believed) == send(pace, 0.0, 2)[1]


def test_nothing_is_believed_before_anything_is_known():
    """Without a tier, and while nothing was refused, there is no number to show."""
    pace = Pace(None)
    send(pace, 0.0, 20)

    assert pace.believed(10.0) is None


def test_it_never_stops_altogether():
    """However often everything is refused, a request leaves each minute and a bit."""
    pace, now = found(10), 0.2
    for _ in range(100):
        now = use(pace, now, 100 * 60 / pace.believed(now), is_wanted=False)
        refuse(pace, now + 0.1, sent_at=now)

    assert pytest.approx(0.02 * 60) == pace.believed(now)
    assert pace.wait(now) <= 1.4 * 50 + 1


MOMENTS = st.floats(-0.5, 200)
HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), MOMENTS, st.integers(1, 40)),
        st.tuples(st.just("accepted"), MOMENTS, st.booleans()),
        st.tuples(st.just("refused"), MOMENTS, st.floats(0, 300), st.none() | st.floats(0, 100_000), st.booleans()),
        st.tuples(st.just("learned"), MOMENTS, st.floats(0.1, 1e6)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(happenings=HAPPENINGS, per_minute=st.none() | st.floats(1 / 60, 1e6), backoff=st.sampled_from([0, 0.5, 1, 100]))
def test_whatever_happens(happenings, per_minute, backoff):
    """In any order of events, and though the clock goes back a little: waits are finite, a hold is kept, a limit that
    was named is not exceeded, an old refusal cuts nothing, and memory does not grow.
    """
    pace, now, cut_at = Pace(per_minute, backoff=backoff), 1000.0, -math.inf
    ceiling = math.inf if per_minute is None else 0.98 * per_minute
    for what, seconds, *facts in happenings:
        now += seconds
        before = pace.believed(now)
        if what == "send":
            now = send(pace, now, facts[0])[-1]
        elif what == "accepted":
            pace.accepted(now, is_wanted=facts[0])
        elif what == "learned":
            pace.learn(facts[0])
            ceiling = 0.98 * min(facts[0], math.inf if per_minute is None else per_minute)
        else:
            ago, delay, is_limit = facts
            held = refuse(pace, now, sent_at=now - ago, delay=delay, is_limit=is_limit)
            assert 0 <= held < math.inf
            assert pace.held_for(now) >= held
            assert now - ago >= cut_at or delay is None or not held or held >= delay
            if is_limit and now - ago >= cut_at:
                cut_at = now
            elif is_limit:
                assert before == pace.believed(now)
        assert pace.held_for(now) <= pace.wait(now) < math.inf
        if (believed := pace.believed(now)) is not None:
            assert min(0.02 * 60, ceiling) * (1 - 1e-9) <= believed <= ceiling * (1 + 1e-9)
    assert len(pace._rate.tally._marks) <= 160
