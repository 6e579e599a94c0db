"""The account's own prices, for what the commands tell."""

from __future__ import annotations

from contextlib import suppress

from nebula_async.client import AsyncNebula
from nebula_async.config import RetryPolicy
from nebula_async.errors import NebulaError

LONGEST_WAIT = 2.0
"""Seconds. Prices are for telling, and worth no longer wait."""


async def learn_prices(nebula: AsyncNebula) -> None:
    """Let costs go by the API's list of prices, where it tells them soon; else those that are built in stand."""
    seconds = min(LONGEST_WAIT, nebula.config.timeouts.total)
    with suppress(NebulaError):
        await nebula.with_options(retry=RetryPolicy(attempts=1), timeout=seconds).models()
