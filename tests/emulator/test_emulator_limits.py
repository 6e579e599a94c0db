"""How often the emulator may be asked: tiers, the minute and the day, all by an injected clock."""

import random
from email.utils import parsedate_to_datetime

import pytest

from nebula_async.emulator import TIERS, Emulator, Tier
from nebula_async.emulator.limits import DAY_SECONDS, Limits, SlidingWindow

NOON = 43_200


def _statuses(rig, count):
    return [rig.ask().status_code for _ in range(count)]


def test_the_tiers_are_the_vendors(rig):
    """The presets are the vendor's table of requests per minute and per day."""
    expected = {
        "engineer-1": Tier(60, 200),
        "engineer-2": Tier(300, 1000),
        "engineer-3": Tier(600, 2000),
        "expert-1": Tier(1500, None),
        "expert-2": Tier(3000, None),
    }
    assert expected == TIERS


def test_a_tier_throttles(start, clock):
    """An account of Engineer 1 gets 60 pictures at once, then a 429 without any hint when to come again."""
    rig = start(tier="engineer-1", clock=clock)
    assert [200] * 60 + [429] == _statuses(rig, 61)
    refused = rig.ask()
    assert {"status": "failed", "message": "Rate limit exceeded", "data": None} == refused.json()
    assert not [name for name in refused.headers if name.startswith("retry-after")]


def test_tokens_come_back_with_time(start, clock):
    """After a burst, calls become free one by one at the rate of the minute."""
    rig = start(per_minute=60, burst=2, clock=clock)
    assert [200, 200, 429] == _statuses(rig, 3)
    clock.now += 1
    assert [200, 429] == _statuses(rig, 2)
    clock.now += 3600
    assert [200, 200, 429] == _statuses(rig, 3)


def test_refused_calls_do_not_count(start, clock):
    """However often a throttled client comes back, it does not push its own turn away."""
    rig = start(per_minute=60, burst=1, per_day=3, clock=clock)
    assert [200, *[429] * 20] == _statuses(rig, 21)
    clock.now += 1
    assert [200] == _statuses(rig, 1)
    clock.now += 1
    assert [200] == _statuses(rig, 1)


def test_the_day_ends_at_midnight_utc(start, clock):
    """The day's limit holds until 00:00 UTC and is whole again then."""
    rig = start(per_day=2, clock=clock)
    assert [200, 200, 429] == _statuses(rig, 3)
    clock.now += NOON - 1
    assert [429] == _statuses(rig, 1)
    clock.now += 1
    assert [200, 200, 429] == _statuses(rig, 3)


def test_a_fixed_window_is_a_minute_of_the_clock(start, clock):
    """Counted by fixed windows, a limit is whole again at each full minute, however late in the last it was used up."""
    clock.now += 59
    rig = start(per_minute=2, window="fixed", clock=clock)
    assert [200, 200, 429] == _statuses(rig, 3)
    clock.now += 0.999
    assert [429] == _statuses(rig, 1)
    clock.now += 0.001
    assert [200, 200, 429] == _statuses(rig, 3)


def test_a_sliding_window_is_any_minute(start, clock):
    """Counted by a sliding window, a call is free again exactly 60 seconds after the one that it replaces."""
    rig = start(per_minute=2, window="sliding", clock=clock)
    assert [200] == _statuses(rig, 1)
    clock.now += 30
    assert [200, 429] == _statuses(rig, 2)
    clock.now += 29.999
    assert [429] == _statuses(rig, 1)
    clock.now += 0.001
    assert [200, 429] == _statuses(rig, 2)
    clock.now += 30
    assert [200, 429] == _statuses(rig, 2)


@pytest.mark.parametrize(("window", "seconds"), [("bucket", "30"), ("fixed", "50"), ("sliding", "60")])
@pytest.mark.parametrize("dialect", ["ask", "infer"])
def test_each_window_says_when_to_come_again(start, clock, dialect, window, seconds):
    """The wait that a 429 tells is that of its window, in both dialects, and it is not in vain."""
    clock.now += 10
    rig = start(per_minute=2, window=window, retry_after="seconds", clock=clock)
    ask = getattr(rig, dialect)
    assert [200, 200] == [ask().status_code for _ in range(2)]
    refused = ask()
    assert (429, seconds) == (refused.status_code, refused.headers["retry-after"])
    clock.now += int(seconds)
    assert 200 == ask().status_code


@pytest.mark.parametrize("window", ["bucket", "fixed", "sliding"])
def test_the_told_wait_is_exact(window):
    """After any history, a call is free when the told wait is over, and not a moment before."""
    source = random.Random(window)  # noqa: S311 - a test's history has to repeat
    for _ in range(200):
        limits = Limits(Tier(per_minute=source.randint(1, 5), per_day=source.choice([None, 7])), window, 3)
        now, times = 1e9 + source.uniform(0, DAY_SECONDS), []
        wait = 0.0
        while not wait:
            now += source.uniform(0, 20)
            wait = _replay(limits, times, now)
            times.append(now)
        assert _replay(limits, times, now + wait - 0.01) > 0
        assert _replay(limits, times, now + wait + 1e-6) == 0


def _replay(limits, times, now):
    allowance = limits.start()
    for time in times:
        allowance.take(time)
    return allowance.take(now)


@pytest.mark.parametrize("window", ["bucket", "fixed", "sliding"])
def test_a_clock_that_is_set_back_locks_nobody_out(window):
    """When the clock goes back by a day, calls are free again at once or within a minute, not after that day."""
    allowance = Limits(Tier(per_minute=1), window, 1).start()
    now = 1e9
    assert [0.0, True] == [allowance.take(now), allowance.take(now) > 0]
    assert 60 >= allowance.take(now - DAY_SECONDS)


def test_a_sliding_window_remembers_no_more_than_it_needs():
    """However many calls come, a sliding window keeps those of its last minute."""
    window = SlidingWindow(5, 60)
    for second in range(1000):
        if not window.wait(float(second)):
            window.take(float(second))
    assert 5 >= len(window.taken)


@pytest.mark.parametrize("window", ["fixed", "sliding"])
def test_a_burst_is_the_buckets(window):
    """A burst with another window is refused in one sentence: such a window gives a minute's worth at once."""
    with pytest.raises(ValueError, match=rf"burst is 5 and window is '{window}'; allowed is a burst with the window"):
        Emulator(per_minute=60, burst=5, window=window)
    assert Emulator(per_minute=60, window=window)


def test_a_day_is_counted_beside_any_window(start, clock):
    """The day's limit holds whichever window the minute has, and its wait is told when it is the longer one."""
    rig = start(per_minute=2, per_day=3, window="sliding", retry_after="seconds", clock=clock)
    assert [200, 200, 429] == _statuses(rig, 3)
    clock.now += 60
    assert [200] == _statuses(rig, 1)
    assert str(NOON - 60) == rig.ask().headers["retry-after"]


def test_reading_is_free(start, clock):
    """Models and credit can be read while pictures are throttled, and count towards no limit."""
    rig = start(per_minute=1, clock=clock)
    assert [200] * 5 == [rig.http.get("/users/credits").status_code for _ in range(5)]
    assert [200, 429] == _statuses(rig, 2)
    assert 200 == rig.http.get("/serverless/models").status_code


def test_throttling_comes_before_credit_and_validation(start, clock):
    """A throttled call is told so, whatever else is wrong with it."""
    rig = start(per_minute=1, credit="0", clock=clock)
    assert [402, 429] == _statuses(rig, 2)


@pytest.mark.parametrize(
    ("style", "header", "value"), [("seconds", "retry-after", "6"), ("ms", "retry-after-ms", "6000")]
)
def test_a_429_can_say_when_to_come_again(start, clock, style, header, value):
    """With `retry_after`, a 429 carries the wait in the chosen style."""
    rig = start(per_minute=10, burst=1, retry_after=style, clock=clock)
    rig.ask()
    assert value == rig.ask().headers[header]


def test_a_429_can_say_it_as_a_date(start, clock):
    """With `retry_after="http-date"`, the header is a date of the emulator's clock: here the end of its day."""
    rig = start(per_day=1, retry_after="http-date", clock=clock)
    rig.ask()
    assert clock.now + NOON == parsedate_to_datetime(rig.ask().headers["retry-after"]).timestamp()


@pytest.mark.parametrize(
    "options",
    [
        {"tier": "platinum"},
        {"per_minute": 0},
        {"per_day": 1.5},
        {"burst": -1},
        {"window": "tumbling"},
        {"url_seconds": -1},
        {"url_seconds": float("inf")},
        {"expired_status": 410},
        {"forbidden_words": ("gore", " ")},
        {"forbidden_words": ""},
        {"latency": -1.0},
        {"latency": float("nan")},
        {"image_format": "gif"},
        {"error_body": "xml"},
        {"retry_after": "soon"},
        {"keys": ()},
        {"credit": "much"},
        {"port": 70_000},
        {"storage_port": -1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_bad_option_says_what_is_allowed(options):
    """A wrong option is refused at once, with what was given and what is allowed."""
    (name,) = options
    with pytest.raises(ValueError, match=rf"{name} (is|has) .*allowed (is|are)"):
        Emulator(**options)
