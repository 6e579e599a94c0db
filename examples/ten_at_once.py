"""Ten at once, two of which are refused: one that fails is a value, and no exception that ends the others.

python examples/ten_at_once.py
"""

import asyncio

from nebula_async import AsyncNebula, Failure, Generation

SCHNELL = "black-forest-labs/FLUX.1-schnell"
PROMPTS = [f"a cat in the style of month {month}" for month in range(1, 9)] + [" ", "a cat \ud83d"]


async def main():
    async with (
        AsyncNebula() as nebula,
        nebula.generate_many(PROMPTS, model=SCHNELL, width=256, height=256) as results,
    ):
        async for result in results:  # as they finish; leaving the loop cancels what is in flight
            match result:
                case Generation(image=image):
                    print(await image.save(f"ten/{result.index:02}", overwrite=True))
                case Failure(error=error):
                    print(f"number {result.index} failed, {error.charges} pictures charged: {error}")


asyncio.run(main())
