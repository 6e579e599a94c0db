"""What became of a job."""

from __future__ import annotations

from decimal import Decimal

from attrs import define, field, frozen

from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.states import State
from nebula_async.charges import Charges
from nebula_async.errors import NebulaError
from nebula_async.results import Failure, Generation


@define
class Spending:
    """What one run made and may have been charged: pictures stored, USD, pictures without a price."""

    pictures: int = 0
    at_least: Decimal = Decimal(0)
    at_most: Decimal = Decimal(0)
    unpriced: int = 0

    def add(self, result: Generation | Failure, price: Decimal | None) -> None:
        """Add what a result cost at USD for a picture (`None`: not known), whatever became of it."""
        self.pictures += sum(image.is_here for image in result.images) if isinstance(result, Generation) else 0
        self.add_charges(result.charges if isinstance(result, Generation) else result.error.charges, price)

    def add_charges(self, charges: Charges, price: Decimal | None) -> None:
        """Add what may have been charged at USD for a picture (`None`: not known)."""
        self.unpriced += charges.at_most if price is None else 0
        self.at_least += charges.at_least * (price or 0)
        self.at_most += charges.at_most * (price or 0)

    def __str__(self) -> str:
        return f"${self.at_least:f}" + (f" to ${self.at_most:f}" if self.at_most > self.at_least else "")


@frozen(kw_only=True)
class Report:
    """How many items are where, over all runs of the job, and what this run spent.

    `done` are stored, `rejected` were refused, `bad` were paid for and cannot be used, or not all of them, or are gone
    from their URLs; `unknown` may have been paid for, `unfetched` were, and wait at their URLs; `waiting` are still to
    be sent. `charges` counts pictures over all runs, `pictures` those that are stored. `stopped_by` is the error that
    stopped the whole job.
    """

    total: int
    done: int
    rejected: int
    bad: int
    unknown: int
    charges: Charges
    unfetched: int = 0
    pictures: int = 0
    spending: Spending = field(factory=Spending)
    seconds: float = 0.0
    is_interrupted: bool = False
    stopped_by: NebulaError | None = None

    @property
    def waiting(self) -> int:
        """Items still to be sent."""
        return max(self.total - self.done - self.rejected - self.bad - self.unknown - self.unfetched, 0)

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some failed or wait, 3 stopped for the whole job, 130 interrupted with items left."""
        if self.stopped_by is not None:
            return 3
        if self.done == self.total:
            return 0
        return 130 if self.is_interrupted and self.waiting else 1


def report_of(ledger: Ledger, total: int, **run: object) -> Report:
    """Return how a job with so many items stands by its ledger; `run` is what is known of this run alone.

    A call that is still open in the ledger may have been paid for.
    """
    counts = ledger.counts()
    return Report(
        total=total,
        done=counts[State.DONE],
        rejected=counts[State.REJECTED],
        bad=counts[State.BAD] + counts[State.EXPIRED],
        unknown=counts[State.UNKNOWN] + counts[State.SENT],
        unfetched=counts[State.URLS],
        pictures=ledger.pictures(),
        charges=ledger.charges(),
        **run,  # type: ignore[arg-type]
    )
