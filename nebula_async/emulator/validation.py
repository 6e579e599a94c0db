"""A request body, checked: from bytes to the value that is painted."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs

from nebula_async.emulator.catalogue import MODELS, Model
from nebula_async.emulator.refusals import Refusal, invalid

LARGEST_SIDE = 4096
DEFAULT_SIDE = 1024
TINY_PIXELS = 64 * 64
DEFAULT_STEPS = 25
DEFAULT_GUIDANCE = 5.0
MOST_IMAGES = 10
RANDOM_SEED = -1
LARGEST_SEED = 2**63 - 1

# (field, Python types, what it should be, pydantic's name for the error), as FastAPI would say it.
_TYPES: tuple[tuple[str, tuple[type, ...], str, str], ...] = (
    ("model", (str,), "string", "string_type"),
    ("model_name", (str,), "string", "string_type"),
    ("prompt", (str,), "string", "string_type"),
    ("negative_prompt", (str,), "string", "string_type"),
    ("width", (int,), "integer", "int_type"),
    ("height", (int,), "integer", "int_type"),
    ("num_steps", (int,), "integer", "int_type"),
    ("guidance_scale", (int, float), "number", "float_type"),
    ("seed", (int,), "integer", "int_type"),
    ("image", (str,), "string", "string_type"),
    ("mask", (str,), "string", "string_type"),
    ("num_images", (int,), "integer", "int_type"),
)
_LIMITS: tuple[tuple[str, float, float], ...] = (
    ("width", 1, LARGEST_SIDE),
    ("height", 1, LARGEST_SIDE),
    ("num_steps", 1, 1000),
    ("guidance_scale", 0, 100),
    ("seed", RANDOM_SEED, LARGEST_SEED),
    ("num_images", 1, MOST_IMAGES),
)


@attrs.frozen
class GenerationRequest:
    """A request for pictures that can be served: only what its model honours, with every default filled in."""

    model: Model
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_steps: int
    guidance_scale: float
    seed: int
    image: str | None
    mask: str | None
    num_images: int

    @property
    def is_tiny(self) -> bool:
        """Whether painting it takes less time than handing it to a thread and back."""
        return self.image is None and self.width * self.height * self.num_images <= TINY_PIXELS

    def digest(self, index: int) -> bytes:
        """Return what makes this picture unlike any other: a hash over every parameter."""
        values = attrs.asdict(self, recurse=False) | {"model": self.model.id, "index": index}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()


def read_fields(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request body; anything else is refused with 422."""
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


def check_fields(fields: Mapping[str, Any]) -> None:
    """Refuse with 422 what is missing, of a wrong type or out of range; null means that a field is left out."""
    problems = (*_missing(fields), *_wrong_types(fields), *_out_of_range(fields))
    if problems:
        raise invalid(*problems)


def build_request(fields: Mapping[str, Any], drawn_seed: int) -> GenerationRequest:
    """Return the checked fields as a request; an unknown model is refused with 400, a missing picture with 422.

    A seed of -1 becomes `drawn_seed`; a seed that is missing or not honoured follows from the other parameters.
    """
    model = MODELS.get(named_model(fields) or "")
    if model is None:
        raise Refusal(400, "Model not found")
    honoured = {name: value for name, value in fields.items() if value is not None and model.honours(name)}
    if model.needs_image and "image" not in honoured:
        raise invalid(("image", "Field required", "missing"))
    request = GenerationRequest(
        model=model,
        prompt=honoured["prompt"],
        negative_prompt=honoured.get("negative_prompt", ""),
        width=_side(honoured.get("width", DEFAULT_SIDE), model),
        height=_side(honoured.get("height", DEFAULT_SIDE), model),
        num_steps=honoured.get("num_steps", DEFAULT_STEPS),
        guidance_scale=float(honoured.get("guidance_scale", DEFAULT_GUIDANCE)),
        seed=drawn_seed if honoured.get("seed") == RANDOM_SEED else honoured.get("seed", RANDOM_SEED),
        image=honoured.get("image"),
        mask=honoured.get("mask"),
        num_images=honoured.get("num_images", 1),
    )
    if request.seed != RANDOM_SEED:
        return request
    return attrs.evolve(request, seed=int.from_bytes(request.digest(0)[:4]))


def _side(pixels: int, model: Model) -> int:
    multiple = model.side_multiple
    return max(multiple, round(pixels / multiple) * multiple)


def _missing(fields: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if fields.get("model") is None and fields.get("model_name") is None:
        yield ("model", "Field required", "missing")
    if fields.get("prompt") is None:
        yield ("prompt", "Field required", "missing")


def _wrong_types(fields: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, types, article, kind in _TYPES:
        value = fields.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
            yield (name, f"Input should be a valid {article}", kind)


def _out_of_range(fields: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, least, most in _LIMITS:
        value = fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if math.isnan(value) or value < least:
            yield (name, f"Input should be greater than or equal to {least}", "greater_than_equal")
        elif value > most:
            yield (name, f"Input should be less than or equal to {most}", "less_than_equal")
