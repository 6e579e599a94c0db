"""From one picture to the next: a cat, a mask that says which part of it is repainted, and what comes of both.

pip install 'nebula_async[images]' && python examples/image_to_image.py
"""

import asyncio

from PIL import Image, ImageDraw

from nebula_async import AsyncNebula, InvalidRequestError


def mask_of(image):
    """Return a mask of the picture's size: what is white is repainted, what is black is kept."""
    mask = Image.new("L", (image.width, image.height), "black")
    ImageDraw.Draw(mask).ellipse((image.width // 4, 0, image.width * 3 // 4, image.height // 3), "white")
    return mask


async def main():
    async with AsyncNebula() as nebula:
        cat = await nebula.generate("a cat", model="black-forest-labs/FLUX.1-schnell", width=512, height=512)
        print(await cat.image.save("before", overwrite=True))
        hat = await nebula.generate(
            "a red baseball cap", model="black-forest-labs/FLUX.1-Fill-dev", image=cat.image, mask=mask_of(cat.image)
        )
        print(await hat.image.save("after", overwrite=True))
        try:
            await nebula.generate(
                "a cap", model="black-forest-labs/FLUX.1-Fill-dev", image=cat.image, mask=Image.new("L", (64, 64))
            )
        except InvalidRequestError as error:  # found before anything is sent
            print(error)


asyncio.run(main())
