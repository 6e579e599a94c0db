"""The same client on trio: nothing else is different.

pip install trio && python examples/on_trio.py
"""

import trio

from nebula_async import AsyncNebula

MODEL = "black-forest-labs/FLUX.1-schnell"


async def picture(nebula, prompt):
    with trio.move_on_after(30) as scope:
        made = await nebula.generate(prompt, model=MODEL, width=256, height=256)
        print(await made.image.save(f"trio-{prompt.split()[-1]}", overwrite=True))
    if scope.cancelled_caught:
        print(prompt, "took too long")


async def main():
    async with AsyncNebula() as nebula, trio.open_nursery() as nursery:
        for prompt in ("a flying cat", "a flying dog", "a flying fish"):
            nursery.start_soon(picture, nebula, prompt)


trio.run(main)
