"""Two clients of one account keep to its limit together, without knowing of each other.

python examples/shared_limit.py
"""

import asyncio
import time

from nebula_async import AsyncNebula

SCHNELL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
PER_MINUTE = 300


async def five(client, name):
    for number in range(5):
        await client.generate(f"a cat of {name}, number {number}", **SCHNELL)


async def main():
    async with AsyncNebula(rate_limit=PER_MINUTE) as one, AsyncNebula(rate_limit=PER_MINUTE) as other:
        began = time.monotonic()
        await asyncio.gather(five(one, "one"), five(other, "the other"))
        seconds = time.monotonic() - began
        print(f"10 pictures in {seconds:.1f} s, which is {9 * 60 / seconds:.0f} a minute; allowed are {PER_MINUTE}")
        print(one.limits.used_today, "requests today;", one.limits == other.limits)


asyncio.run(main())
