"""The request body of dialect B, checked: from bytes to the value that is painted."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from nebula_async.emulator.catalogue import INFERENCE_MODELS
from nebula_async.emulator.fields import Field, find_problems, read_defaults, read_values
from nebula_async.emulator.refusals import coded, invalid
from nebula_async.emulator.request import GenerationRequest
from nebula_async.emulator.validation import DEFAULT_GUIDANCE, DEFAULT_STEPS, MOST_IMAGES, count_asked

# From 1 to 4096, as dialect A has it.
_SIDE = "([1-9][0-9]{0,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-6])"

# Python and JavaScript do not mean the same by white space; this names what is white to either.
VISIBLE = r"[^\s\u001c-\u001f\u0085\ufeff]"
INFERENCE_FIELDS = (
    Field("model", "string", "The model.", required=True),
    Field("prompt", "string", "What to paint.", required=True, pattern=VISIBLE),
    Field("n", "integer", "How many pictures.", minimum=1, maximum=MOST_IMAGES, default=1),
    Field("size", "string", "Width and height in pixels.", pattern=f"^{_SIDE}x{_SIDE}$", default="1024x1024"),
    Field("quality", "string", "How much detail to paint.", enum=("standard", "hd"), default="standard"),
    Field("style", "string", "How to paint.", enum=("natural", "vivid", "artistic"), default="natural"),
    Field("negative_prompt", "string", "What to leave out."),
    Field(
        "response_format",
        "string",
        "Whether the reply holds URLs, valid for an hour, or the pictures themselves.",
        enum=("url", "b64_json"),
        default="url",
    ),
)
"""The request body of dialect B."""


def price_asked(fields: Mapping[str, Any]) -> Decimal:
    """Return what the pictures would cost; the fields have not been checked when credit is."""
    name = fields.get("model")
    model = INFERENCE_MODELS.get(name) if isinstance(name, str) else None
    if model is None:
        return Decimal(0)
    return model.price * count_asked(fields.get("n"))


def read_size(text: object) -> tuple[int, int] | None:
    """Return width and height of a size such as 1024x768, or None of anything else."""
    sides = re.fullmatch(f"{_SIDE}x{_SIDE}", text) if isinstance(text, str) else None
    return None if sides is None else (int(sides[1]), int(sides[2]))


def build_request(fields: Mapping[str, Any]) -> GenerationRequest:
    """Return the fields as a request; a wrong field or an unknown model is refused."""
    problems = tuple(find_problems(fields, INFERENCE_FIELDS))
    if problems:
        raise invalid(*problems)
    values = read_defaults(INFERENCE_FIELDS) | read_values(fields, INFERENCE_FIELDS)
    model = INFERENCE_MODELS.get(values["model"])
    if model is None:
        raise coded("model_not_found")
    width, height = read_size(values["size"]) or (0, 0)
    return GenerationRequest(
        model=model,
        prompt=values["prompt"],
        negative_prompt=values.get("negative_prompt", ""),
        width=width,
        height=height,
        num_steps=DEFAULT_STEPS,
        guidance_scale=DEFAULT_GUIDANCE,
        seed=None,
        image=None,
        mask=None,
        num_images=values["n"],
        quality=values["quality"],
        style=values["style"],
        by_url=values["response_format"] == "url",
    )
