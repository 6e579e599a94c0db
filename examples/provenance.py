"""A picture that says how it was made, in its own file, and the same picture made again from that.

python examples/provenance.py
"""

import asyncio

from nebula_async import AsyncNebula, ImageRequest, read_provenance


def told_by(path):
    """Return what a picture's file says of how it was made."""
    return read_provenance(path.read_bytes())


async def main():
    async with AsyncNebula() as nebula:
        cat = await nebula.generate("a reading cat", model="black-forest-labs/FLUX.1-schnell", width=256, height=256)
        path = await cat.image.save("reading-cat", overwrite=True, provenance=True)

        told = told_by(path)
        print(told.request["prompt"], told.request["seed"], told.model, told.cost, told.created)

        again = await nebula.generate(ImageRequest.from_dict(told.request))
        print("the same pixels:", again.image.data == cat.image.data)


asyncio.run(main())
