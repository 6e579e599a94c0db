"""What the API says of the account: its prices and its balance, asked without cost."""

from __future__ import annotations

from contextlib import suppress

from attrs import evolve

from nebula_async.bulk.plan import Account
from nebula_async.client import AsyncNebula
from nebula_async.config import RetryPolicy
from nebula_async.errors import NebulaError

LONGEST_WAIT, LONGEST_FOR_PRICES = 5.0, 2.0
"""Seconds for each question of a plan, and for prices that are for telling alone, and worth no longer wait."""


async def ask_account(nebula: AsyncNebula) -> Account:
    """Return prices and balance; what cannot be had soon is left out, and `problem` says why."""
    asking, account = _impatient(nebula, LONGEST_WAIT), Account()
    try:
        listed = await asking.models()
        prices = {model.id: model.price for model in listed if model.price is not None}
        account = Account(prices=prices, offered=frozenset(model.id for model in listed))
        return evolve(account, balance=await asking.credits())
    except NebulaError as error:
        return evolve(account, problem="; ".join(filter(None, (error.message, error.next_step))))


async def learn_prices(nebula: AsyncNebula) -> None:
    """Let costs go by the API's list of prices, where it tells them soon; else those that are built in stand."""
    with suppress(NebulaError):
        await _impatient(nebula, LONGEST_FOR_PRICES).models()


def _impatient(nebula: AsyncNebula, seconds: float) -> AsyncNebula:
    """Return a sibling that asks once, and waits for no longer than that."""
    seconds = min(seconds, nebula.config.timeouts.total)
    return nebula.with_options(retry=RetryPolicy(attempts=1), timeout=seconds)
