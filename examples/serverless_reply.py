"""What a reply of the serverless API says, field by field of its page, and where each is found here.

python examples/serverless_reply.py
"""

import asyncio

from nebula_async import AsyncNebula


async def main():
    async with AsyncNebula() as nebula:
        generation = await nebula.generate(
            "a flying cat", model="black-forest-labs/FLUX.1-schnell", width=512, height=512
        )
    print("model:", generation.model)
    print("data[].timings.inference:", generation.inference_seconds, "s")
    for index, image in enumerate(generation.images):  # in the order of data[].index
        print(f"data[{index}].b64_json: {len(image.data)} bytes of {image.media_type},", image.width, "x", image.height)
    print("message:", generation.message)
    print("beyond the page:", generation.charges, generation.cost, generation.attempts, generation.request_id)


asyncio.run(main())
