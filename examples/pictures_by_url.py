"""The inference API's two ways of delivery: a URL that is valid for an hour, and base64.

python examples/pictures_by_url.py
"""

import asyncio

from attrs import evolve

from nebula_async import AsyncNebula, InferenceRequest

LAKE = InferenceRequest(
    "A serene mountain lake at sunset", model="dall-e-3", n=2, size="512x512", style="vivid", negative_prompt="fog"
)


async def main():
    async with AsyncNebula() as nebula:
        fetched = await nebula.generate(LAKE)  # its pictures are here, whichever way they came
        left = await nebula.generate(LAKE, download=False)  # these are left where they are
        print("valid until", left.image.expires_at, "used:", left.usage)
        later = [await nebula.download(image) for image in left.images]
        as_text = await nebula.generate(evolve(LAKE, response_format="b64_json"))
    for number, image in enumerate((*fetched.images, *later, *as_text.images)):
        print(await image.save(f"lake-{number}", overwrite=True), len(image.data), "bytes")


asyncio.run(main())
