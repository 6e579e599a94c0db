"""What users ask for: frozen values, validated when they are made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, cast

from attrs import Attribute, asdict, field, fields, frozen

from nebula_async.checks import MAX_SHOWN, Checks, shown
from nebula_async.errors import InvalidRequestError
from nebula_async.images.sources import KINDS, PictureSource, as_text, is_source
from nebula_async.json_bounds import is_flat

check = Checks(InvalidRequestError)

MAX_SIDE = 8192
MIN_SIDE = 16
MAX_PICTURES = 10
MAX_DEPTH = 100
"""Levels of lists and objects in `extra`: far deeper ones could be sent, and then neither be pickled nor be shown."""

PICTURE_FIELDS = ("image", "mask")

SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
QUALITIES = ("standard", "hd")
STYLES = ("natural", "vivid", "artistic")
FORMATS = ("url", "b64_json")

Quality: TypeAlias = Literal["standard", "hd"]
Style: TypeAlias = Literal["natural", "vivid", "artistic"]
ResponseFormat: TypeAlias = Literal["url", "b64_json"]


def _check_source(_request: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not is_source(value):
        raise InvalidRequestError(f"{attribute.name} must be {KINDS}; got {shown(value)}")


def _check_mask(request: ImageRequest, _attribute: Attribute[Any], mask: object) -> None:
    if mask is not None and request.image is None:
        raise InvalidRequestError("mask needs an image: it says which part of the image is repainted")


def _as_json(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `extra` as the API will read it."""
    text = json.dumps(dict(extra), ensure_ascii=False, allow_nan=False)
    return cast("dict[str, Any]", json.loads(text.encode()))


def _copied(extra: Any) -> Any:
    if extra is None:
        return None
    try:
        return _as_json(extra) if _is_named(extra) else extra
    except (TypeError, ValueError, RecursionError):
        return extra  # the validator says what is wrong with it


def _is_named(extra: object) -> bool:
    return isinstance(extra, Mapping) and all(isinstance(name, str) for name in extra)


def _check_json(_request: object, _attribute: Attribute[Any], extra: Any) -> None:
    if extra is None:
        return
    if not _is_named(extra):
        raise InvalidRequestError(f"extra must be a mapping of field names to JSON values; got {shown(extra)}")
    try:
        _as_json(extra)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"extra must hold JSON values only: {error}") from error
    if not is_flat(extra, MAX_DEPTH):
        raise InvalidRequestError(f"extra must hold JSON values only, nested at most {MAX_DEPTH} deep")


def _check_names(request: Request, _attribute: Attribute[Any], extra: Mapping[str, Any] | None) -> None:
    if extra is None:
        return
    if known := sorted((field_names(type(request)) | {"model_name"}) & extra.keys()):
        raise InvalidRequestError(f"extra must not hold {', '.join(known)}: give it as an argument of its own")


def _check_count(_request: object, _attribute: Attribute[Any], extra: Mapping[str, Any] | None) -> None:
    pictures = 1 if extra is None else extra.get("num_images", 1)
    if type(pictures) is not int or not 1 <= pictures <= MAX_PICTURES:
        raise InvalidRequestError(f"num_images must be a whole number from 1 to {MAX_PICTURES}; got {shown(pictures)}")


@frozen(kw_only=True)
class ImageRequest:
    """One picture of the serverless API: `ImageRequest("a flying cat", model="black-forest-labs/FLUX.1-schnell")`.

    `None` leaves a field out. Sizes are in pixels. `image` (and `mask`: white is repainted, black is kept) is a path,
    bytes, a binary file, a PIL image or an async iterator of bytes. `id` names the request in results and is not sent;
    `extra` passes fields that this library does not know. Raises `InvalidRequestError` naming the field, what was given
    and what is allowed. The API documents no ranges: those here only catch what cannot be meant.
    """

    dialect: ClassVar[str] = "serverless"

    prompt: str = field(kw_only=False, validator=check.text())
    model: str = field(validator=check.text(max_bytes=256))
    width: int | None = field(default=None, validator=check.whole(MIN_SIDE, MAX_SIDE, optional=True))
    height: int | None = field(default=None, validator=check.whole(MIN_SIDE, MAX_SIDE, optional=True))
    num_steps: int | None = field(default=None, validator=check.whole(1, 1_000, optional=True))
    guidance_scale: float | None = field(default=None, validator=check.number(0, 1_000, optional=True))
    seed: int | None = field(default=None, validator=check.whole(-1, 2**63 - 1, optional=True))
    negative_prompt: str | None = field(default=None, validator=check.text(optional=True, blank=True))
    image: PictureSource | None = field(default=None, validator=_check_source, repr=lambda value: shown(value))
    mask: PictureSource | None = field(
        default=None, validator=[_check_source, _check_mask], repr=lambda value: shown(value)
    )
    id: str | None = field(default=None, validator=check.text(optional=True, max_bytes=256))
    extra: Mapping[str, Any] | None = field(
        default=None, converter=_copied, validator=[_check_json, _check_names, _check_count]
    )

    @property
    def pictures(self) -> int:
        """How many pictures are asked for: one, unless `extra` has a `num_images`."""
        asked: int = (self.extra or {}).get("num_images", 1)
        return asked

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set as plain JSON values; `from_dict` reads them back.

        A path stays a path, bytes become a data URL. Raises `InvalidRequestError` for an open file or a PIL image.
        """
        return {name: as_text(value) if name in PICTURE_FIELDS else value for name, value in _given(self).items()}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> ImageRequest:
        """Make a request of plain values; a field that is not known is refused by name."""
        return _made(cls, given)

    @classmethod
    def refused(cls, prompt: str, model: object = None) -> ImageRequest:
        """Return the likeness of a request that could not be made, for the `Failure` that says why; never sent."""
        return _likeness(cls, prompt, model)


@frozen(kw_only=True)
class InferenceRequest:
    """One to ten pictures of the inference API, as its page documents it: `InferenceRequest("a lake", model="sdxl")`.

    `None` leaves a field out, and the API's default stands: one picture, quality "standard", style "natural", delivered
    as a URL that is valid for an hour. `size` is width x height in pixels, "1024x1024". `id` names the request in
    results and is not sent; `extra` passes fields that this library does not know. Raises `InvalidRequestError` naming
    the field, what was given and what is allowed.
    """

    dialect: ClassVar[str] = "inference"

    prompt: str = field(kw_only=False, validator=check.text())
    model: str = field(validator=check.text(max_bytes=256))
    n: int | None = field(default=None, validator=check.whole(1, MAX_PICTURES, optional=True))
    size: str | None = field(
        default=None, validator=check.form(SIZE, "width x height in pixels, such as 1024x1024", optional=True)
    )
    quality: Quality | None = field(default=None, validator=check.one_of(QUALITIES, optional=True))
    style: Style | None = field(default=None, validator=check.one_of(STYLES, optional=True))
    negative_prompt: str | None = field(default=None, validator=check.text(optional=True, blank=True))
    response_format: ResponseFormat | None = field(default=None, validator=check.one_of(FORMATS, optional=True))
    id: str | None = field(default=None, validator=check.text(optional=True, max_bytes=256))
    extra: Mapping[str, Any] | None = field(default=None, converter=_copied, validator=[_check_json, _check_names])

    @property
    def pictures(self) -> int:
        """How many pictures are asked for."""
        return self.n or 1

    @property
    def seed(self) -> None:
        """Always `None`: this API has no seed. With it, results of both kinds of request are read alike."""
        return

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, and `dialect`, as plain JSON values; `from_dict` reads them back."""
        return {"dialect": self.dialect, **_given(self)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> InferenceRequest:
        """Make a request of plain values; a field that is not known is refused by name."""
        return _made(cls, given)

    @classmethod
    def refused(cls, prompt: str, model: object = None) -> InferenceRequest:
        """Return the likeness of a request that could not be made, for the `Failure` that says why; never sent."""
        return _likeness(cls, prompt, model)


Request: TypeAlias = ImageRequest | InferenceRequest
Made = TypeVar("Made", ImageRequest, InferenceRequest)

DIALECTS: Mapping[str, type[Request]] = {kind.dialect: kind for kind in (ImageRequest, InferenceRequest)}
FIELD_NAMES: Mapping[type[Request], frozenset[str]] = {
    kind: frozenset(attribute.name for attribute in fields(kind)) for kind in DIALECTS.values()
}


def kind_of_request(dialect: object) -> type[Request]:
    """Return the class of a dialect's requests, the serverless one for `None`. Raises `InvalidRequestError`."""
    kind = DIALECTS.get(ImageRequest.dialect if dialect is None else str(dialect))
    if kind is None:
        raise InvalidRequestError(f"dialect must be one of {', '.join(sorted(DIALECTS))}; got {shown(dialect)}")
    return kind


def read_request(given: Mapping[str, Any]) -> Request:
    """Make a request of plain values, of the dialect that they name in `dialect`, or else of the serverless one."""
    return kind_of_request(given.get("dialect")).from_dict(given)


def field_names(kind: type[Request]) -> frozenset[str]:
    """Return the names of a kind of request's fields."""
    return FIELD_NAMES[kind]


def _given(request: Request) -> dict[str, Any]:
    return asdict(request, recurse=False, filter=lambda _attribute, value: value is not None)


def _made(kind: type[Made], given: Mapping[str, Any]) -> Made:
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f"a request must be a mapping of fields; got {shown(given)}")
    values = {name: value for name, value in given.items() if name != "dialect"}
    if given.get("dialect", kind.dialect) not in (kind.dialect, None):
        raise InvalidRequestError(f"dialect must be {kind.dialect} here; got {shown(given['dialect'])}")
    if unknown := values.keys() - field_names(kind):
        raise InvalidRequestError(_about_unknown(kind, unknown))
    if missing := [name for name in ("prompt", "model") if name not in values]:
        raise InvalidRequestError(f"{' and '.join(missing)} must be given")
    return kind(values.pop("prompt"), **values)


def _about_unknown(kind: type[Request], unknown: set[Any]) -> str:
    names = ", ".join(sorted(f"{str(name)[:MAX_SHOWN]!r}"[1:-1] for name in unknown))
    others = [other for other in DIALECTS.values() if unknown <= field_names(other)]
    if others:
        other = f"dialect {others[0].dialect} ({others[0].__name__})"
        return f"the {kind.dialect} API has no {names}: give {other}, or leave that out"
    return f"unknown field {names}; known are {', '.join(sorted(field_names(kind)))}"


def _likeness(kind: type[Made], prompt: str, model: object) -> Made:
    request = object.__new__(kind)
    values = {attribute.name: None for attribute in fields(kind)} | {"prompt": prompt, "model": model}
    for name, value in values.items():
        object.__setattr__(request, name, value)  # the class is frozen, and its validators are passed by on purpose
    return request
