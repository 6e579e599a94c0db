"""How often the emulator may be asked: tiers, the minute and the day, all by an injected clock."""

from email.utils import parsedate_to_datetime

import pytest

from nebula_async.emulator import TIERS, Emulator, Tier

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
        {"latency": -1.0},
        {"latency": float("nan")},
        {"image_format": "gif"},
        {"error_body": "xml"},
        {"retry_after": "soon"},
        {"keys": ()},
        {"credit": "much"},
        {"port": 70_000},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_bad_option_says_what_is_allowed(options):
    """A wrong option is refused at once, with what was given and what is allowed."""
    (name,) = options
    with pytest.raises(ValueError, match=rf"{name} (is|has) .*allowed is"):
        Emulator(**options)
