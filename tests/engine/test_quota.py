"""The day's requests are counted by the wall clock, in UTC, whatever it does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nebula_async.engine.quota import DAY_SECONDS, DailyQuota

NOON = 20_000.5 * DAY_SECONDS
moments = st.floats(0, 4e9)


def spent(per_day: int, now: float) -> DailyQuota:
    """Return a quota that is used up."""
    quota = DailyQuota(per_day)
    for _ in range(per_day):
        quota.count(now)
    return quota


def test_it_is_over_when_it_is_used_up():
    """The last request of the day is admitted, the next is not, before 00:00 UTC."""
    quota = spent(199, NOON)
    quota.per_day = 200
    assert 0.0 == quota.seconds_over(NOON)
    quota.count(NOON)
    assert (200, DAY_SECONDS / 2, DAY_SECONDS / 2) == (
        quota.used(NOON), quota.seconds_closed(NOON), quota.seconds_over(NOON),
    )  # fmt: skip
    assert DAY_SECONDS / 4 == quota.seconds_over(NOON + DAY_SECONDS / 4)
    assert (0, 0.0) == (quota.used(NOON + DAY_SECONDS / 2), quota.seconds_over(NOON + DAY_SECONDS / 2))


def test_who_goes_on_alone_has_its_part_of_each_day():
    """One of four that go on apart may use a quarter of what is left today, and a quarter of each day after it."""
    mine = DailyQuota(10_000).part(NOON, 9_000, 4)
    assert (9_000, 9_250) == (mine.used(NOON), mine.per_day)
    for day in (1, 2):
        assert (0, 2_500) == (mine.used(NOON + day * DAY_SECONDS), mine.per_day)
    assert None is DailyQuota().part(NOON, 9_000, 4).per_day


def test_a_clock_that_had_been_wrong_closes_no_later_day():
    """A clock that was a year ahead and is set right leaves the day open: what was used meanwhile is of this one."""
    year = 365 * DAY_SECONDS
    quota = DailyQuota(200)
    quota.count(NOON + year, 150)
    quota.close(NOON + year, 7200.0)
    assert (150, 0.0) == (quota.used(NOON), quota.seconds_closed(NOON))
    assert 0 == quota.used(NOON + DAY_SECONDS)


def test_without_a_limit_it_is_never_over():
    """A tier without a daily limit is only counted."""
    quota = DailyQuota()
    for _ in range(5_000):
        quota.count(NOON)
    assert (5_000, 0.0) == (quota.used(NOON), quota.seconds_over(NOON))


def test_the_word_of_the_api_is_doubted_once_a_minute():
    """When the API closed the day, one request a minute may ask again; what is accepted opens it (F25)."""
    quota = DailyQuota(200)
    quota.close(NOON, None)
    assert DAY_SECONDS / 2 == quota.seconds_over(NOON)
    assert 0.0 == quota.seconds_over(NOON + 60)
    quota.asked(NOON + 60)
    assert quota.seconds_over(NOON + 61) > 0
    assert 0.0 == quota.seconds_closed(NOON + DAY_SECONDS / 2)
    quota.close(NOON + DAY_SECONDS, None)
    assert quota.seconds_over(NOON + DAY_SECONDS + 1) > 0


def test_what_is_accepted_opens_the_day():
    """An acceptance after the API's word that the day was over shows that it is not."""
    quota = DailyQuota(200)
    quota.close(NOON, None)
    quota.count(NOON + 62)
    assert (0.0, 0.0) == (quota.seconds_over(NOON + 62), quota.seconds_closed(NOON + 62))


def test_a_clock_that_is_set_back_gives_nothing_twice():
    """Yesterday's date does not renew the quota; it comes back with the right one (F47)."""
    quota = spent(3, NOON)
    assert quota.seconds_over(NOON - DAY_SECONDS) > 0
    assert 3 == quota.used(NOON - DAY_SECONDS)
    assert 0.0 == quota.seconds_over(NOON + DAY_SECONDS)


@given(st.lists(st.tuples(moments, st.sampled_from(["count", "asked", "close", "named"])), max_size=20), moments)
def test_its_numbers_are_always_possible(steps, now):
    """Whatever the clock says, the wait ends within a day."""
    quota = DailyQuota(5)
    for moment, step in steps:
        quota.close(moment, 7200) if step == "named" else quota.close(moment, None) if step == "close" else None
        quota.count(moment) if step == "count" else quota.asked(moment) if step == "asked" else None
    assert 0 <= quota.seconds_over(now) <= quota.seconds_closed(now) <= DAY_SECONDS
