"""A test of your own code against a Nebula Block of this machine: no key, no money, and any fault that you want.

pip install pytest 'nebula_async[emulator]' && pytest examples/test_cats.py
"""

import pytest

from nebula_async import AsyncNebula, RateLimitError

pytestmark = pytest.mark.anyio  # or pytest.mark.asyncio, with pytest-asyncio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def make_cat(nebula: AsyncNebula, color: str):
    """Stand for the code that is tested."""
    return await nebula.generate(f"a {color} cat", model="black-forest-labs/FLUX.1-schnell", width=64, height=64)


async def test_a_cat_is_paid_for_once(nebula, nebula_emulator):
    nebula_emulator.next("503 retry_after=30")  # asks to wait, and is charged for nothing; no test waits
    cat = await make_cat(nebula, "red")
    assert cat.image.width == 64
    nebula_emulator.assert_charged(1)
    nebula_emulator.assert_never_paid_twice()


async def test_a_busy_api_is_told(nebula, nebula_emulator):
    nebula_emulator.for_prompt("a blue cat", "429", repeat=True)
    with pytest.raises(RateLimitError):
        await make_cat(nebula, "blue")
    nebula_emulator.assert_charged(0)
