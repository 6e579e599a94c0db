"""What users ask for: frozen values, validated when they are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from attrs import Attribute, asdict, field, fields, frozen

from nebula_async.checks import MAX_SHOWN, Checks, shown
from nebula_async.errors import InvalidRequestError
from nebula_async.images.sources import PictureSource, as_text, is_source

check = Checks(InvalidRequestError)

MAX_SIDE = 8192
MIN_SIDE = 16
MAX_PICTURES = 10


def _check_source(_request: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not is_source(value):
        allowed = "a path, bytes, a binary file or a PIL image"
        raise InvalidRequestError(f"{attribute.name} must be {allowed}; got {shown(value)}")


def _check_mask(request: ImageRequest, _attribute: Attribute[Any], mask: object) -> None:
    if mask is not None and request.image is None:
        raise InvalidRequestError("mask needs an image: it says which part of the image is repainted")


def _as_json(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `extra` as the API will read it."""
    text = json.dumps(dict(extra), ensure_ascii=False, allow_nan=False)
    return cast("dict[str, Any]", json.loads(text.encode()))


def _copied(extra: Any) -> Any:
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


def _check_extra(_request: object, _attribute: Attribute[Any], extra: Mapping[str, Any] | None) -> None:
    given = extra or {}
    if known := sorted((KNOWN_FIELDS | {"model_name"}) & given.keys()):
        raise InvalidRequestError(f"extra must not hold {', '.join(known)}: give it as an argument of its own")
    pictures = given.get("num_images", 1)
    if type(pictures) is not int or not 1 <= pictures <= MAX_PICTURES:
        raise InvalidRequestError(f"num_images must be a whole number from 1 to {MAX_PICTURES}; got {shown(pictures)}")


@frozen(kw_only=True)
class ImageRequest:
    """One picture of the serverless API: `ImageRequest("a flying cat", model="black-forest-labs/FLUX.1-schnell")`.

    `None` leaves a field out. Sizes are in pixels. `image` (and `mask`: white is repainted, black is kept) is a path,
    bytes, a binary file or a PIL image. `id` names the request in results and is not sent; `extra` passes fields that
    this library does not know. Raises `InvalidRequestError` naming the field, what was given and what is allowed. The
    API documents no ranges: those here only catch what cannot be meant.
    """

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
    extra: Mapping[str, Any] | None = field(default=None, converter=_copied, validator=[_check_json, _check_extra])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set as plain JSON values; `from_dict` reads them back.

        A path stays a path, bytes become a data URL. Raises `InvalidRequestError` for an open file or a PIL image.
        """
        given = asdict(self, recurse=False, filter=lambda _attribute, value: value is not None)
        return {name: as_text(value) if name in ("image", "mask") else value for name, value in given.items()}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> ImageRequest:
        """Make a request of plain values; a field that is not known is refused by name."""
        if not isinstance(given, Mapping):
            raise InvalidRequestError(f"a request must be a mapping of fields; got {shown(given)}")
        if unknown := sorted(f"{str(name)[:MAX_SHOWN]!r}"[1:-1] for name in given.keys() - KNOWN_FIELDS):
            known = ", ".join(sorted(KNOWN_FIELDS))
            raise InvalidRequestError(f"unknown field {', '.join(unknown)}; known are {known}")
        if missing := [name for name in ("prompt", "model") if name not in given]:
            raise InvalidRequestError(f"{' and '.join(missing)} must be given")
        return cls(given["prompt"], **{name: value for name, value in given.items() if name != "prompt"})

    @classmethod
    def refused(cls, prompt: str, model: object = None) -> ImageRequest:
        """Return the likeness of a request that could not be made, for the `Failure` that says why; never sent."""
        request = object.__new__(cls)
        values = {attribute.name: None for attribute in fields(cls)} | {"prompt": prompt, "model": model}
        for name, value in values.items():
            object.__setattr__(request, name, value)  # the class is frozen, and its validators are passed by on purpose
        return request


KNOWN_FIELDS = frozenset(attribute.name for attribute in fields(ImageRequest))
