"""What the API says of the account: its prices and its balance, asked without cost."""

from __future__ import annotations

from attrs import evolve

from nebula_async.bulk.plan import Account
from nebula_async.client import AsyncNebula
from nebula_async.config import RetryPolicy
from nebula_async.errors import NebulaError

LONGEST_WAIT = 5.0
"""Seconds for each of the two questions."""


async def ask_account(nebula: AsyncNebula) -> Account:
    """Return prices and balance; what cannot be had soon is left out, and `problem` says why."""
    seconds = min(LONGEST_WAIT, nebula.config.timeouts.total)
    asking = nebula.with_options(retry=RetryPolicy(attempts=1), timeout=seconds)
    account = Account()
    try:
        listed = await asking.models()
        prices = {model.id: model.price for model in listed if model.price is not None}
        account = Account(prices=prices, offered=frozenset(model.id for model in listed))
        return evolve(account, balance=await asking.credits())
    except NebulaError as error:
        return evolve(account, problem=str(error))
