"""The error codes of dialect B: the status, message and details that belong to each."""

from collections.abc import Mapping
from types import MappingProxyType

import attrs


def _details(given: Mapping[str, object]) -> Mapping[str, object]:
    return MappingProxyType(dict(given))


@attrs.frozen
class Code:
    """What the API says with an error code."""

    status: int
    message: str
    details: Mapping[str, object] = attrs.field(factory=dict, converter=_details)


# The words are those of the vendor's page as far as it has any; `unauthorized` and `server_error` were chosen.
CODES: Mapping[str, Code] = {
    "invalid_request": Code(400, "Invalid request"),
    "invalid_prompt": Code(400, "Prompt is empty or invalid"),
    "invalid_size": Code(400, "Requested size not supported"),
    "content_policy_violation": Code(
        400, "Your request was rejected as it violates our content policy", {"reason": "Contains prohibited content"}
    ),
    "unauthorized": Code(401, "Missing or invalid API key"),
    "insufficient_quota": Code(402, "Not enough credits or quota"),
    "model_not_found": Code(404, "Model not found"),
    "rate_limit_exceeded": Code(429, "Too many requests"),
    "server_error": Code(500, "Internal server error"),
}

_OF_STATUS = {401: "unauthorized", 402: "insufficient_quota", 404: "model_not_found", 429: "rate_limit_exceeded"}


def code_of_status(status: int) -> str:
    """Return the code that fits an HTTP status."""
    return _OF_STATUS.get(status, "server_error" if status >= 500 else "invalid_request")
