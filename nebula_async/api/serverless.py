"""The serverless API: `POST …/api/v1/images/generation` with `model` (or, as once documented, `model_name`).

Request fields and reply shapes: the vendor's page "Generate Serverless Images".
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import cattrs
from attrs import evolve, frozen
from cattrs.gen import make_dict_unstructure_fn, override

from nebula_async.api.catalog import CATALOG, Model
from nebula_async.api.envelope import is_error, is_known, read_error
from nebula_async.api.extract import decode_base64, flat_enough, parse_json
from nebula_async.api.headers import read_request_id
from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.errors import InvalidRequestError, NebulaError, UnusableReplyError
from nebula_async.images.image import Image
from nebula_async.images.media import read_media
from nebula_async.requests import ImageRequest

MAX_REQUEST_BYTES = 64 * 2**20

BALANCE = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")


def _optional(kind: type | tuple[type, ...]) -> Any:
    """A hook under which a member of the wrong type reads as absent: replies are documented thinly."""
    return lambda value, _type: value if isinstance(value, kind) and not isinstance(value, bool) else None


def _finite(value: object, _type: object = float) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None  # NaN is not, nor a long whole number


replies = cattrs.Converter()
replies.register_structure_hook(str | None, _optional(str))
replies.register_structure_hook(int | None, _optional(int))
replies.register_structure_hook(float | None, _finite)
replies.register_structure_hook(Mapping[str, Any] | None, _optional(dict))


@frozen
class Entry:
    """One picture of a reply, as base64 or as a URL."""

    b64_json: str | None = None
    url: str | None = None
    index: int | None = None
    timings: Mapping[str, Any] | None = None


@frozen
class Facts:
    """What a reply says beside its pictures."""

    model: str | None = None
    message: str | None = None
    usage: Mapping[str, Any] | None = None


@frozen(kw_only=True)
class Answer:
    """A successful reply, read: at least one picture; `missing` were asked for and are not there."""

    facts: Facts
    images: tuple[Image, ...]
    inference_seconds: float | None = None
    missing: int = 0


@cache
def _fields(model_field: str) -> Any:
    """Return the function that writes a request's fields; made at first use, because it takes milliseconds."""
    return make_dict_unstructure_fn(
        ImageRequest,
        cattrs.Converter(),
        _cattrs_omit_if_default=True,
        model=override(rename=model_field),
        image=override(omit=True),
        mask=override(omit=True),
        id=override(omit=True),
        extra=override(omit=True),
    )


def encode_request(
    request: ImageRequest, *, base_url: str, model_field: str, pictures: Mapping[str, str] | None = None
) -> HttpRequest:
    """Return the HTTP request for an image request; `pictures` holds the base64 of its `image` and `mask`.

    Raises `InvalidRequestError` for a body over 64 MiB.
    """
    given = {**_fields(model_field)(request), **(pictures or {}), **(request.extra or {})}
    body = json.dumps(given, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > MAX_REQUEST_BYTES:
        raise InvalidRequestError(f"the request has {len(body)} bytes; at most {MAX_REQUEST_BYTES} are sent")
    return HttpRequest(method="POST", url=f"{base_url}/images/generation", body=body, pictures=pictures_asked(request))


def pictures_asked(request: ImageRequest) -> int:
    """Return how many pictures a request asks for: one, unless `extra` has a `num_images`."""
    asked: int = (request.extra or {}).get("num_images", 1)
    return asked


def read_reply(reply: Reply, *, asked: int, now: float) -> Answer:
    """Read a 2xx reply of any documented or observed shape, decoding its pictures. Blocks: call it beside the loop.

    Raises the API's own error where the body says that the request failed, else `UnusableReplyError` for a body
    without one usable picture.
    """
    body = _parsed(reply)
    if is_error(body):
        raise _failure(reply, now)
    entries = sorted(picture_entries(body), key=lambda entry: -1 if entry.index is None else entry.index)
    images, problems = _decoded(entries)
    if not images:
        raise _unusable(reply, f"the reply holds no usable picture: {problems[0] if problems else 'none in it'}")
    return Answer(
        facts=_facts(body),
        images=tuple(images),
        inference_seconds=_finite((entries[0].timings or {}).get("inference")),
        missing=max(asked - len(images), 0),
    )


def _facts(body: Mapping[str, Any]) -> Facts:
    data = body.get("data")
    beside_pictures = data if isinstance(data, Mapping) else {}  # the inference API has its `usage` there
    facts = replies.structure({**beside_pictures, **body}, Facts)
    return evolve(facts, usage=flat_enough(facts.usage))


def _failure(reply: Reply, now: float) -> NebulaError:
    """Return the API's own error where its code is known; with any other, the picture counts as paid for."""
    error = read_error(reply, now=now)
    if is_known(error.code):
        return error
    return _unusable(reply, f"success in the status, failure in the body: {error}", error.details)


def _unusable(reply: Reply, problem: str, details: object = None) -> UnusableReplyError:
    return UnusableReplyError(problem, request_id=read_request_id(reply.headers), details=details)


def picture_entries(body: Mapping[str, Any]) -> list[Entry]:
    """Find the pictures of a reply by its structure, whatever dialect was asked: the serverless list, the inference
    API's `data.images`, and the shapes of older servers.
    """
    data = body.get("data")
    found = data.get("images") if isinstance(data, Mapping) else data
    if isinstance(found, list):
        return [replies.structure(entry, Entry) for entry in found if isinstance(entry, Mapping)]
    older = {
        "b64_json": data.get("image_file") if isinstance(data, Mapping) else body.get("image_b64"),
        "url": body.get("image_url"),
    }
    entry = replies.structure(older, Entry)
    return [] if entry == Entry() else [entry]


def read_models(reply: Reply) -> tuple[Model, ...]:
    """Read the list of models. Raises `UnusableReplyError`."""
    data = _parsed(reply).get("data")
    listed = data.get("models") if isinstance(data, Mapping) else None
    if not isinstance(listed, list):
        raise _unusable(reply, "the reply holds no list of models")
    entries = (replies.structure(entry, ListedModel) for entry in listed if isinstance(entry, Mapping))
    return tuple(entry.as_model() for entry in entries if entry.model_name is not None)


@frozen
class ListedModel:
    """A model as the API lists it: the id is under `model_name`."""

    model_name: str | None = None
    model_alias: str | None = None
    model_type: str | None = None
    price: float | None = None

    def as_model(self) -> Model:
        """Return it as a catalogue entry."""
        identity = self.model_name or ""
        listed = Model(id=identity, name=self.model_alias or identity, kind=self.model_type or "")
        known = CATALOG.get(identity, listed)
        return known if self.price is None else evolve(known, price=Decimal(str(self.price)))


def read_credits(reply: Reply) -> Decimal:
    """Read the balance in USD. Raises `UnusableReplyError`."""
    data = _parsed(reply).get("data")
    balance = data.get("available_balance") if isinstance(data, Mapping) else None
    if not isinstance(balance, bool) and BALANCE.fullmatch(str(balance)):
        return Decimal(str(balance))
    raise _unusable(reply, "the reply holds no balance")


def _parsed(reply: Reply) -> Mapping[str, Any]:
    try:
        body = parse_json(reply.body)
    except ValueError as error:
        raise _unusable(reply, f"the reply is no JSON: {error}") from error
    if not isinstance(body, Mapping):
        raise _unusable(reply, f"the reply is no JSON object but a {type(body).__name__}")
    return body


def _decoded(entries: list[Entry]) -> tuple[list[Image], list[str]]:
    images, problems = [], []
    for entry in entries:
        try:
            images.append(_image(entry))
        except ValueError as error:
            problems.append(str(error))
    return images, problems


def _image(entry: Entry) -> Image:
    if not entry.b64_json:
        if not entry.url:
            raise ValueError("it has neither b64_json nor a URL")
        return Image(url=entry.url)
    data = decode_base64(entry.b64_json)
    media = read_media(data)
    return Image(
        data=data, media_type=media.media_type, width=media.width, height=media.height, extension=media.extension
    )
