"""The inference API's documented error codes, and what each of them is here: an emulator says one after the other.

python examples/error_codes.py
"""

import asyncio

from nebula_async import APIStatusError, AsyncNebula, Config, InferenceRequest, RetryPolicy
from nebula_async.emulator import Emulator

CODES = {
    "invalid_prompt": 400,
    "content_policy_violation": 400,
    "invalid_size": 400,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 402,
}


async def main():
    faults = [f"{status}={code}:@{number}" for number, (code, status) in enumerate(CODES.items(), 1)]
    with Emulator(faults=faults) as emulator:
        config = Config(inference_url=emulator.inference_url, retry=RetryPolicy(attempts=1))
        async with AsyncNebula(emulator.key, config=config) as nebula:
            for _ in CODES:
                try:
                    await nebula.generate(InferenceRequest("a lake", model="sdxl"))
                except APIStatusError as error:
                    print(type(error).__name__, error.code, error.details, error.request_id, error)


asyncio.run(main())
