"""What visitors may ask for: a pydantic model made of the fields of `ImageRequest`, and an application's limits."""

from __future__ import annotations

import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NoReturn, get_type_hints

import pybase64
from attrs import NOTHING, Attribute, evolve, field, fields, frozen
from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nebula_async.api.catalog import usual_steps_of
from nebula_async.checks import Checks, shown
from nebula_async.errors import ConfigurationError, InvalidRequestError
from nebula_async.requests import MAX_SIDE, MIN_SIDE, PICTURE_FIELDS, ImageRequest

check = Checks(ConfigurationError)

NOT_FOR_VISITORS = frozenset({"extra"})
"""It passes whatever it holds to the API: several pictures, for one."""

BOUNDS: Mapping[str, tuple[float, float]] = {
    "width": (MIN_SIDE, MAX_SIDE),
    "height": (MIN_SIDE, MAX_SIDE),
    "num_steps": (1, 1_000),
    "guidance_scale": (0, 1_000),
    "seed": (-1, 2**63 - 1),
}
"""What the documents of an application say beside the types; the validators of `ImageRequest` are what counts."""

USUAL_SIDE = 1024
"""What the API's own samples ask for."""

DATA_URL_MARK = ";base64,"
MOST = 2**40


def _check_models(_limits: object, _attribute: object, models: Any) -> None:
    is_list = isinstance(models, Sequence) and not isinstance(models, str)
    if models is not None and not (is_list and models and all(isinstance(name, str) for name in models)):
        raise ConfigurationError(f"models must be a list of names of models; got {shown(models)}")


@frozen(kw_only=True)
class BodyLimits:
    """What an application allows its visitors, who spend its money. `None` is no limit.

    `models` are the only ones, and the first is meant where none is named; `most_side` and `most_pixels` bound the
    size, `most_steps` the steps, `most_prompt` the characters of each text, `most_picture_bytes` each picture handed in
    (0: none may be). What is bounded and left out is filled in (`to_request`), for the API would choose it otherwise.
    """

    models: Sequence[str] | None = field(default=None, validator=_check_models)
    most_side: int | None = field(default=None, validator=check.whole(MIN_SIDE, MAX_SIDE, optional=True))
    most_pixels: int | None = field(default=None, validator=check.whole(MIN_SIDE**2, MAX_SIDE**2, optional=True))
    most_steps: int | None = field(default=None, validator=check.whole(1, 1_000, optional=True))
    most_prompt: int | None = field(default=10_000, validator=check.whole(1, MOST, optional=True))
    most_picture_bytes: int = field(default=10 * 2**20, validator=check.whole(0, MOST))

    @property
    def most(self) -> dict[str, int]:
        """The greatest number that a field may have, by field."""
        bounds = {"width": self.most_side, "height": self.most_side, "num_steps": self.most_steps}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    def fill(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return values for the fields that are bounded, and that a visitor has left out: 1024 pixels a side and the
        model's usual steps, or less where less is allowed. Of a model that is not known, the steps are all that are.
        """
        filled = dict[str, Any]()
        if self.most_side is not None or self.most_pixels is not None:
            filled = self._fill_sides(given["width"], given["height"])
        if self.most_steps is not None and given["num_steps"] is None:
            usual = usual_steps_of(given["model"], self.most_steps)
            filled |= {} if usual is None else {"num_steps": min(usual, self.most_steps)}
        return filled

    def _fill_sides(self, width: int | None, height: int | None) -> dict[str, int]:
        side = min(USUAL_SIDE, self.most_side or USUAL_SIDE)
        pixels = self.most_pixels or MAX_SIDE**2
        other = width or height
        fitting = math.isqrt(pixels) if other is None else pixels // other
        chosen = max(min(side, fitting) // MIN_SIDE * MIN_SIDE, MIN_SIDE)
        return {name: chosen for name, value in (("width", width), ("height", height)) if value is None}

    def check(self, name: str, value: object) -> None:
        """Refuse a value of a field. Raises `InvalidRequestError`."""
        if name == "model" and self.models is not None and value not in self.models:
            raise InvalidRequestError(f"model must be one of {', '.join(self.models)}; got {shown(value)}")
        if isinstance(value, int) and value > self.most.get(name, value):
            raise InvalidRequestError(f"{name} must be at most {self.most[name]} here; got {value}")
        is_long = isinstance(value, str) and self.most_prompt is not None and len(value) > self.most_prompt
        if is_long and name in ("prompt", "negative_prompt"):
            raise InvalidRequestError(f"{name} must have at most {self.most_prompt} characters here")

    def check_size(self, width: int | None, height: int | None) -> None:
        """Refuse a size. Raises `InvalidRequestError`."""
        if self.most_pixels is not None and width and height and width * height > self.most_pixels:
            text = f"width times height must be at most {self.most_pixels} here; got {width} x {height}"
            raise InvalidRequestError(text)


def _schema_of(attribute: Attribute[Any], hint: Any) -> dict[str, Any]:
    if attribute.name in PICTURE_FIELDS:
        text = {"type": "string", "contentEncoding": "base64", "description": "a picture in base64, or a data: URL"}
        return {"anyOf": [text, {"type": "null"}]}
    schema = TypeAdapter(hint).json_schema()
    bounds = dict(zip(("minimum", "maximum"), BOUNDS.get(attribute.name, ()), strict=False))
    for each in schema.get("anyOf", [schema]):
        if each.get("type") in ("integer", "number"):
            each.update(bounds)
    return schema


def _fields() -> dict[str, Any]:
    """Return the fields of the model: those of `ImageRequest`, with their types for the documents alone.

    What is given is taken as it is, so that the validators of `ImageRequest` say what is wrong with it.
    """
    hints = get_type_hints(ImageRequest)
    return {
        attribute.name: (
            Annotated[Any, WithJsonSchema(_schema_of(attribute, hints[attribute.name]))],
            Field(
                default=... if attribute.default is NOTHING else attribute.default,
                repr=attribute.name not in PICTURE_FIELDS,
            ),
        )
        for attribute in fields(ImageRequest)
        if attribute.name not in NOT_FOR_VISITORS
    }


Fields: Any = create_model("Fields", **_fields())


class ImageBody(Fields):  # type: ignore[misc]  # made of the fields of ImageRequest, so that it cannot differ
    """The body of a request for a picture: the fields of `ImageRequest`, but for `extra`.

    What is wrong is a 422 with the sentence that `ImageRequest` has for it, at its place. Pictures are handed in as
    base64 or as a data URL: no path of the server, and no URL, is ever opened for a visitor. What an application allows
    is told where a class of its own is made (`BodyLimits`):

        class Wish(ImageBody, models=["black-forest-labs/FLUX.1-schnell"], most_side=1024, most_steps=8):
            pass
    """

    model_config = ConfigDict(extra="forbid")

    limits: ClassVar[BodyLimits] = BodyLimits()

    def __init_subclass__(cls, **limits: Any) -> None:
        known = [attribute.name for attribute in fields(BodyLimits)]
        if unknown := sorted(limits.keys() - known):
            raise ConfigurationError(f"{', '.join(unknown)} is no limit of a body; those are {', '.join(known)}")
        super().__init_subclass__()
        cls.limits = evolve(cls.limits, **limits)

    def to_request(self, **changes: Any) -> ImageRequest:
        """Return the request, with other values for some of its fields.

        Width, height and steps that were left out are filled in where the limits bound them: 1024, and what is usual
        for the model, or less. Raises `InvalidRequestError`.
        """
        names = [attribute.name for attribute in fields(ImageRequest) if attribute.name not in NOT_FOR_VISITORS]
        given = {name: getattr(self, name) for name in names} | changes
        return ImageRequest(**given | self.limits.fill(given))

    @model_validator(mode="before")
    @classmethod
    def _name_model(cls, given: Any) -> Any:
        if cls.limits.models and isinstance(given, Mapping):
            return {"model": cls.limits.models[0], **given}
        return given

    @field_validator("*")
    @classmethod
    def _check_field(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        attribute = getattr(fields(ImageRequest), name, None)
        if attribute is None:  # a field of a class of the application's own
            return value
        if name in PICTURE_FIELDS:
            return value if value is None else _refusing(_decoded, name, value, cls.limits.most_picture_bytes)
        _refusing(attribute.validator, None, attribute, value)
        _refusing(cls.limits.check, name, value)
        return value

    @model_validator(mode="after")
    def _check_whole(self) -> ImageBody:
        request = _refusing(self.to_request)
        _refusing(self.limits.check_size, request.width, request.height)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        described = handler.resolve_ref_schema(schema)
        _show_limits(described["properties"], cls.limits)
        if cls.limits.models:
            described["required"] = [name for name in described.get("required", []) if name != "model"]
        return schema


def _refusing(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the work returns; what it refuses is an error of pydantic's, with the same sentence."""
    try:
        return work(*arguments)
    except InvalidRequestError as error:
        _refuse(error.message)


def _refuse(message: str) -> NoReturn:
    raise PydanticCustomError("image_request", message)


def _decoded(name: str, given: object, most_bytes: int) -> bytes:
    """Return a picture's bytes from base64 or a data URL. Raises `InvalidRequestError`."""
    if not most_bytes:
        raise InvalidRequestError(f"{name} is not taken here: leave it out")
    if isinstance(given, bytes):  # made in Python, from bytes at hand
        return given
    if not isinstance(given, str):
        raise InvalidRequestError(f"{name} must be a picture in base64, or a data: URL; got {shown(given)}")
    text = given.partition(DATA_URL_MARK)[2] if given.startswith("data:") else given
    if len(text) > most_bytes * 4 / 3 + 4:
        raise InvalidRequestError(f"{name} must have at most {most_bytes} bytes here")
    try:
        data = pybase64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        data = b""
    if not data:
        raise InvalidRequestError(f"{name} must be a picture in base64, or a data: URL; got {shown(given)}")
    return data


def _show_limits(properties: dict[str, Any], limits: BodyLimits) -> None:
    """Show the limits of one kind of bodies; what all kinds have in common is left as it is."""
    for name, bound in limits.most.items():
        properties[name] = _at_most(properties[name], bound)
    if limits.models:
        properties["model"] = {**properties["model"], "enum": list(limits.models), "default": limits.models[0]}
    if limits.most_prompt is not None:
        properties["prompt"] = {**properties["prompt"], "maxLength": limits.most_prompt}
    if not limits.most_picture_bytes:
        for name in PICTURE_FIELDS:
            properties.pop(name, None)


def _at_most(schema: dict[str, Any], bound: int) -> dict[str, Any]:
    if "anyOf" in schema:
        return {**schema, "anyOf": [_at_most(each, bound) for each in schema["anyOf"]]}
    return {**schema, "maximum": bound} if schema.get("type") == "integer" else schema
