"""The serverless API: `POST …/api/v1/images/generation` with `model` (or, as once documented, `model_name`).

Request fields: the vendor's page "Generate Serverless Images".
"""

from __future__ import annotations

from collections.abc import Sequence

from nebula_async.api.messages import HttpRequest
from nebula_async.api.posting import post
from nebula_async.images.uploads import Picture
from nebula_async.requests import ImageRequest


def encode_request(
    request: ImageRequest, *, base_url: str, model_field: str, pictures: Sequence[Picture] = ()
) -> HttpRequest:
    """Return the HTTP request for an image request; `pictures` are its `image` and `mask`.

    Raises `InvalidRequestError` for a body over 64 MiB.
    """
    return post(f"{base_url}/images/generation", request, model_field, pictures)
