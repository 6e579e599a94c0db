"""What is told of a job is what its ledger holds: by model, by cause, in time and in money, over all runs."""

from __future__ import annotations

import json
import math
from contextlib import closing
from decimal import Decimal
from random import Random

import pytest

from nebula_async.bulk.causes import AT_URL, UNDER_WAY
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.report import report_of
from nebula_async.bulk.shares import MOST_MODELS, OTHERS
from nebula_async.bulk.states import NewItem, Output, State
from nebula_async.bulk.summary import LONGEST_CAUSE, LONGEST_ERROR, MOST_CAUSES, Summary, summarize
from nebula_async.bulk.timeline import MOST_SLICES
from nebula_async.charges import Charges

DAY = 86_400.0


def add(ledger: Ledger, number: int, *, asked: int = 1, **request: object) -> None:
    """Let the job know an item."""
    text = json.dumps({"prompt": "a cat", "model": "flux", **request})
    ledger.add(
        NewItem(
            key=f"#{number}", number=number, beyond=10**6, body_sha="", asked=asked,
            name=lambda seq: f"images/{seq}", request=text,
        )
    )  # fmt: skip


def send(ledger: Ledger, number: int, *, at: float = 0.0, price: str | None = "0.1", is_replayed: bool = False) -> int:
    """Let an attempt leave."""
    return ledger.sending(number, f"key-{number}", at=at, is_replayed=is_replayed, price=price)


def finish(ledger: Ledger, number: int, n: int = 1, *, pictures: int = 1, seconds: float | None = 2.0) -> None:
    """Let an attempt be answered with pictures, which are stored."""
    ledger.ended(number, n, "answered", Charges(pictures, pictures), at=0.0, seconds=seconds)
    ledger.store(Output(seq=number, index=index, path=f"images/{number}-{index}", bytes=1) for index in range(pictures))
    ledger.move(number, State.DONE)


def fail(
    ledger: Ledger, number: int, state: State, cause: str, *, error: str = "no", charges: Charges | None = None
) -> None:
    """Let an attempt fail."""
    ledger.ended(number, 1, "failed", charges or Charges(), at=0.0, error=error, cause=cause, seconds=0.5)
    ledger.move(number, state, error=error, cause=cause)


def summary_of(ledger: Ledger, total: int = 0) -> Summary:
    """Return the summary of a job with so many items."""
    return summarize(ledger, report_of(ledger, total))


def test_a_job_that_sent_nothing_has_nothing_to_tell(ledger):
    """No models, causes, times or money, and nothing fails for want of them."""
    found = summary_of(ledger, 5)
    assert ((), (), None, (), 0) == (found.models, found.causes, found.latency, found.timeline, found.requests)
    assert (None, None, Decimal(0), 0) == (found.started, found.ended, found.cost_at_most, found.unpriced)
    assert 5 == found.report.waiting


def test_each_model_has_its_share_and_the_shares_are_the_whole(ledger):
    """Items, pictures, charges and exact amounts are by model and API, and their sums are those of the job."""
    for number, request in enumerate(
        ({}, {}, {}, {"model": "sdxl", "dialect": "inference"}, {"model": "sdxl", "dialect": "serverless"})
    ):
        add(ledger, number, **request)
        send(ledger, number, price={0: "0.1", 1: "0.2"}.get(number, None if number == 3 else "0.0019"))
    finish(ledger, 0)
    finish(ledger, 1)
    fail(ledger, 2, State.UNKNOWN, "OutcomeUnknownError", charges=Charges(0, 1))
    finish(ledger, 3)
    fail(ledger, 4, State.REJECTED, "BadRequestError")

    found = summary_of(ledger, 5)
    flux, *others = found.models
    assert ("serverless", "flux", 3, 2, 1, 2) == (
        flux.dialect, flux.model, flux.items, flux.done, flux.failed, flux.pictures,
    )  # fmt: skip
    assert (Charges(2, 3), Decimal("0.3"), Decimal("0.3019")) == (flux.charges, flux.cost_at_least, flux.cost_at_most)
    assert [("inference", 1, Decimal(0)), ("serverless", 0, Decimal(0))] == [
        (share.dialect, share.unpriced, share.cost_at_most) for share in others
    ]
    assert (Decimal("0.3"), Decimal("0.3019"), 1) == (found.cost_at_least, found.cost_at_most, found.unpriced)
    assert found.report.charges == sum((share.charges for share in found.models), Charges())


def test_attempts_under_a_replayed_key_cost_once(ledger):
    """Where the server promises one charge for a key, two attempts under it are one purchase."""
    add(ledger, 0, asked=2)
    for n in (1, 2):
        send(ledger, 0, is_replayed=True)
        ledger.ended(0, n, "a verdict", Charges(0, 2) if n == 1 else Charges(2, 2), at=1.0)
    found = summary_of(ledger, 1)
    assert (Decimal("0.2"), Decimal("0.2")) == (found.cost_at_least, found.cost_at_most)


def test_what_is_under_way_may_cost_its_price(ledger):
    """A request that has not ended is money that may be spent, and its item is neither done nor failed."""
    add(ledger, 0, asked=3)
    send(ledger, 0)
    found = summary_of(ledger, 1)
    assert (Decimal(0), Decimal("0.3")) == (found.cost_at_least, found.cost_at_most)
    assert (1, 0, 0) == (found.models[0].items, found.models[0].done, found.models[0].failed)
    ((state, cause, charges),) = [(cause.state, cause.cause, cause.charges) for cause in found.causes]
    assert (State.SENT, UNDER_WAY, Charges(0, 3)) == (state, cause, charges)


def test_what_is_asked_for_no_more_still_cost_money(ledger):
    """Items that left the input are not counted; what was paid for them is."""
    for number in range(2):
        add(ledger, number)
        send(ledger, number)
        finish(ledger, number)
    ledger.set_listed("#1", is_listed=False)
    found = summary_of(ledger, 1)
    assert (1, 1, 2, Decimal("0.2")) == (
        found.models[0].items, found.models[0].done, found.models[0].pictures, found.cost_at_most,
    )  # fmt: skip


def test_prices_and_models_that_cannot_be_read_end_nothing(ledger):
    """A ledger that was rebuilt from what others wrote may hold anything: then a price is not known."""
    for number, price in enumerate(("five", "NaN", "-1", "Infinity")):
        add(ledger, number, model=None if number else {"odd": 1})
        send(ledger, number, price=price)
        finish(ledger, number)
    found = summary_of(ledger, 4)
    assert (Decimal(0), 4) == (found.cost_at_most, found.unpriced)
    assert {"not known", '{"odd":1}'} == {share.model for share in found.models}


def test_models_beyond_a_hundred_are_told_together(ledger):
    """The list stays readable and bounded, and adds up."""
    for number in range(MOST_MODELS + 7):
        add(ledger, number, model=f"model-{number}")
        send(ledger, number)
        finish(ledger, number)
    found = summary_of(ledger, MOST_MODELS + 7)
    assert (MOST_MODELS + 1, OTHERS, 7) == (len(found.models), found.models[-1].model, found.models[-1].items)
    assert Decimal("0.1") * (MOST_MODELS + 7) == found.cost_at_most


def test_failures_are_grouped_by_their_cause(ledger):
    """The most frequent cause comes first, with an example, how many texts there are, what it cost and what to do."""
    for number in range(5):
        add(ledger, number)
        send(ledger, number)
    fail(ledger, 0, State.BAD, "UnusableReplyError", charges=Charges(1, 1))
    for number in range(1, 4):
        error = f"the size {number} is not supported"
        fail(ledger, number, State.REJECTED, "BadRequestError invalid_size", error=error)
    fail(ledger, 4, State.UNKNOWN, "OutcomeUnknownError", charges=Charges(0, 1))
    first, *others = summary_of(ledger, 5).causes
    assert (State.REJECTED, "BadRequestError invalid_size", 3, 3) == (
        first.state, first.cause, first.items, first.texts,
    )  # fmt: skip
    assert "the size 1 is not supported" == first.error
    assert "--retry-failed" in first.next_step
    assert {("bad", Charges(1, 1)), ("unknown", Charges(0, 1))} == {(cause.state, cause.charges) for cause in others}
    assert ["--resend-unknown"] == [
        option for cause in others for option in ("--resend-unknown",) if option in cause.next_step
    ]


def test_causes_beyond_a_hundred_are_counted(ledger):
    """However many codes an API invents, the list is bounded, its texts are cut, and no item is lost from the sum."""
    for number in range(MOST_CAUSES + 3):
        add(ledger, number)
        send(ledger, number)
        fail(ledger, number, State.REJECTED, f"BadRequestError {number:05}{'x' * 10_000}", error="y" * 10_000)
    found = summary_of(ledger, MOST_CAUSES + 3)
    assert (MOST_CAUSES, 3) == (len(found.causes), found.more_causes)
    assert {(LONGEST_CAUSE, LONGEST_ERROR)} == {(len(cause.cause), len(cause.error)) for cause in found.causes}


def test_pictures_that_wait_at_their_urls_are_told(ledger):
    """They are paid for, and the same command fetches them."""
    add(ledger, 0)
    send(ledger, 0)
    ledger.ended(0, 1, "answered", Charges(1, 1), at=1.0, seconds=1.0)
    ledger.move(0, State.URLS)
    (cause,) = summary_of(ledger, 1).causes
    assert (AT_URL, "the same command fetches it, which is free") == (cause.cause, cause.next_step)


def test_latency_is_by_nearest_rank_of_what_was_measured(ledger):
    """Every figure is one that was measured; refusals and failures do not make the API look fast."""
    source = Random(7)  # noqa: S311 - the same in every run
    measured = [source.lognormvariate(1, 0.5) for _ in range(137)]
    for number, seconds in enumerate(measured):
        add(ledger, number)
        send(ledger, number)
        finish(ledger, number, seconds=seconds)
    add(ledger, 200)
    send(ledger, 200)
    ledger.ended(200, 1, "throttled", Charges(), at=1.0, seconds=0.001)
    add(ledger, 201)
    send(ledger, 201)
    finish(ledger, 201, seconds=None)  # found by a later run

    found = summary_of(ledger, 139)
    ordered = sorted(measured)
    expected = [ordered[math.ceil(share * 137) - 1] for share in (0.5, 0.9, 0.99, 1)]
    latency = found.latency
    assert (137, expected) == (latency.requests, [latency.p50, latency.p90, latency.p99, latency.longest])
    assert (139, 1) == (found.requests, found.refusals)


def test_one_answer_is_all_percentiles(ledger):
    """A job of one picture has one time."""
    add(ledger, 0)
    send(ledger, 0)
    finish(ledger, 0, seconds=3.5)
    latency = summary_of(ledger, 1).latency
    assert (1, 3.5, 3.5) == (latency.requests, latency.p50, latency.longest)


@pytest.mark.parametrize("length", [0.4, 59, 120, 119.99, 7_000, DAY, 90 * DAY, 1_000 * DAY])
def test_the_slices_of_a_run_are_few_and_add_up(ledger, length):
    """Whether a run took a moment or a year, there are 120 slices at most, none is empty of meaning, and all is in
    them.
    """
    for number in range(50):
        add(ledger, number)
        send(ledger, number, at=1_000.25 + length * number / 49)
        finish(ledger, number, pictures=1, seconds=0.0)
    slices = summary_of(ledger, 50).timeline
    assert 1 <= len(slices) <= MOST_SLICES
    assert 50 == sum(each.pictures for each in slices)
    assert 1_000.25 == slices[0].start
    assert slices[-1].start <= 1_000.25 + length <= slices[-1].start + slices[-1].seconds
    assert {0.0, None} >= {each.p50_seconds for each in slices}


def test_pauses_between_runs_are_left_out(ledger):
    """A job that was stopped for a week shows the minutes in which it ran, each where it was."""
    for run, start in enumerate((1_000.0, 1_000.0 + 7 * DAY)):
        ledger.tell(start - 1, "opened", "process 1")
        for second in range(60):
            number = 100 * run + second
            add(ledger, number)
            send(ledger, number, at=start + second)
            finish(ledger, number, seconds=1.0)
    slices = summary_of(ledger, 120).timeline
    assert (120, 120) == (sum(each.pictures for each in slices), sum(each.seconds for each in slices) - 2)
    assert {True} == {each.start < 1_062 or each.start > 7 * DAY for each in slices}
    assert {1.0, None} >= {each.p50_seconds for each in slices}


def test_a_wait_within_a_run_is_shown(ledger):
    """A run that waited for the next day did so for hours, and the slices say it."""
    ledger.tell(0.5, "opened", "process 1")
    for number, at in enumerate((1.0, 1.0 + 6 * 3_600)):
        add(ledger, number)
        send(ledger, number, at=at)
        finish(ledger, number, seconds=2.0)
    slices = summary_of(ledger, 2).timeline
    assert [1, 1] == [each.pictures for each in slices if each.pictures]
    assert len([each for each in slices if not each.pictures]) > 50


def test_each_slice_tells_pictures_failures_and_refusals_apart(ledger):
    """What was refused as one too many is no failure."""
    for number, verdict in enumerate(("answered", "throttled", "server failed", "not sent")):
        add(ledger, number, asked=2)
        send(ledger, number, at=1.0)
        ledger.ended(number, 1, verdict, Charges(2, 2) if not number else Charges(), at=2.0, seconds=0.5)
    (each,) = summary_of(ledger, 4).timeline
    assert (2, 2, 1, 0.5) == (each.pictures, each.failures, each.refusals, each.p50_seconds)


def test_a_clock_that_was_set_back_ends_nothing(ledger):
    """Whatever the clock of the machine did, all is in the slices."""
    for run, start in enumerate((5_000.0, 100.0, 9_000.0)):
        ledger.tell(start, "opened", "process 1")
        for step in range(10):
            number = 100 * run + step
            add(ledger, number)
            send(ledger, number, at=start + step - 5)
            finish(ledger, number, seconds=300.0)
    slices = summary_of(ledger, 30).timeline
    assert (30, True) == (sum(each.pictures for each in slices), len(slices) <= MOST_SLICES)


def test_a_reader_sees_one_moment_of_a_job_that_runs(path, ledger):
    """Beside the writer, counts, models and money are of the same moment."""
    for number in range(3):
        add(ledger, number)
        send(ledger, number)
        finish(ledger, number)
    with closing(Ledger.read(path)) as reader, reader.together():
        before = summary_of(reader, 9)
        add(ledger, 3)
        send(ledger, 3)
        finish(ledger, 3)
        assert before == summary_of(reader, 9)
    with closing(Ledger.read(path)) as reader:
        assert 4 == summary_of(reader, 9).models[0].done
