"""Three ways to stop: a deadline for one call, leaving a loop over many, and cancelling a task.

python examples/cancellation.py    # against a slow Nebula Block of this machine
"""

import asyncio

from nebula_async import AsyncNebula, DeadlineError
from nebula_async.emulator import Emulator
from nebula_async.events import Abandoned, Sent

CAT = {"model": "black-forest-labs/FLUX.1-schnell", "width": 256, "height": 256}


async def deadline(nebula):
    try:
        await nebula.with_options(timeout=0.3).generate("a slow cat", **CAT)
    except DeadlineError as error:
        print("the deadline is over:", error)


async def enough(nebula):
    async with nebula.generate_many((f"cat {number}" for number in range(1_000)), concurrency=4, **CAT) as results:
        async for _result in results:
            print("one of a thousand is enough")
            break  # what is in flight is cancelled, and the other prompts are never taken


async def cancelled(nebula):
    sent = asyncio.Event()
    observed = nebula.with_options(observer=lambda event: isinstance(event, Sent) and sent.set())
    task = asyncio.create_task(observed.generate("a cat that nobody waits for", **CAT))
    await sent.wait()
    task.cancel()
    await asyncio.wait([task])
    print("the task is cancelled:", task.cancelled())


def tell(event):
    """Say what a cancelled call may have cost: what was sent by then may have been paid for."""
    if isinstance(event, Abandoned):
        print("abandoned; pictures that may have been charged:", event.charges)


async def main():
    with Emulator(faults=["delay=1:@1"]) as emulator:
        async with AsyncNebula(emulator.key, base_url=emulator.base_url, observer=tell) as nebula:
            await deadline(nebula)
            await enough(nebula)
            await cancelled(nebula)
            print("and the client goes on:", (await nebula.generate("a cat", **CAT)).image.width)


asyncio.run(main())
