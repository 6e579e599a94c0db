"""The models of the emulator: price, pace, and what each of them does with pictures."""

import math
import random
from decimal import Decimal

import attrs

LATENCY_SIGMA = 0.2

# Every picture depends on every parameter that describes one, so that a test sees what it sent. (The vendor's table
# names fewer for each model; what a model of the real API does with the others is not known.)
_EVERY_MODEL = frozenset({"prompt", "negative_prompt", "width", "height", "num_steps", "guidance_scale", "seed"})


@attrs.frozen
class Model:
    """One image model; `also_honours` adds to the parameters of every picture."""

    id: str
    alias: str
    title: str
    price: Decimal
    median_seconds: float
    also_honours: frozenset[str]
    description: str
    needs_image: bool = False
    side_multiple: int = 1
    answers_empty_prompt: bool = True

    def honours(self, field: str) -> bool:
        """Return whether the model uses this request field; others are ignored."""
        return field in _EVERY_MODEL or field in self.also_honours

    def draw_seconds(self, source: random.Random) -> float:
        """Draw how long one inference takes."""
        return source.lognormvariate(math.log(self.median_seconds), LATENCY_SIGMA)

    def listing(self) -> dict[str, object]:
        """Return the model as `GET /serverless/models` lists it."""
        return {
            "model_name": self.id,
            "model_alias": self.alias,
            "model_type": "Image",
            "context_length": None,
            "max_completion_tokens": 10000,
            "description": self.description,
            "price": float(self.price),
            "huggingface_url": f"https://huggingface.co/{self.id}",
        }


# Medians are the middles of the observed ranges, 4 s where nothing was observed. The price of
# schnell is the documented one of two; Kontext's is not published and was chosen to differ from all.
_MODELS = (
    Model(
        "stabilityai/stable-diffusion-xl-base-1.0",
        "SD-XL 1.0-base",
        "SDXL 1.0",
        Decimal("0.0090"),
        2.5,
        frozenset(),
        "Text to image by latent diffusion.",
    ),
    Model(
        "black-forest-labs/FLUX.1-schnell",
        "FLUX.1 [schnell]",
        "FLUX.1 schnell",
        Decimal("0.0019"),
        3.5,
        frozenset(),
        "Text to image in few steps.",
    ),
    Model(
        "Bytedance/seedream-3-0-t2i-250415",
        "Bytedance-Seedream-3.0",
        "Seedream 3.0",
        Decimal("0.0210"),
        5.5,
        frozenset({"num_images"}),
        "Text to image, one picture or several.",
        answers_empty_prompt=False,
    ),
    Model(
        "black-forest-labs/FLUX.1-Fill-dev",
        "FLUX.1 [Fill-dev]",
        "FLUX.1 Fill",
        Decimal("0.0000"),
        4.0,
        frozenset({"image", "mask"}),
        "Repaints the white part of a mask.",
        needs_image=True,
        side_multiple=16,
    ),
    Model(
        "black-forest-labs/FLUX.1-Kontext-dev",
        "FLUX.1 [Kontext-dev]",
        "FLUX.1 Kontext",
        Decimal("0.0250"),
        4.0,
        frozenset({"image"}),
        "Edits a given picture.",
        needs_image=True,
    ),
)
MODELS = {model.id: model for model in _MODELS}
"""The models of dialect A, which are those of the list."""

_DALL_E_3 = Model(
    "dall-e-3", "DALL-E 3", "DALL-E 3", Decimal("0.0400"), 4.0, frozenset(), "The example of dialect B's page."
)
INFERENCE_MODELS = {model.id: model for model in (*_MODELS, _DALL_E_3) if not model.needs_image} | {
    "sdxl": MODELS["stabilityai/stable-diffusion-xl-base-1.0"]
}
"""The models of dialect B: its page's two examples, and what paints from text alone."""
