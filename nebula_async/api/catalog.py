"""Known models: kind, price, and which parameter each honours.

Sources: the vendor's parameter table and price pages as of November 2026. Ids are data, not an enumeration: an id that
is not here is sent as it is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal

from attrs import evolve, frozen

from nebula_async.requests import ImageRequest

PARAMETERS = ("width", "height", "num_steps", "guidance_scale", "seed", "negative_prompt", "image", "mask")
EVERYWHERE = frozenset({"width", "height", "guidance_scale"})

MAX_CHOSEN_SEED = 2**32 - 1


@frozen(kw_only=True)
class Model:
    """A model: its id and kind, USD for one picture (`None`: not known), the parameters it honours, and how many steps
    the vendor's samples take where it honours those.
    """

    id: str
    name: str
    kind: str = "text to image"
    price: Decimal | None = None
    honours: frozenset[str] = EVERYWHERE
    needs_image: bool = False
    side_multiple: int = 1
    usual_steps: int | None = None


CATALOG: Mapping[str, Model] = {
    model.id: model
    for model in (
        Model(
            id="stabilityai/stable-diffusion-xl-base-1.0",
            name="SD-XL 1.0-base",
            price=Decimal("0.009"),
            honours=EVERYWHERE | {"num_steps", "negative_prompt"},
            usual_steps=25,
        ),
        Model(
            id="black-forest-labs/FLUX.1-schnell",
            name="FLUX.1 [schnell]",
            price=Decimal("0.0019"),
            honours=EVERYWHERE | {"num_steps", "seed"},
            usual_steps=4,
        ),
        Model(id="Bytedance/seedream-3-0-t2i-250415", name="Bytedance-Seedream-3.0", price=Decimal("0.021")),
        Model(
            id="black-forest-labs/FLUX.1-Fill-dev",
            name="FLUX.1 [Fill-dev]",
            kind="inpainting",
            honours=EVERYWHERE | {"num_steps", "image", "mask"},
            needs_image=True,
            side_multiple=16,
            usual_steps=25,
        ),
        Model(
            id="black-forest-labs/FLUX.1-Kontext-dev",
            name="FLUX.1 [Kontext-dev]",
            kind="image to image",
            honours=EVERYWHERE | {"image"},
            needs_image=True,
        ),
    )
}


def find_conflict(request: ImageRequest) -> str | None:
    """Return why the request must not be sent: it brings a picture that its model, which makes them from text, would
    pass over at full price. `None` where there is no such conflict, or the model is not known.
    """
    model = CATALOG.get(request.model)
    if request.image is None or model is None or "image" in model.honours:
        return None
    others = ", ".join(other.id for other in CATALOG.values() if "image" in other.honours)
    return f"{model.id} makes pictures from text and takes no image; leave the image out, or use one of {others}"


def find_problems(request: ImageRequest) -> tuple[str, ...]:
    """Return one sentence for each parameter that the request's model will not honour as it stands."""
    model = CATALOG.get(request.model)
    if model is None:
        return (about_unknown(request.model),)
    ignored = [name for name in PARAMETERS if name not in model.honours and getattr(request, name) is not None]
    problems = [f"{model.id} does not honour {name}; it honours {_honoured(model)}" for name in ignored]
    if model.needs_image and request.image is None:
        problems.append(f"{model.id} needs an image")
    return (*problems, *_rounded_sides(request, model))


def about_unknown(model_id: str) -> str:
    """Return what is doubtful about a model that is not in the catalogue."""
    return f"{model_id!r} is not in the catalogue: parameters are sent unchecked, its price is not known"


def _honoured(model: Model) -> str:
    return ", ".join(name for name in PARAMETERS if name in model.honours)


def _rounded_sides(request: ImageRequest, model: Model) -> list[str]:
    sides = {"width": request.width, "height": request.height}
    return [
        f"{model.id} rounds {name} {side} to a multiple of {model.side_multiple}: the picture will differ in size"
        for name, side in sides.items()
        if side is not None and side % model.side_multiple
    ]


def with_seed(request: ImageRequest, source: random.Random) -> ImageRequest:
    """Return the request with a seed chosen for it, where its model honours one and none is given."""
    model = CATALOG.get(request.model)
    if request.seed is not None or model is None or "seed" not in model.honours:
        return request
    return evolve(request, seed=source.randint(0, MAX_CHOSEN_SEED))


def usual_steps_of(model_id: str, otherwise: int) -> int | None:
    """Return how many steps a model usually takes, `None` for one that takes no number of steps, `otherwise` for one
    that is not known.
    """
    model = CATALOG.get(model_id)
    return model.usual_steps if model else otherwise


def price_of(model_id: str) -> Decimal | None:
    """Return USD for one picture, `None` where the price is not known."""
    model = CATALOG.get(model_id)
    return model.price if model else None
