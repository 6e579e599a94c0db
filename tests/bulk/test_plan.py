"""A plan says what a job will take, and never more than is known."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nebula_async.bulk.budget import Budget, Spent
from nebula_async.bulk.manifest.census import Census
from nebula_async.bulk.manifest.items import BadLine
from nebula_async.bulk.manifest.tally import Share
from nebula_async.bulk.plan import EXPECTED_SECONDS, Account, make_plan
from nebula_async.cli.plan_text import plan_json, plan_lines
from nebula_async.config import Config, RetryPolicy, Tier
from nebula_async.quantities import dollars, duration, size

SCHNELL = "black-forest-labs/FLUX.1-schnell"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
MIDNIGHT = 1_795_219_200.0
"""2026-11-21, 00:00 UTC."""
DAY, HOUR = 86_400, 3_600


def census(*asked, **facts):
    """Return the census of so many items of a model each, a picture of 1024 x 1024 for each item."""
    models = {("serverless", model): Share(items, items, items * 1024**2) for model, items in asked}
    total = sum(items for _, items in asked)
    nothing = {"settled": {}, "problems": {}, "repeated": frozenset(), "chosen": None, "bad": (), "bad_count": 0}
    return Census(**nothing | {"total": total, "pictures": total, "models": models} | facts)


def planned(found, config=None, **given):
    """Return the plan of a census at midnight, of a file that is called p.csv."""
    return make_plan(found, config or Config(), **{"name": "p.csv", "now": MIDNIGHT} | given)


def text(plan, now=MIDNIGHT):
    """Return a plan as it is told."""
    return "\n".join(plan_lines(plan, now=now))


def test_a_plan_without_a_key():
    """What can be said from the catalogue alone."""
    assert text(planned(census((SCHNELL, 12)), account=Account(problem="not asked: no key"), free=10**9)) == (
        "p.csv: 12 items\n"
        "to be sent: 12 requests for 12 pictures\n"
        "  black-forest-labs/FLUX.1-schnell: 12 pictures at $0.0019 (the built-in price)\n"
        "cost: $0.0228\n"
        "at worst: $0.0456, if every reply is lost and each picture is paid for 2 times\n"
        "balance: not known (not asked: no key)\n"
        "time: about 7 s with 16 at a time, if each takes 4 s and the account's limits allow it\n"
        "disk: about 18.9 MB (an estimate: 1.5 bytes a pixel); 1 GB are free"
    )


def test_a_hundred_thousand_prompts_at_two_thousand_a_day():
    """The daily limit decides, and the day on which it ends is named."""
    account = Account(balance=Decimal("200.005"), prices={SCHNELL: Decimal("0.002")}, offered=frozenset({SCHNELL}))
    plan = planned(census((SCHNELL, 100_000)), Config(tier="engineer-3"), account=account, free=10**11)
    assert text(plan) == (
        "p.csv: 100,000 items\n"
        "to be sent: 100,000 requests for 100,000 pictures\n"
        "  black-forest-labs/FLUX.1-schnell: 100,000 pictures at $0.002 (the account's price)\n"
        "cost: $200.00\n"
        "at worst: $400.00, if every reply is lost and each picture is paid for 2 times\n"
        "balance: $200.005, of which about $0.005 will be left\n"
        "time: about 2 h 50 min at 588 requests a minute (the account's limit, less some headroom)\n"
        "days: 50 at 2,000 requests a day, which begins at 00:00 UTC, until 2027-01-09\n"
        "disk: about 157 GB (an estimate: 1.5 bytes a pixel); 100 GB are free: too little"
    )
    assert (50, False) == (plan.duration.days, plan.fits_disk)


def test_a_price_that_is_not_known_is_never_zero():
    """The cost is at least what is known, and so is what is left of the balance at most that."""
    found = census((SCHNELL, 2), ("a/b", 3))
    plan = planned(found, Config(retry=RetryPolicy(resend_unknown=0)), account=Account(balance=Decimal(1)))
    assert text(plan) == (
        "p.csv: 5 items\n"
        "to be sent: 5 requests for 5 pictures\n"
        "  black-forest-labs/FLUX.1-schnell: 2 pictures at $0.0019 (the built-in price)\n"
        "  a/b: 3 pictures at a price that is not known\n"
        "cost: at least $0.0038, and 3 pictures without a known price\n"
        "balance: $1.00, of which at most $0.9962 will be left\n"
        "time: about 6 s with 16 at a time, if each takes 4 s and the account's limits allow it\n"
        "disk: about 7.87 MB (an estimate: 1.5 bytes a pixel)\n"
        "note: a/b is not in the catalogue: its parameters are sent unchecked (3 items)"
    )
    told = plan_json(plan)
    assert {"at_least": "0.0038", "total": None, "at_worst": None, "pictures_without_price": 3} == told["cost"]
    assert "cost: not known\n" in text(planned(census(("a/b", 3))))


def test_all_that_is_doubtful_is_told():
    """Repeated, settled and bad rows, ignored parameters, a small balance, and a budget that will not do."""
    found = census(
        (SDXL, 1_000),
        total=1_200,
        settled={"done": 198, "rejected": 2},
        repeated=frozenset({7}),
        problems=Counter({f"{SDXL} does not honour seed": 1_000}),
        bad=(BadLine(3, "prompt must be given", "p.csv"),),
        bad_count=2,
    )
    plan = planned(
        found,
        Config(idempotency="replay", tier="expert-1"),
        account=Account(balance=Decimal("8.5"), offered=frozenset({SCHNELL})),
        budget=Budget(max_cost=9, max_images=999, max_requests=1_000),
        spent=Spent(Decimal("0.001"), 0, 1),
        free=0,
    )
    assert text(plan) == (
        "p.csv: 1,200 items\n"
        "there twice, and made once: 1\n"
        "not sent again: 198 done, 2 refused\n"
        "to be sent: 1,000 requests for 1,000 pictures\n"
        "  stabilityai/stable-diffusion-xl-base-1.0: 1,000 pictures at $0.009 (the built-in price)\n"
        "cost: $9.00\n"
        "balance: $8.50: too little, $0.50 are missing\n"
        "budget: --max-cost ends the job before all is made\n"
        "budget: --max-images ends the job before all is made\n"
        "budget: --max-requests ends the job before all is made\n"
        "time: about 45 s at 1470 requests a minute (the account's limit, less some headroom)\n"
        "disk: about 1.57 GB (an estimate: 1.5 bytes a pixel); 0 bytes are free: too little\n"
        "note: stabilityai/stable-diffusion-xl-base-1.0 is not in the API's list of models (1,000 items)\n"
        "note: stabilityai/stable-diffusion-xl-base-1.0 does not honour seed (1,000 items)\n"
        "nothing can be sent; lines to mend: 2\n"
        "  p.csv:3: prompt must be given\n"
        "  … and 1 more"
    )


def test_nothing_left_to_send():
    """A job that is done costs nothing, takes no time and no room."""
    assert text(planned(census(total=3, settled={"done": 3}), free=1)) == (
        "p.csv: 3 items\nnot sent again: 3 done\nto be sent: 0 requests for 0 pictures\ncost: $0.00\nbalance: not known"
    )


def test_a_price_that_must_be_known_is_asked_for():
    """With a limit of money, a model without a price is named, with what can be done about it."""
    found = census(("a/b", 3))
    assert "the price of a/b is not known" in str(planned(found, budget=Budget(max_cost=1)).budget_problem)
    allowed = planned(found, budget=Budget(max_cost=1, allow_unknown_prices=True))
    assert (None, ()) == (allowed.budget_problem, allowed.used_up_by)


@pytest.mark.parametrize(
    ("requests", "now", "used", "seconds", "days"),
    [
        (0, 0, 0, 0, 0),
        (200, 0, 0, 200 / 0.98 + EXPECTED_SECONDS, 1),
        (200, 0, 1, DAY + 1 / 0.98 + EXPECTED_SECONDS, 2),
        (400, 0, 0, DAY + 200 / 0.98 + EXPECTED_SECONDS, 2),
        (401, 0, 0, 2 * DAY + 1 / 0.98 + EXPECTED_SECONDS, 3),
        (200, 0, 200, DAY + 200 / 0.98 + EXPECTED_SECONDS, 1),
        (200, 0, 900, DAY + 200 / 0.98 + EXPECTED_SECONDS, 1),
        (200, DAY - 100, 0, 100 + 102 / 0.98 + EXPECTED_SECONDS, 2),
    ],
)
def test_the_days_end_at_midnight_utc(requests, now, used, seconds, days):
    """What is left of today counts, as much of it as the clock and the limit allow."""
    found = census((SCHNELL, requests)) if requests else census()
    lasting = planned(found, Config(tier="engineer-1"), now=MIDNIGHT + now, used_today=used).duration
    assert (days, pytest.approx(seconds)) == (lasting.days, lasting.seconds)


@given(
    st.integers(1, 10**6),
    st.floats(1, 3_000),
    st.none() | st.integers(1, 10_000),
    st.floats(0, DAY - 1),
    st.integers(0, 20_000),
)
def test_the_limits_are_never_passed(requests, per_minute, per_day, now, used):
    """No plan promises more than the limits allow, nor waits for days that it does not need."""
    config = Config(tier=Tier("t", per_minute, per_day), concurrency=256)
    lasting = planned(census((SCHNELL, requests)), config, now=now, used_today=used).duration
    assert lasting.seconds * lasting.per_minute / 60 >= requests * (1 - 1e-9)
    touched = (now + lasting.seconds - EXPECTED_SECONDS) // DAY + 1
    assert lasting.days <= touched <= lasting.days + 1
    if per_day is not None:
        assert lasting.days * per_day >= requests


def test_a_lower_concurrency_takes_longer_than_the_limit():
    """One request at a time does not use a limit of 600 a minute."""
    lasting = planned(census((SCHNELL, 150)), Config(tier="engineer-3"), concurrency=1).duration
    assert (15, False, 600 + EXPECTED_SECONDS) == (lasting.per_minute, lasting.is_limited, lasting.seconds)


def test_a_plan_as_json():
    """A program reads the same: money as text, what is not known as null."""
    plan = planned(census((SCHNELL, 1)), account=Account(balance=Decimal("1.50")), free=5)
    assert plan_json(plan) == {
        "name": "p.csv",
        "items": 1,
        "repeated": 0,
        "settled": {},
        "to_send": {"requests": 1, "pictures": 1},
        "models": [
            {
                "dialect": "serverless",
                "model": SCHNELL,
                "requests": 1,
                "pictures": 1,
                "price": "0.0019",
                "price_source": "catalogue",
                "cost": "0.0019",
                "problem": None,
            }
        ],
        "cost": {"at_least": "0.0019", "total": "0.0019", "at_worst": "0.0038", "pictures_without_price": 0},
        "balance": "1.50",
        "balance_left": "1.4981",
        "account_problem": None,
        "used_up_by": [],
        "budget_problem": None,
        "seconds": 4.2,
        "sending_seconds": 4.2,
        "days": 1,
        "requests_per_minute": 240.0,
        "is_limited_by_account": False,
        "requests_per_day": None,
        "concurrency": 16,
        "disk_bytes": 1_574_912,
        "free_bytes": 5,
        "notes": [],
        "bad_lines": 0,
        "bad": [],
    }
    bad = evolve(plan, bad=(BadLine(2, "x", "p.csv"),), bad_count=1)
    assert [{"line": 2, "problem": "x"}] == plan_json(bad)["bad"]


@pytest.mark.parametrize(
    ("amount", "shown"), [("0", "$0.00"), ("0.0019", "$0.0019"), ("190.0000", "$190.00"), ("1228.5", "$1,228.50")]
)
def test_money_is_shown_exactly(amount, shown):
    """Two decimals, or as many as there are."""
    assert shown == dollars(Decimal(amount))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "1 s"),
        (59.5, "1 min"),
        (61, "1 min 1 s"),
        (600, "10 min"),
        (2 * HOUR + 61, "2 h 1 min"),
        (47 * HOUR, "47 h 0 min"),
        (2 * DAY, "2 days"),
    ],
)
def test_times_are_shown_in_their_largest_units(seconds, shown):
    """Nobody counts the seconds of hours."""
    assert shown == duration(seconds)


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 kB"), (999_999, "1 MB"), (3e15, "3e+03 TB")]
)
def test_sizes_are_shown_in_thousands(count, shown):
    """Disks are sold in thousands of bytes."""
    assert shown == size(count)
