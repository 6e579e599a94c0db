"""A request of either dialect as the JSON that is posted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from nebula_async.api.messages import HttpRequest
from nebula_async.errors import InvalidRequestError
from nebula_async.images.uploads import Picture, Upload
from nebula_async.requests import DIALECTS, PICTURE_FIELDS, Request, field_names

MAX_REQUEST_BYTES = 64 * 2**20


def post(url: str, request: Request, model_field: str = "model", pictures: Sequence[Picture] = ()) -> HttpRequest:
    """Return the POST of a request's fields, and of these pictures as base64, which are read while they are sent.

    Raises `InvalidRequestError` for a body over 64 MiB.
    """
    opening = b"{" + _members(_fields(request.dialect, model_field)(request))
    closing = b"".join(b"," + _members({name: value}) for name, value in (request.extra or {}).items()) + b"}"
    body = Upload((opening, *chain.from_iterable(map(_member, pictures)), closing)) if pictures else opening + closing
    sent = HttpRequest(method="POST", url=url, body=body, pictures=request.pictures)
    if sent.size > MAX_REQUEST_BYTES:
        raise InvalidRequestError(
            f"the request has {sent.size} bytes; at most {MAX_REQUEST_BYTES} are sent: give smaller input pictures"
        )
    return sent


def _members(given: Mapping[str, Any]) -> bytes:
    """Return the JSON of an object without its braces."""
    return json.dumps(given, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()[1:-1]


def _member(picture: Picture) -> tuple[bytes | Picture, ...]:
    return b',"%s":"' % picture.name.encode(), picture, b'"'


@cache
def _fields(dialect: str, model_field: str) -> Any:
    """Return the function that writes a request's fields; made at first use, because it takes milliseconds."""
    kind = DIALECTS[dialect]
    unsent = {"id", "extra", *PICTURE_FIELDS} & field_names(kind)
    overrides: dict[str, Any] = {"model": override(rename=model_field)} | dict.fromkeys(unsent, override(omit=True))
    return make_dict_unstructure_fn(kind, cattrs.Converter(), _cattrs_omit_if_default=True, **overrides)
