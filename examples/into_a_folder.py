"""Pictures streamed into a folder while they arrive: a hundred or a hundred thousand take the same memory.

python examples/into_a_folder.py
"""

import asyncio
from collections import Counter

from nebula_async import AsyncNebula, DirectorySink, Generation

SCHNELL = "black-forest-labs/FLUX.1-schnell"


def prompts():
    """Yield prompts; they are taken when there is room for them, not before."""
    for color in ("red", "blue", "green", "yellow"):
        for thing in ("hat", "boat", "house"):
            yield f"a {color} {thing}"


async def main():
    ended = Counter()
    async with (
        AsyncNebula() as nebula,
        nebula.generate_many(prompts(), model=SCHNELL, width=256, height=256, sink=DirectorySink("folder")) as results,
    ):
        async for result in results:
            ended[type(result).__name__] += 1
            if isinstance(result, Generation):
                print(result.image.stored, result.image.width, result.image.data)  # no bytes are held
    print(dict(ended))


asyncio.run(main())
