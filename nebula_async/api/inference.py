"""The inference API: `POST …/v1/images/generate`. Request fields: the vendor's page "Image Generation API"."""

from __future__ import annotations

from nebula_async.api.messages import HttpRequest
from nebula_async.api.posting import post
from nebula_async.requests import InferenceRequest


def encode_request(request: InferenceRequest, *, inference_url: str) -> HttpRequest:
    """Return the HTTP request for an inference request. Raises `InvalidRequestError` for a body over 64 MiB."""
    return post(f"{inference_url}/images/generate", request)
