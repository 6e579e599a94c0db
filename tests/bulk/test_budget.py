"""A budget is never overspent, whatever is under way at a time, and nothing that comes back is lost."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from nebula_async.bulk.budget import Budget, DuplicateBudget, Purse, Spent
from nebula_async.charges import Charges
from nebula_async.errors import BudgetExceededError, ConfigurationError, JobError

PRICE = Decimal("0.0019")


@pytest.mark.parametrize(
    ("written", "amount"),
    [("5", "5"), ("$5", "5"), (" 2.50 ", "2.50"), (5, "5"), (0.0019, "0.0019"), (Decimal("1.5"), "1.5"), (None, None)],
)
def test_an_amount_may_be_written_as_people_write_it(written, amount):
    """Dollars come with or without their sign, as text, as a number or exactly."""
    assert (None if amount is None else Decimal(amount)) == Budget(max_cost=written).max_cost


@pytest.mark.parametrize("written", ["", "five", "5,00", "-1", "0", "$0.00", "nan", "1e3", 0, -2.5, float("inf"), True])
def test_what_is_no_amount_is_refused(written):
    """Nothing, less than nothing and what is no number cannot be meant."""
    with pytest.raises(ConfigurationError, match=r"^max_cost must be USD above 0, such as 5 or 2\.50; got "):
        Budget(max_cost=written)


@pytest.mark.parametrize("name", ["max_images", "max_requests"])
@pytest.mark.parametrize("count", [0, -1, 2.5, "3", True])
def test_what_is_no_count_is_refused(name, count):
    """A limit of pictures or requests is a whole number above 0."""
    with pytest.raises(ConfigurationError, match=f"^{name} must be a whole number from 1 to "):
        Budget(**{name: count})


def test_money_is_reserved_before_and_settled_after():
    """A request that was not charged gives all back, one of unknown outcome counts as paid for."""
    purse = Purse(Budget(max_cost=Decimal("0.005")))
    assert [True, True, False] == [purse.reserve(1, PRICE) for _ in range(3)]
    purse.settle(1, PRICE, Charges(0, 0))
    assert purse.reserve(1, PRICE)
    purse.settle(1, PRICE, Charges(0, 1))
    purse.settle(1, PRICE, Charges(1, 1))
    assert (Spent(2 * PRICE, 2), Spent(Decimal(0))) == (purse.spent, purse.reserved)
    with pytest.raises(BudgetExceededError) as refused:
        purse.reserve(1, PRICE)
    assert (
        "the budget of $0.005 has no room for $0.0019 more: $0.0038 is, or may be, spent; give more, and repeat to"
        " go on" == str(refused.value)
    )


def test_what_can_never_fit_is_refused_at_once():
    """A request for more pictures than the budget has left does not wait for what others give back."""
    purse = Purse(Budget(max_images=3), Spent(images=1))
    assert purse.reserve(2, None)
    assert not purse.reserve(1, None)
    with pytest.raises(BudgetExceededError, match="of 3 pictures has no room for 3 more: 1 are, or may be, paid for;"):
        purse.reserve(3, None)


def test_what_earlier_runs_spent_counts():
    """A budget for the job's life goes on where the run before ended."""
    purse = Purse(Budget(max_cost="1", max_images=10, max_requests=5), Spent(Decimal("0.999"), 3, 5))
    assert not purse.may_request
    with pytest.raises(BudgetExceededError, match=r"^the budget of 5 requests is used up; give more, and repeat"):
        purse.request()
    with pytest.raises(BudgetExceededError, match=r"^the budget of \$1 has no room for \$0\.0019 more"):
        purse.reserve(1, PRICE)


def test_what_was_spent_is_summed_over_prices():
    """A job that went on through a change of prices has spent what each picture cost when it was asked for."""
    assert Spent(Decimal("0.048"), 10, 4) == Spent.of([("0.009", 3), (None, 6), ("0.021", 1)], 4)
    assert Spent() == Spent.of([], 0)


def test_requests_are_counted_one_by_one():
    """So many requests leave, whatever becomes of them."""
    purse = Purse(Budget(max_requests=2))
    purse.request()
    purse.request()
    assert (2, False) == (purse.spent.requests, purse.may_request)


def test_without_a_limit_everything_is_counted_and_nothing_refused():
    """A job without a budget still knows what it spends."""
    purse = Purse(Budget())
    assert all(purse.reserve(10, PRICE) for _ in range(1_000))
    purse.request()
    purse.settle(10, PRICE, Charges(10, 20))
    assert Spent(20 * PRICE, 20, 1) == purse.spent


def test_a_price_that_is_not_known_cannot_be_kept_to():
    """With a limit of money such pictures are refused by the model's name, unless they may count as free."""
    with pytest.raises(
        JobError, match=r"^the price of a/b is not known, so max_cost cannot be kept; .*--allow-unknown"
    ):
        Purse(Budget(max_cost=1)).reserve(1, None, model="a/b")
    with pytest.raises(JobError, match=r"^the price of a/b, c/d is not known"):
        Budget(max_cost=1).check_prices(["c/d", "a/b", "c/d"])
    assert Purse(Budget(max_cost=1, allow_unknown_prices=True)).reserve(1, None, model="a/b")
    assert Purse(Budget(max_images=1)).reserve(1, None, model="a/b")
    Budget(max_cost=1).check_prices([])


class SpendingMachine(RuleBasedStateMachine):
    """Requests of several models that reserve, are sent, and are refused, lost or charged, in any order."""

    under_way = Bundle("under_way")

    def __init__(self):
        """Begin with a small budget."""
        super().__init__()
        self.budget = Budget(max_cost=Decimal("0.10"), max_images=37)
        self.purse = Purse(self.budget)
        self.images, self.cost, self.reserved = 0, Decimal(0), 0

    @rule(target=under_way, pictures=st.integers(1, 10), price=st.sampled_from(["0", "0.0019", "0.009", "0.021"]))
    def reserve(self, pictures, price):
        """Reserve, and check that it is granted exactly where it fits."""
        price = Decimal(price)
        fits_alone = self.images + pictures <= 37 and self.cost + pictures * price <= Decimal("0.10")
        try:
            granted = self.purse.reserve(pictures, price)
        except BudgetExceededError:
            assert not fits_alone
            return (0, price)
        held = self.purse.reserved.cost - pictures * price * granted
        fits = self.images + self.reserved + pictures <= 37 and self.cost + held + pictures * price <= Decimal("0.10")
        assert (True, fits) == (fits_alone, granted)
        self.reserved += pictures * granted
        return (pictures * granted, price)

    @rule(request=consumes(under_way), outcome=st.sampled_from(["refused", "lost", "made"]), part=st.integers(0, 10))
    def settle(self, request, outcome, part):
        """End a request; one that is charged is charged for what it asked for, or for less."""
        pictures, price = request
        if not pictures:
            return
        most = 0 if outcome == "refused" else max(pictures - part, 1)
        self.purse.settle(pictures, price, Charges(most if outcome == "made" else 0, most))
        self.images, self.cost, self.reserved = self.images + most, self.cost + most * price, self.reserved - pictures

    @invariant()
    def nothing_is_overspent(self):
        """What is spent and what is reserved never pass the limit, and both are counted exactly."""
        assert (self.images, self.cost) == (self.purse.spent.images, self.purse.spent.cost)
        assert self.reserved == self.purse.reserved.images
        assert self.images + self.reserved <= 37
        assert self.cost + self.purse.reserved.cost <= Decimal("0.10")


TestSpending = SpendingMachine.TestCase
TestSpending.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@pytest.mark.anyio
@pytest.mark.parametrize("fails", [lambda turn: turn < 0, lambda turn: turn % 3 == 0, lambda turn: turn % 7 < 4])
async def test_sixty_four_at_a_time_spend_exactly_the_budget(fails):
    """With 64 workers and room for 37 pictures, 37 are charged and never 38, however many were refused between."""
    purse, charged, turns, freed = Purse(Budget(max_images=37)), [], iter(range(10_000)), anyio.Event()

    async def work():
        nonlocal freed
        while True:
            while not purse.reserve(1, PRICE):
                await freed.wait()
            await anyio.lowlevel.checkpoint()
            is_refused = fails(next(turns))
            charged.extend([] if is_refused else [1])
            purse.settle(1, PRICE, Charges(0, 0) if is_refused else Charges(1, 1))
            freed.set()
            freed = anyio.Event()

    async def until_refused():
        with pytest.raises(BudgetExceededError):
            await work()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(64):
                group.start_soon(until_refused)
    assert (37, 37, 0) == (len(charged), purse.spent.images, purse.reserved.images)


@pytest.mark.parametrize(("images", "allowed"), [(0, 1), (10, 1), (199, 1), (300, 3), (100_000, 1_000)])
def test_one_in_a_hundred_may_be_paid_for_twice(images, allowed):
    """What is sent again unasked is one picture in a hundred of the job, and at least one (D3)."""
    budget = DuplicateBudget(images)
    assert [True] * allowed + [False, False] == [budget.take(1) for _ in range(allowed + 2)]


@given(st.integers(0, 10_000), st.lists(st.integers(1, 10)), st.integers(0, 50))
def test_the_duplicate_budget_is_never_passed(images, requests, taken):
    """Requests for several pictures count for each of them, also over the runs of a job (D3)."""
    budget = DuplicateBudget(images, taken)
    granted = sum(pictures for pictures in requests if budget.take(pictures))
    assert granted <= max(0, max(1, images // 100) - taken)
    assert taken + granted == budget.taken
