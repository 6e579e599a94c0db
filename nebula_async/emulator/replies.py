"""What the emulator answers, whichever dialect it was asked in."""

import base64
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol

from starlette.responses import Response

from nebula_async.emulator.codes import CODES
from nebula_async.emulator.faults import Fault

WEB_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
MALFORMED_PAYLOADS = {
    "base64": "*** this is not base64 ***",
    "html": base64.b64encode(WEB_PAGE).decode("ascii"),
}


class PlainError(Protocol):
    """How a dialect tells an error for which there is only a status and a message."""

    def __call__(self, status: int, message: str, headers: Mapping[str, str]) -> Response:
        """Return the reply."""


def json_reply(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON reply in ASCII, which can carry even the lone surrogates of a broken prompt."""
    body = json.dumps(content).encode("ascii")
    return Response(body, status, dict(headers or {}), media_type="application/json")


def error_reply(
    status: int,
    code: str,
    message: str | None = None,
    details: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the envelope that has an error code, with the message and details documented for it unless given."""
    known = CODES.get(code)
    error = {
        "code": code,
        "message": message or (known.message if known else phrase(status)),
        "details": dict(details or (known.details if known else {})),
    }
    return json_reply({"status": "error", "error": error}, status, headers)


def fault_reply(fault: Fault, plain: PlainError) -> Response:
    """Return what a fault that is a status says."""
    status = fault.status or HTTPStatus.INTERNAL_SERVER_ERROR
    if fault.body is not None:
        return Response(fault.body, status, dict(fault.headers))
    if fault.argument:
        return error_reply(status, fault.argument, headers=fault.headers)
    if status == HTTPStatus.BAD_GATEWAY:
        return Response(WEB_PAGE, status, dict(fault.headers), media_type="text/html")
    return plain(status, phrase(status), fault.headers)


def unreadable_reply() -> Response:
    """Return a 200 that is no JSON."""
    return Response(b'{"status": "success", "object": list, "data": ', media_type="application/json")


def phrase(status: int) -> str:
    """Return what HTTP calls a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Error {status}"
