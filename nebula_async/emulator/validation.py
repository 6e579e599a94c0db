"""The request body of dialects A and C, checked: from bytes to the value that is painted."""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, cast

import attrs

from nebula_async.emulator.catalogue import MODELS, Model
from nebula_async.emulator.fields import Field, Problem, find_problems, is_integer, read_defaults, read_values
from nebula_async.emulator.refusals import Refusal, invalid
from nebula_async.emulator.request import GenerationRequest

LARGEST_SIDE = 4096
DEFAULT_SIDE = 1024
DEFAULT_STEPS = 25
DEFAULT_GUIDANCE = 5.0
MOST_IMAGES = 10
RANDOM_SEED = -1
LARGEST_SEED = 2**63 - 1

SERVERLESS_FIELDS = (
    Field("model", "string", "The model, by its id in the list of models; this or `model_name` is required."),
    Field("model_name", "string", "The older spelling of `model`, which wins when both are given."),
    Field("prompt", "string", "What to paint.", required=True),
    Field("negative_prompt", "string", "What to leave out."),
    Field("width", "integer", "In pixels.", minimum=1, maximum=LARGEST_SIDE, default=DEFAULT_SIDE),
    Field("height", "integer", "In pixels.", minimum=1, maximum=LARGEST_SIDE, default=DEFAULT_SIDE),
    Field("num_steps", "integer", "How many steps to take.", minimum=1, maximum=1000, default=DEFAULT_STEPS),
    Field(
        "guidance_scale",
        "number",
        "How closely to follow the prompt.",
        minimum=0,
        maximum=100,
        default=DEFAULT_GUIDANCE,
    ),
    Field(
        "seed",
        "integer",
        "The same seed gives the same picture; -1 draws one. It follows from the other fields unless given.",
        minimum=RANDOM_SEED,
        maximum=LARGEST_SEED,
    ),
    Field("image", "string", "The picture to start from: a JPEG, PNG or WebP file in base64."),
    Field("mask", "string", "Where to repaint that picture: a file in base64, white where something new shall be."),
    Field("num_images", "integer", "How many pictures.", minimum=1, maximum=MOST_IMAGES, default=1),
)
"""The request body of dialects A and C; which model honours which field, its entry in the catalogue says."""


def read_fields(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request body; anything else is refused."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid(("", "JSON decode error", "json_invalid")) from None
    if not isinstance(value, dict):
        raise invalid(("", "Input should be a valid dictionary or object", "model_attributes_type"))
    return cast("dict[str, Any]", value)


def named_model(fields: Mapping[str, Any]) -> str | None:
    """Return the model a request names under either spelling; `model` wins over the older `model_name`."""
    name = fields.get("model")
    name = fields.get("model_name") if name is None else name
    return name if isinstance(name, str) else None


def price_asked(fields: Mapping[str, Any]) -> Decimal:
    """Return what the pictures would cost; the fields have not been checked when credit is."""
    model = MODELS.get(named_model(fields) or "")
    if model is None:
        return Decimal(0)
    return model.price * (count_asked(fields.get("num_images")) if model.honours("num_images") else 1)


def count_asked(given: object) -> int:
    """Return how many pictures are asked for; one for a count that is refused later, for what is wrong with it."""
    return int(given) if is_integer(given) and 1 <= given <= MOST_IMAGES else 1


def check_fields(fields: Mapping[str, Any]) -> None:
    """Refuse what is missing, of a wrong type or out of range; null means that a field is left out."""
    problems = (*_missing_model(fields), *find_problems(fields, SERVERLESS_FIELDS))
    if problems:
        raise invalid(*problems)


def build_request(fields: Mapping[str, Any], drawn_seed: int) -> GenerationRequest:
    """Return the checked fields as a request; an unknown model is refused with 400, a missing picture with 422.

    A seed of -1 becomes `drawn_seed`; a seed that is missing or not honoured follows from the other parameters.
    """
    model = MODELS.get(named_model(fields) or "")
    if model is None:
        raise Refusal(400, "Model not found")
    given = read_values(fields, SERVERLESS_FIELDS).items()
    values = read_defaults(SERVERLESS_FIELDS) | {name: value for name, value in given if model.honours(name)}
    if model.needs_image and "image" not in values:
        raise invalid(("image", "Field required", "missing"))
    request = GenerationRequest(
        model=model,
        prompt=values["prompt"],
        negative_prompt=values.get("negative_prompt", ""),
        width=_side(values["width"], model),
        height=_side(values["height"], model),
        num_steps=values["num_steps"],
        guidance_scale=float(values["guidance_scale"]),
        seed=drawn_seed if values.get("seed") == RANDOM_SEED else values.get("seed", RANDOM_SEED),
        image=values.get("image"),
        mask=values.get("mask"),
        num_images=values["num_images"],
    )
    if request.seed != RANDOM_SEED:
        return request
    return attrs.evolve(request, seed=int.from_bytes(request.digest(0)[:4]))


def _side(pixels: int, model: Model) -> int:
    multiple = model.side_multiple
    return max(multiple, round(pixels / multiple) * multiple)


def _missing_model(fields: Mapping[str, Any]) -> Iterator[Problem]:
    if fields.get("model") is None and fields.get("model_name") is None:
        yield ("model", "Field required", "missing")
