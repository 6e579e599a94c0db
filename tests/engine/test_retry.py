"""Again or not, and when, is decided by numbers alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import seeded

from nebula_async.charges import Charges
from nebula_async.config import RetryPolicy
from nebula_async.engine.retry import (
    BACKOFFS,
    LONG,
    PRICE,
    SHORT,
    Backoff,
    History,
    RetryBudget,
    delay_before_next,
    jittered_upward,
)
from nebula_async.engine.verdict import CERTAINLY_FREE, PERHAPS_PAID, Known, Verdict
from nebula_async.errors import OutcomeUnknownError, ServerError

ENDED = (Known.PAID_UNUSABLE, Known.REFUSED, Known.FATAL)


def verdict(known: Known, retry_after: float | None = None, *, retryable: bool = True) -> Verdict:
    """Return a verdict of this class."""
    return Verdict(known, ServerError("failed", retryable=retryable, status=503, retry_after=retry_after))


def tried(*knowns: Known, pictures: int = 1, is_replayed: bool = False) -> History:
    """Return the history of a call whose attempts ended like this."""
    history = History(pictures, is_replayed)
    for known in knowns:
        history.add(verdict(known), is_counted=True)
    return history


def may_repeat(*knowns: Known, idempotency="off", pictures: int = 1, **policy) -> bool:
    """Whether there is one more attempt after these."""
    history = tried(*knowns, pictures=pictures)
    last = verdict(knowns[-1])
    return delay_before_next(last, history, RetryPolicy(**policy), idempotency, seeded(1)) is not None


@pytest.mark.parametrize("known", Known)
def test_what_is_repeated(known):
    """What was certainly free and what may have been paid is tried again; what was paid for or refused is not."""
    assert (known not in ENDED) == may_repeat(known)
    assert (known in CERTAINLY_FREE) == may_repeat(known, resend_unknown=0)


A, L, G = Known.UNKNOWN, Known.PAID_LOST, Known.SERVER_FAILED
N, T, FAST = Known.NOT_SENT, Known.THROTTLED, Known.GATEWAY_REFUSED


@pytest.mark.parametrize(
    ("resend_unknown", "knowns", "again"),
    [
        (0, (A,), False),
        (0, (L,), False),
        (0, (G,), False),
        (0, (T, N, FAST, G), False),
        (1, (A,), True),
        (1, (A, L), False),
        (1, (L, G), False),
        (1, (G, A), False),
        (1, (A, T), True),
        (1, (A, T, A), False),
        (1, (A, N, FAST), True),
        (2, (A, L), True),
        (2, (A, L, G), False),
    ],
)
def test_one_allowance_for_all_that_may_be_paid(resend_unknown, knowns, again):
    """A call is paid for at most `1 + resend_unknown` times, whatever mix of failures it meets."""
    assert again == may_repeat(*knowns, attempts=10, resend_unknown=resend_unknown)


@pytest.mark.parametrize("known", sorted(CERTAINLY_FREE | PERHAPS_PAID, key=str))
def test_attempts_are_bounded(known):
    """No call makes more attempts than its policy says, also where all of them were free."""
    assert [True, True, False] == [may_repeat(*[known] * count, attempts=3, resend_unknown=100) for count in (1, 2, 3)]


def test_attempts_that_do_not_count_are_left_out():
    """A patient call that is throttled has all its attempts left."""
    history = History(1)
    for _ in range(50):
        history.add(verdict(T), is_counted=False)

    assert delay_before_next(verdict(T), history, RetryPolicy(attempts=2), "off", seeded(1)) is not None


def test_a_replayed_key_may_be_sent_again():
    """Where the server replays keys, what may have been paid is repeated like anything else; elsewhere it is not."""
    assert may_repeat(A, L, resend_unknown=0, idempotency="replay")
    assert not may_repeat(A, resend_unknown=0, idempotency="unknown")
    assert not may_repeat(A, L, G, resend_unknown=0, idempotency="replay", attempts=3)


def test_what_costs_nothing_is_only_bounded_by_attempts():
    """A request that asks for no picture is never paid for, so a lost reply may be asked for again."""
    assert may_repeat(A, A, pictures=0, resend_unknown=0)


def test_a_final_error_is_final():
    """What a verdict calls final is not repeated, whatever its class."""
    final = verdict(N, retryable=False)

    assert delay_before_next(final, tried(N), RetryPolicy(), "off", seeded(1)) is None


@pytest.mark.parametrize(("asked", "again"), [(119.0, True), (120.0, True), (120.1, False)])
@pytest.mark.parametrize("known", [T, G, FAST])
def test_longest_delay(known, asked, again):
    """A longer wait than the policy allows ends the call at once, with the wait on its error."""
    delay = delay_before_next(verdict(known, asked), tried(known), RetryPolicy(), "off", seeded(1))

    assert again == (delay is not None)


def test_a_delay_asked_for_is_never_cut_short():
    """Jitter on a wait that the server names goes upward only, by a tenth and a quarter of a second, at most 5 s."""
    source = seeded(3)
    for asked, most in ((0.5, 0.3), (10, 1.25), (100, 5)):
        drawn = [jittered_upward(asked, source) for _ in range(500)]

        assert asked <= min(drawn)
        assert asked + most >= max(drawn)
        assert most / 2 < max(drawn) - min(drawn)


def test_a_moment_that_is_past_is_no_delay():
    """A Retry-After of nothing is no licence to storm: the own back-off is used."""
    delays = [delay_before_next(verdict(G, 0.0), tried(G), RetryPolicy(), "off", seeded(seed)) for seed in range(200)]

    assert max(delays) > 0.4


@pytest.mark.parametrize("known", BACKOFFS)
def test_backoff_doubles_up_to_its_cap(known):
    """Waits of our own are drawn from nothing to a bound, which doubles with each attempt up to 8 or 30 s."""
    base, cap = (2, 30) if known in (A, L) else (0.5, 8)
    source = seeded(5)
    for attempt in range(1, 8):
        drawn = [BACKOFFS[known].draw(attempt, source) for _ in range(300)]
        bound = min(cap, base * 2 ** (attempt - 1))

        assert bound * 0.9 < max(drawn) <= bound
        assert min(drawn) < bound * 0.1


def test_backoff_of_many_attempts_does_not_overflow():
    """The hundredth attempt waits no longer than the cap."""
    assert SHORT.cap >= SHORT.draw(10_000, seeded(1))
    assert LONG.cap >= Backoff(1e300, LONG.cap).draw(100, seeded(1))


def test_backoff_scales_and_can_be_taken_away():
    """`backoff` scales the waits that we choose: 0 takes them away, and leaves those that the server asks for."""
    for known in BACKOFFS:
        whole, tenth, none = (
            delay_before_next(verdict(known), tried(known), RetryPolicy(backoff=scale), "off", seeded(2))
            for scale in (1, 0.1, 0)
        )

        assert (pytest.approx(whole / 10), 0.0) == (tenth, none)
    assert delay_before_next(verdict(G, 3.0), tried(G), RetryPolicy(backoff=0), "off", seeded(2)) >= 3.0


def test_a_throttled_attempt_waits_at_the_gate():
    """Who is throttled does not sleep alone: the gate holds everyone."""
    assert 0.0 == delay_before_next(verdict(T, 3.0), tried(T), RetryPolicy(), "off", seeded(2))


def test_a_throttled_attempt_that_asks_for_no_picture_waits_for_itself():
    """The list of models is not behind the gate: refused, it is asked for again after a short wait of its own."""
    delays = [
        delay_before_next(verdict(T), tried(T, pictures=0), RetryPolicy(), "off", seeded(seed)) for seed in range(100)
    ]

    assert 0.25 < max(delays) <= SHORT.base


def test_a_call_begins_with_nothing_tried():
    """Its first attempt is its first, and its attempts are paid for one by one unless a server replays keys."""
    history = History(1)
    assert (0, 0, 0) == (history.attempts, history.counted, history.perhaps_paid)
    for _ in range(2):
        history.add(verdict(A), is_counted=True)
    assert Charges(0, 2) == history.charges


@pytest.mark.parametrize(
    ("knowns", "charges"),
    [
        ((N, T, FAST), Charges(0, 0)),
        ((A, L), Charges(1, 2)),
        ((L, G), Charges(1, 2)),
        ((G, A), Charges(0, 2)),
        ((A, T, A), Charges(0, 2)),
        ((L, L), Charges(2, 2)),
    ],
)
def test_charges_add_up(knowns, charges):
    """What a call may have cost is the sum over its attempts, for each picture that it asks for."""
    assert charges == tried(*knowns).charges
    assert charges * 3 == tried(*knowns, pictures=3).charges
    assert Charges(0, 0) == tried(*knowns, pictures=0).charges


def test_a_replayed_key_is_charged_once():
    """Under one replayed key all attempts together cost what the worst of them may."""
    assert Charges(0, 1) == tried(A, G, A, is_replayed=True).charges
    assert Charges(1, 1) == tried(A, L, A, is_replayed=True).charges


def test_errors_without_a_status_have_no_delay():
    """An attempt without a reply asks for no wait."""
    lost = Verdict(A, OutcomeUnknownError("lost", retryable=True))

    assert 0 <= delay_before_next(lost, tried(A), RetryPolicy(), "off", seeded(2)) <= 2


def test_a_budget_begins_full_and_is_earned():
    """Ten repetitions ahead of the successes, and a tenth of one for each success, up to ten."""
    budget = RetryBudget()
    assert [True] * 10 + [False] == [budget.take(10) for _ in range(11)]
    for _ in range(9):
        budget.earn()
    assert not budget.take(10)
    budget.earn()
    assert [True, False] == [budget.take(10) for _ in range(2)]
    for _ in range(1_000):
        budget.earn()
    assert 10 == sum(budget.take(10) for _ in range(100))


def test_without_a_budget_nothing_is_repeated():
    """`budget=0` repeats nothing."""
    assert not RetryBudget().take(0)


@given(st.lists(st.booleans(), max_size=2_000))
def test_a_budget_bounds_what_is_sent_on_top(outcomes):
    """However successes and failures mix, repetitions stay within a tenth of the successes and the ten of the start."""
    budget = RetryBudget()
    taken = 0
    for succeeded in outcomes:
        if succeeded:
            budget.earn()
        else:
            taken += budget.take(10)
    assert taken <= 10 + sum(outcomes) / PRICE
