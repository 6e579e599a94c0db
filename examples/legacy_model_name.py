"""The serverless API as its page was until February 2025: the model goes by `model_name`.

python examples/legacy_model_name.py
"""

import asyncio

from attrs import evolve

from nebula_async import AsyncNebula, Config


async def main():
    config = evolve(Config.from_env(), model_field="model_name")
    async with AsyncNebula(config=config) as nebula:
        generation = await nebula.generate(
            "insert your prompt here",
            model="stabilityai/stable-diffusion-xl-base-1.0",
            num_steps=25,
            guidance_scale=9,
            width=1024,
            height=1024,
            negative_prompt=None,
        )
        print(await generation.image.save("legacy", overwrite=True), generation.message)


asyncio.run(main())
