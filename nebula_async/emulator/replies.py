"""What the emulator answers, as the service would word it."""

import base64
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Literal

from starlette.responses import Response

from nebula_async.emulator.faults import Fault
from nebula_async.emulator.refusals import Refusal

ErrorBody = Literal["status", "detail"]

WEB_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


def json_reply(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON reply in ASCII, which can carry even the lone surrogates of a broken prompt."""
    body = json.dumps(content).encode("ascii")
    return Response(body, status, dict(headers or {}), media_type="application/json")


def refusal_reply(refusal: Refusal, style: ErrorBody) -> Response:
    """Return a refusal in the platform's envelope; validation errors have one of their own."""
    if refusal.details:
        return json_reply({"detail": refusal.details}, refusal.status, refusal.headers)
    return json_reply(_error_body(refusal.message, style), refusal.status, refusal.headers)


def pictures_reply(model: str, pictures: Sequence[bytes], inference_seconds: float) -> Response:
    """Return the pictures as the generation endpoint does."""
    return _data_reply(model, [base64.b64encode(picture).decode("ascii") for picture in pictures], inference_seconds)


def status_reply(fault: Fault, style: ErrorBody) -> Response:
    """Return what a fault that is a status says."""
    status = fault.status or HTTPStatus.INTERNAL_SERVER_ERROR
    if fault.body is not None:
        return Response(fault.body, status, dict(fault.headers))
    message = _phrase(status)
    if fault.argument:
        error = {"status": "error", "error": {"code": fault.argument, "message": message}}
        return json_reply(error, status, fault.headers)
    if status == HTTPStatus.BAD_GATEWAY:
        return Response(WEB_PAGE, status, dict(fault.headers), media_type="text/html")
    return json_reply(_error_body(message, style), status, fault.headers)


def malformed_reply(fault: Fault, model: str) -> Response:
    """Return a 200 that no client can use."""
    match fault.argument:
        case "base64":
            return _data_reply(model, ["*** this is not base64 ***"], 1.0)
        case "html":
            return _data_reply(model, [base64.b64encode(WEB_PAGE).decode("ascii")], 1.0)
    return Response(b'{"model": "' + model.encode() + b'", "object": list, "data": ', media_type="application/json")


def _data_reply(model: str, payloads: Sequence[str], inference_seconds: float) -> Response:
    timings = {"inference": inference_seconds}
    data = [{"timings": timings, "index": index, "b64_json": payload} for index, payload in enumerate(payloads)]
    message = {"message": "Image generated successfully", "status": "success"}
    return json_reply({"model": model, "object": "list", "data": data, **message})


def _error_body(message: str, style: ErrorBody) -> dict[str, object]:
    if style == "detail":
        return {"detail": message}
    return {"status": "failed", "message": message, "data": None}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Error {status}"
