"""One picture: its prompt, its file, its seed and its cost.

python examples/one_picture.py "a flying cat"
"""

import asyncio
import sys

from nebula_async import AsyncNebula


async def main(prompt):
    async with AsyncNebula() as nebula:  # the key comes from NEBULA_API_KEY
        cat = await nebula.generate(prompt, model="black-forest-labs/FLUX.1-schnell", width=512, height=512)
        path = await cat.image.save("one-picture", overwrite=True)  # the extension comes from the bytes
    print(path, f"{cat.image.width}x{cat.image.height}", "seed", cat.request.seed, "USD", cat.cost)


asyncio.run(main(*sys.argv[1:] or ["a flying cat"]))
