"""What became of a job."""

from __future__ import annotations

from decimal import Decimal

from attrs import define, field, frozen

from nebula_async.charges import Charges
from nebula_async.errors import NebulaError
from nebula_async.results import Generation


@define
class Spending:
    """What the pictures of one run cost: their number, USD by the catalogue, and how many have no price there."""

    pictures: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0

    def add(self, generation: Generation) -> None:
        """Add what a generation cost."""
        self.pictures += len(generation.images)
        if generation.cost is None:
            self.unpriced += len(generation.images)
        else:
            self.cost += generation.cost


@frozen(kw_only=True)
class Report:
    """How many items are where, over all runs of the job, and what this run spent.

    `done` are stored, `rejected` were refused, `bad` were paid for and cannot be used or stored, `unknown` may have
    been paid for, `waiting` are still to be sent. `charges` counts pictures over all runs. `stopped_by` is the error
    that stopped the whole job.
    """

    total: int
    done: int
    rejected: int
    bad: int
    unknown: int
    charges: Charges
    spending: Spending = field(factory=Spending)
    seconds: float = 0.0
    is_interrupted: bool = False
    stopped_by: NebulaError | None = None

    @property
    def waiting(self) -> int:
        """Items still to be sent."""
        return self.total - self.done - self.rejected - self.bad - self.unknown

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some failed or wait, 3 stopped for the whole job, 130 interrupted with items left."""
        if self.stopped_by is not None:
            return 3
        if self.done == self.total:
            return 0
        return 130 if self.is_interrupted and self.waiting else 1
