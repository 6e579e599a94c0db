"""A request of either dialect as the JSON that is posted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from nebula_async.api.messages import HttpRequest
from nebula_async.errors import InvalidRequestError
from nebula_async.requests import DIALECTS, PICTURE_FIELDS, Request, field_names

MAX_REQUEST_BYTES = 64 * 2**20


def post(
    url: str, request: Request, model_field: str = "model", pictures: Mapping[str, str] | None = None
) -> HttpRequest:
    """Return the POST of a request's fields; `pictures` holds the base64 of its pictures.

    Raises `InvalidRequestError` for a body over 64 MiB.
    """
    given = {**_fields(request.dialect, model_field)(request), **(pictures or {}), **(request.extra or {})}
    body = json.dumps(given, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > MAX_REQUEST_BYTES:
        raise InvalidRequestError(f"the request has {len(body)} bytes; at most {MAX_REQUEST_BYTES} are sent")
    return HttpRequest(method="POST", url=url, body=body, pictures=request.pictures)


@cache
def _fields(dialect: str, model_field: str) -> Any:
    """Return the function that writes a request's fields; made at first use, because it takes milliseconds."""
    kind = DIALECTS[dialect]
    unsent = {"id", "extra", *PICTURE_FIELDS} & field_names(kind)
    overrides: dict[str, Any] = {"model": override(rename=model_field)} | dict.fromkeys(unsent, override(omit=True))
    return make_dict_unstructure_fn(kind, cattrs.Converter(), _cattrs_omit_if_default=True, **overrides)
