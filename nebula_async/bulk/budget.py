"""What a job may spend: reserved before anything is sent, settled after. Pure: no clock, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from attrs import Attribute, define, field, frozen

from nebula_async.charges import Charges
from nebula_async.checks import Checks, shown
from nebula_async.errors import BudgetExceededError, ConfigurationError, JobError

check = Checks(ConfigurationError)

AMOUNT = re.compile(r"\$?([0-9]{1,12}(\.[0-9]{1,12})?)")
MOST = 10**12
DUPLICATES_IN = 100
"""One picture in so many may be paid for twice without the user's word."""


def _amount(given: Any) -> Any:
    """Return an amount of money as it is written, `"$5"` and `5.5` too, as a `Decimal`; anything else as it is."""
    if isinstance(given, bool | Decimal) or not isinstance(given, int | float | str):
        return given  # the validator says what is wrong with it
    found = AMOUNT.fullmatch(str(given).strip())
    return Decimal(found[1]) if found else given


def _check_amount(_budget: object, attribute: Attribute[Any], amount: object) -> None:
    if amount is None or (isinstance(amount, Decimal) and amount.is_finite() and 0 < amount <= MOST):
        return
    given = f"{amount:f}" if isinstance(amount, Decimal) else shown(amount)
    raise ConfigurationError(f"{attribute.name} must be USD above 0, such as 5 or 2.50; got {given}")


@frozen(kw_only=True)
class Budget:
    """What a job may spend: USD, pictures, requests; `None` is no limit.

    It is for the job's life, with `per_run` for each run anew. With `max_cost`, pictures without a known price are
    refused; `allow_unknown_prices` lets them be sent, and counts them as free. Raises `ConfigurationError`.
    """

    max_cost: Decimal | None = field(default=None, converter=_amount, validator=_check_amount)
    max_images: int | None = field(default=None, validator=check.whole(1, MOST, optional=True))
    max_requests: int | None = field(default=None, validator=check.whole(1, MOST, optional=True))
    per_run: bool = field(default=False, validator=check.flag())
    allow_unknown_prices: bool = field(default=False, validator=check.flag())

    def check_prices(self, unpriced: Iterable[str]) -> None:
        """Refuse models of which no price is known, where money is limited. Raises `JobError` that names them."""
        names = sorted(set(unpriced))
        if names and self.max_cost is not None and not self.allow_unknown_prices:
            raise JobError(
                f"the price of {', '.join(names)} is not known, so max_cost cannot be kept; limit max_images instead,"
                " or give --allow-unknown-prices (allow_unknown_prices=True), which counts such pictures as free"
            )


@frozen
class Spent:
    """What is spent, or reserved: USD, pictures, requests. Of an unknown outcome, the most that it may have cost."""

    cost: Decimal = Decimal(0)
    images: int = 0
    requests: int = 0

    @classmethod
    def of(cls, priced: Iterable[tuple[str | None, int]], requests: int) -> Spent:
        """Return what so many pictures at each price (USD as text, `None`: not known) and so many requests come to."""
        amounts = [_priced(pictures, None if price is None else Decimal(price)) for price, pictures in priced]
        return sum(amounts, cls(requests=requests))

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.cost + other.cost, self.images + other.images, self.requests + other.requests)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.cost - other.cost, self.images - other.images, self.requests - other.requests)


@define(eq=False)
class Purse:
    """What is left of a budget, after what was `spent` before. For one thread.

    Each request reserves its pictures before it leaves and settles them when its charges are known; so many at a time
    never spend more than the budget, and nothing that is given back is lost for others.
    """

    budget: Budget
    spent: Spent = field(factory=Spent)
    reserved: Spent = field(factory=Spent, init=False)

    def reserve(self, pictures: int, price: Decimal | None, *, model: str = "a model") -> bool:
        """Set pictures at USD for each (`None`: not known) aside; `False`: not now, what is reserved may come back.

        Raises `BudgetExceededError` where it cannot fit any more, `JobError` for a price that is not known.
        """
        if price is None:
            self.budget.check_prices([model])
        asked = _priced(pictures, price)
        self._refuse(asked)
        held = self.reserved + asked
        if self._excess(held) is not None:
            return False
        self.reserved = held
        return True

    def settle(self, pictures: int, price: Decimal | None, charges: Charges) -> None:
        """Give back a reservation, at the price it was made at, and count what it may have been charged."""
        self.reserved -= _priced(pictures, price)
        self.spent += _priced(charges.at_most, price)

    @property
    def affordable(self) -> Decimal | None:
        """USD that may be spent beyond what is spent already, `None` for no limit."""
        most = self.budget.max_cost
        return None if most is None else max(most - self.spent.cost, Decimal(0))

    @property
    def may_request(self) -> bool:
        """Whether one more request may be sent."""
        most = self.budget.max_requests
        return most is None or self.spent.requests < most

    def request(self) -> None:
        """Count a request that is about to be sent. Raises `BudgetExceededError` where none is left."""
        if not self.may_request:
            raise BudgetExceededError(f"the budget of {self.budget.max_requests} requests is used up; {_WAY_OUT}")
        self.spent += Spent(requests=1)

    def take_back_request(self) -> None:
        """Count a request no longer: it never left."""
        self.spent -= Spent(requests=1)

    def _refuse(self, asked: Spent) -> None:
        limit = self._excess(asked)
        if limit is not None:
            raise BudgetExceededError(f"{self._about(limit, asked)}; {_WAY_OUT}")

    def _excess(self, more: Spent) -> str | None:
        """Return the limit that would be passed, on top of what is spent."""
        after, most = self.spent + more, self.budget
        if most.max_images is not None and after.images > most.max_images:
            return "max_images"
        return "max_cost" if most.max_cost is not None and after.cost > most.max_cost else None

    def _about(self, limit: str, asked: Spent) -> str:
        if limit == "max_images":
            return (
                f"the budget of {self.budget.max_images} pictures has no room for {asked.images} more:"
                f" {self.spent.images} are, or may be, paid for"
            )
        return (
            f"the budget of ${self.budget.max_cost:f} has no room for ${asked.cost:f} more:"
            f" ${self.spent.cost:f} is, or may be, spent"
        )


_WAY_OUT = "give more, and repeat to go on"


@define(eq=False)
class DuplicateBudget:
    """How many pictures of a job may be paid for again because the outcome of a request is not known.

    That is one in a hundred of `total_images`, and at least one; `taken` were used by earlier runs.
    """

    total_images: int
    taken: int = 0

    @property
    def left(self) -> int:
        """How many pictures may still be asked for again."""
        return max(0, max(1, self.total_images // DUPLICATES_IN) - self.taken)

    def take(self, pictures: int) -> bool:
        """Use it for a request of so many pictures; `False`: that is more than is left, and nothing was used."""
        if pictures > self.left:
            return False
        self.taken += pictures
        return True


def _priced(pictures: int, price: Decimal | None) -> Spent:
    return Spent(pictures * (price or Decimal(0)), pictures)
