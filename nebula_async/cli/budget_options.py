"""The budget of a job as options."""

from __future__ import annotations

from typing import Annotated

from attrs import frozen
from cyclopts import Group, Parameter

from nebula_async.bulk.budget import Budget
from nebula_async.cli.parameters import Whole

Money = Parameter(group=Group("Budget", sort_key=4))
Switch = Parameter(negative="", show_default=False, group=Group("Budget", sort_key=4))


@frozen(kw_only=True)
class BudgetOptions:
    """What a job may spend."""

    max_cost: Annotated[str | None, Money] = None
    "USD that may be spent, such as 5 or 2.50, over all runs of the job; it stops before it would cost more."
    max_images: Annotated[Whole, Money] = None
    "Pictures that may be paid for."
    max_requests: Annotated[Whole, Money] = None
    "Generation requests that may be sent, whatever becomes of them."
    per_run: Annotated[bool, Switch] = False
    "These limits are for this run, not for all runs of the job."
    allow_unknown_prices: Annotated[bool, Switch] = False
    "With --max-cost, also make pictures whose price is not known; they count as free."

    def budget(self) -> Budget:
        """Return the budget. Raises `ConfigurationError` for what is no amount or no count."""
        return Budget(
            max_cost=self.max_cost,
            max_images=self.max_images,
            max_requests=self.max_requests,
            per_run=self.per_run,
            allow_unknown_prices=self.allow_unknown_prices,
        )
