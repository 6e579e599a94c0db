"""The two dialects of the API: how each reads a request, and how it words its replies."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol

import attrs
from starlette.responses import Response

from nebula_async.emulator import inference, validation
from nebula_async.emulator.account import Account
from nebula_async.emulator.codes import CODES, code_of_status
from nebula_async.emulator.fields import Problem, is_integer
from nebula_async.emulator.refusals import Refusal, coded
from nebula_async.emulator.replies import error_reply, json_reply
from nebula_async.emulator.request import GenerationRequest

ErrorBody = Literal["status", "detail"]
NO_HEADERS: Mapping[str, str] = {}


class Dialect(Protocol):
    """How one dialect reads requests and words replies."""

    def check_key(self, account: Account, authorization: str | None) -> None:
        """Refuse a key that is not the account's."""

    def facts(self, fields: Mapping[str, Any]) -> Mapping[str, object]:
        """Return `model`, `width` and `height` of a body for the journal, None where they cannot be told."""

    def price(self, fields: Mapping[str, Any]) -> Decimal:
        """Return what a body asks for in money, as far as it can be told."""

    def build(self, fields: Mapping[str, Any], drawn_seed: int) -> GenerationRequest:
        """Check the fields of a body and return the request, or refuse it."""

    def reply(self, request: GenerationRequest, payloads: Sequence[str | None], seconds: float) -> Response:
        """Return the pictures, given in base64 or, where the request wants that, as URLs."""

    def refusal(self, refusal: Refusal) -> Response:
        """Return a refusal."""

    def error(self, status: int, message: str, headers: Mapping[str, str] = NO_HEADERS) -> Response:
        """Return an error for which there is only a status and a message."""


@attrs.frozen
class Serverless:
    """Dialect A, and C, which differs from it by the name of one field."""

    error_body: ErrorBody

    def check_key(self, account: Account, authorization: str | None) -> None:
        """Refuse a missing or malformed key with 401 and an unknown one with 404, as observed."""
        account.check_key(authorization)

    def facts(self, fields: Mapping[str, Any]) -> Mapping[str, object]:
        """Return `model`, `width` and `height` as they were given."""
        width, height = fields.get("width"), fields.get("height")
        return {
            "model": validation.named_model(fields),
            "width": int(width) if is_integer(width) else None,
            "height": int(height) if is_integer(height) else None,
        }

    def price(self, fields: Mapping[str, Any]) -> Decimal:
        """Return the model's price, times `num_images` where the model honours it."""
        return validation.price_asked(fields)

    def build(self, fields: Mapping[str, Any], drawn_seed: int) -> GenerationRequest:
        """Check the fields and return the request."""
        validation.check_fields(fields)
        return validation.build_request(fields, drawn_seed)

    def reply(self, request: GenerationRequest, payloads: Sequence[str | None], seconds: float) -> Response:
        """Return the pictures, which are always base64."""
        timings = {"inference": seconds}
        data = [{"timings": timings, "index": index, "b64_json": payload} for index, payload in enumerate(payloads)]
        message = {"message": "Image generated successfully", "status": "success"}
        return json_reply({"model": request.model.id, "object": "list", "data": data, **message})

    def refusal(self, refusal: Refusal) -> Response:
        """Return a refusal in the platform's envelope; validation errors have FastAPI's."""
        if not refusal.problems:
            return self.error(refusal.status, refusal.message, refusal.headers)
        details = [
            {"loc": ["body", field] if field else ["body"], "msg": message, "type": kind}
            for field, message, kind in refusal.problems
        ]
        return json_reply({"detail": details}, refusal.status, refusal.headers)

    def error(self, status: int, message: str, headers: Mapping[str, str] = NO_HEADERS) -> Response:
        """Return an error in the platform's envelope, or in the other one that was seen in use."""
        body = {"detail": message} if self.error_body == "detail" else None
        return json_reply(body or {"status": "failed", "message": message, "data": None}, status, headers)


@attrs.frozen
class Inference:
    """Dialect B, whose errors all come in one envelope; `forbidden` finds words that its content policy refuses."""

    forbidden: re.Pattern[str] | None

    def check_key(self, account: Account, authorization: str | None) -> None:
        """Refuse any other key with 401."""
        if not account.knows(authorization):
            raise coded("unauthorized")

    def facts(self, fields: Mapping[str, Any]) -> Mapping[str, object]:
        """Return `model`, and `width` and `height` from the size."""
        model = fields.get("model")
        width, height = inference.read_size(fields.get("size")) or (None, None)
        return {"model": model if isinstance(model, str) else None, "width": width, "height": height}

    def price(self, fields: Mapping[str, Any]) -> Decimal:
        """Return the model's price times `n`."""
        return inference.price_asked(fields)

    def build(self, fields: Mapping[str, Any], drawn_seed: int) -> GenerationRequest:  # noqa: ARG002 - B has no seeds
        """Check the fields and the content policy, and return the request."""
        request = inference.build_request(fields)
        if self.forbidden is not None and self.forbidden.search(request.prompt):
            raise coded("content_policy_violation")
        return request

    def reply(self, request: GenerationRequest, payloads: Sequence[str | None], seconds: float) -> Response:  # noqa: ARG002 - B tells no time
        """Return the pictures, or their URLs."""
        by_url = request.by_url
        images = [{"url": text if by_url else None, "b64_json": None if by_url else text} for text in payloads]
        usage = {"images_generated": len(payloads), "resolution": f"{request.width}x{request.height}"}
        return json_reply({"status": "success", "data": {"images": images, "usage": usage}})

    def refusal(self, refusal: Refusal) -> Response:
        """Return a refusal by its code, or by the one that fits its status."""
        if refusal.problems:
            return _invalid(refusal.problems)
        if refusal.code is not None:
            return error_reply(refusal.status, refusal.code, headers=refusal.headers)
        return self.error(refusal.status, refusal.message, refusal.headers)

    def error(self, status: int, message: str, headers: Mapping[str, str] = NO_HEADERS) -> Response:
        """Return an error by the code that fits its status."""
        code = code_of_status(status)
        return error_reply(status, code, None if CODES[code].status == status else message, headers=headers)


def _invalid(problems: Sequence[Problem]) -> Response:
    told = {field: message for field, message, _ in problems}
    code = next((f"invalid_{field}" for field in ("prompt", "size") if field in told), "invalid_request")
    details: dict[str, object] = {"reason": told[""]} if "" in told else {"fields": told}
    return error_reply(CODES[code].status, code, details=details)
