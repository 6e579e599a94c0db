"""What may be paid twice, and how never to: an emulator bills a picture, and loses its reply.

python examples/never_pay_twice.py
"""

import asyncio

from nebula_async import AsyncNebula, OutcomeUnknownError, RetryPolicy
from nebula_async.emulator import Emulator

CAT = {"prompt": "a cat", "model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}


async def by_default():
    with Emulator(faults=["drop:@1"]) as emulator:
        async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
            cat = await nebula.generate(**CAT)
    print(f"by default: a picture, for {cat.charges} charges; the API charged {emulator.journal.charged}")


async def never_twice():
    with Emulator(faults=["drop:@1"]) as emulator:
        async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
            careful = nebula.with_options(retry=RetryPolicy(resend_unknown=0))
            try:
                await careful.generate(**CAT)
            except OutcomeUnknownError as error:
                print(f"never twice: no picture, for {error.charges}; the API charged {emulator.journal.charged}")


async def with_keys():
    with Emulator(faults=["drop:@1"], replays=True) as emulator:  # an API that promises one charge for each key
        async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
            cat = await nebula.with_options(idempotency="replay").generate(**CAT)
    print(f"with idempotency keys: a picture, for {cat.charges}; the API charged {emulator.journal.charged}")


async def main():
    await by_default()
    await never_twice()
    await with_keys()


asyncio.run(main())
