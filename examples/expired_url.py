"""The inference API's URLs are valid for an hour: an emulator whose clock is moved shows what comes after.

python examples/expired_url.py
"""

import asyncio
import time

from nebula_async import AsyncNebula, Config, DownloadError, InferenceRequest, RetryPolicy
from nebula_async.emulator import Emulator

hours = 0


async def main():
    global hours
    with Emulator(clock=lambda: time.time() + 3600 * hours) as emulator:
        config = Config(
            base_url=emulator.base_url,
            inference_url=emulator.inference_url,
            allowed_image_hosts=[emulator.storage_host],
            retry=RetryPolicy(backoff=0),  # a test waits for nothing
        )
        async with AsyncNebula(emulator.key, config=config) as nebula:
            left = await nebula.generate(InferenceRequest("a lake", model="sdxl", size="64x64"), download=False)
            hours = 1
            try:
                await nebula.download(left.image)
            except DownloadError as error:
                print(error)


asyncio.run(main())
