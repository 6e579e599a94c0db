"""A test of your own code against a Nebula Block of this machine: no key, no money, and any fault that you want.

pip install pytest 'nebula_async[emulator]' && pytest examples/test_cats.py
"""

import asyncio

import pytest

from nebula_async import AsyncNebula, RateLimitError, RetryPolicy
from nebula_async.emulator import Emulator


async def make_cat(nebula, color):
    """Stand for the code that is tested."""
    return await nebula.generate(f"a {color} cat", model="black-forest-labs/FLUX.1-schnell", width=64, height=64)


@pytest.fixture
def emulator():
    with Emulator() as emulator:
        yield emulator


def test_a_cat_is_paid_for_once(emulator):
    async def run():
        async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
            return await make_cat(nebula, "red")

    assert asyncio.run(run()).image.width == 64
    assert emulator.journal.charged == 1


def test_a_busy_api_is_told():
    async def run(emulator):
        retry = RetryPolicy(attempts=1)
        async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
            await make_cat(nebula.with_options(retry=retry), "blue")

    with Emulator(faults=["429:@1"]) as emulator, pytest.raises(RateLimitError):
        asyncio.run(run(emulator))
    assert emulator.journal.charged == 0
