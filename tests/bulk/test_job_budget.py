"""A job never spends more than it may, however many requests are in flight and whatever becomes of them."""

from __future__ import annotations

import pytest
from attrs import evolve
from jobs import CAREFUL, assert_within, opened, run, write

from nebula_async.bulk.budget import Budget
from nebula_async.config import Config, RetryPolicy
from nebula_async.errors import BudgetExceededError, ConfigurationError

pytestmark = pytest.mark.anyio

WIDE = Config(retry=RetryPolicy(backoff=0), concurrency=64)
FREE_FAULTS = ["429:0.1", "400:@9,30"]
PAID_FAULTS = ["drop:@2,11,20", "cut:@4", "malformed=base64:@6", "500:@8", "refuse:@7"]


@pytest.fixture
def hundred(tmp_path):
    """A hundred prompts."""
    return write(tmp_path, *(f"cat {number}" for number in range(100)))


async def test_a_budget_of_pictures_is_used_up_exactly_by_many_at_a_time(hundred, start):
    """64 in flight and room for 37: exactly 37 are charged, however slowly they come, and the job says why it ends."""
    emulator = start(faults=["delay=0.2:0.5"])
    report = await run(hundred, emulator, config=WIDE, budget=Budget(max_images=37))
    assert (37, 37, 63, 3) == (emulator.journal.charged, report.done, report.waiting, report.exit_code)
    assert isinstance(report.stopped_by, BudgetExceededError)
    assert "the budget of 37 pictures has no room for 1 more: 37 are, or may be, paid for" in str(report.stopped_by)


async def test_what_is_refused_gives_its_room_back(hundred, start):
    """Refusals cost nothing: the pictures that they leave room for are made."""
    emulator = start(faults=FREE_FAULTS)
    report = await run(hundred, emulator, config=WIDE, budget=Budget(max_images=37))
    assert (37, 37, 3) == (emulator.journal.charged, report.done, report.exit_code)


@pytest.mark.parametrize("resend_unknown", [0, 1])
async def test_no_fault_makes_a_job_spend_more(hundred, start, resend_unknown):
    """What may have been paid for is counted as paid, its repetition too: the limit holds, and is used."""
    emulator = start(faults=FREE_FAULTS + PAID_FAULTS)
    config = evolve(WIDE, retry=RetryPolicy(backoff=0, resend_unknown=resend_unknown))
    report = await run(hundred, emulator, config=config, budget=Budget(max_images=37))
    assert 37 - 5 <= emulator.journal.charged <= 37
    assert (37, 3) == (report.charges.at_most, report.exit_code)
    assert_within(emulator.journal.charged, report.charges)


async def test_a_budget_of_money_is_not_passed(hundred, emulator):
    """What fits into the money is made, and not one picture more."""
    report = await run(hundred, emulator, config=WIDE, budget=Budget(max_cost="$0.02"))
    assert (10, 3) == (emulator.journal.charged, report.exit_code)  # at $0.0019 each
    assert "the budget of $0.02 has no room for $0.0019 more: $0.0190 is, or may be, spent" in str(report.stopped_by)


async def test_a_budget_of_requests_counts_every_attempt(hundred, start):
    """Refusals and repetitions are requests, too; what was not sent waits."""
    emulator = start(faults=["429:@1-6"])
    report = await run(hundred, emulator, config=WIDE, budget=Budget(max_requests=20))
    assert (20, 3) == (len(emulator.journal.generations), report.exit_code)
    assert (emulator.journal.charged, 0, 0) == (report.done, report.unknown, report.rejected)


async def test_a_budget_is_for_the_life_of_the_job_or_for_a_run(hundred, emulator):
    """The same command goes on only with more of it, or where it is meant for each run."""
    for _ in range(2):
        report = await run(hundred, emulator, budget=Budget(max_images=5))
        assert (5, 3) == (report.done, report.exit_code)
    report = await run(hundred, emulator, budget=Budget(max_images=5, max_requests=9, per_run=True))
    assert (10, 3) == (report.done, report.exit_code)
    report = await run(hundred, emulator, budget=Budget(max_images=15))
    assert (15, 15) == (report.done, emulator.journal.charged)


async def test_what_may_have_been_paid_for_by_another_run_is_counted(manifest, start):
    """A reply that was lost in one run leaves no room in the next."""
    emulator = start(faults=["drop:@1-2"])
    await run(manifest, emulator, config=CAREFUL, budget=Budget(max_images=2))
    report = await run(manifest, emulator, config=CAREFUL, budget=Budget(max_images=2))
    assert (0, 2, 2) == (report.done, report.unknown, emulator.journal.charged)


async def test_a_budget_that_is_just_enough_ends_as_done(manifest, emulator):
    """Four pictures of four: nothing is short."""
    report = await run(manifest, emulator, budget=Budget(max_images=4, max_requests=4, max_cost="0.0076"))
    assert (4, 0, None) == (report.done, report.exit_code, report.stopped_by)


async def test_a_lost_reply_is_repeated_only_as_far_as_the_budget_goes(tmp_path, start):
    """With room for one picture a lost one is not asked for again, and no other one is sent in its place."""
    emulator = start(faults=["drop:@1"])
    report = await run(write(tmp_path, "a cat", "a dog"), emulator, budget=Budget(max_images=1), concurrency=1)
    assert (0, 1, 1, 3, 1) == (
        report.done, report.unknown, report.waiting, report.exit_code, emulator.journal.charged,
    )  # fmt: skip


@pytest.mark.parametrize("is_allowed", [False, True])
async def test_a_price_that_nobody_knows(manifest, emulator, is_allowed):
    """Where money is limited, a model without a known price is sent only when that is allowed."""
    unpriced = {"model": "someone/else"}
    budget = Budget(max_cost=1, allow_unknown_prices=is_allowed)
    report = await run(manifest, emulator, defaults=unpriced, budget=budget)
    assert ((), 3) == (emulator.journal.requests, report.exit_code) if not is_allowed else emulator.journal.requests
    assert is_allowed or "the price of someone/else is not known" in str(report.stopped_by)


@pytest.mark.parametrize("wrong", [{"max_images": 0}, {"max_cost": "much"}, {"max_requests": -1}])
async def test_a_budget_that_is_none_is_refused(wrong):
    """A limit that cannot be meant is said at once."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Budget(**wrong)


async def test_a_drained_job_waits_for_no_room(hundred, start):
    """What waits for the budget's room ends with the job."""
    emulator = start(faults=["delay=0.3:1"])
    async with opened(hundred, emulator, config=WIDE, budget=Budget(max_images=10)) as job:
        job.on_result = lambda _result: job.drain()
        report = await job.run()
    assert (10, 10) == (emulator.journal.charged, report.done)


async def test_all_pictures_of_an_item_need_room(tmp_path, emulator):
    """A request for three pictures is not sent where two fit; nor does it keep a job from ending."""
    three = {"dialect": "inference", "n": 3, "size": "64x64", "width": None, "height": None}
    report = await run(write(tmp_path, "a", "b"), emulator, defaults=three, budget=Budget(max_images=5))
    assert (3, 1, 1, 3) == (emulator.journal.charged, report.done, report.waiting, report.exit_code)
