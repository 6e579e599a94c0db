"""Bodies of errors: the right exception whatever they hold, beside `json` and the table of codes."""

from __future__ import annotations

import json
import pickle

from nebula_async.api.envelope import BY_CODE, MAX_MESSAGE, ErrorBody, read_body, read_error
from nebula_async.api.messages import Reply
from nebula_async.errors import APIStatusError
from targets import same

REFERENCE = "json"

WORDS = [
    b'{"error":', b'{"error":{"code":"', b'"message":"', b'"type":"', b'"details":', b'{"detail":[{"loc":["body","n"],',
    b'"msg":"', b'"status":"failed"', b"rate_limit_exceeded", b"insufficient_quota", b"invalid_", b"content_policy_",
    b"}", b"]", b'"', b",", b":", b"null", b"\\ud800", b"\\u001b[31m", b"\\n", b"[[[[", b"{}", b"\xef\xbb\xbf", b"429",
]  # fmt: skip

SEEDS = [
    b"\x1d" + b'{"error": {"code": "rate_limit_exceeded", "message": "slow", "details": {"a": [1]}}}',
    b"\x90" + b'{"detail": [{"loc": ["body", "width"], "msg": "too large"}], "status": "error"}',
    b"\xf4" + b'{"message": "no", "error": "why", "status": "failed"}',
]  # fmt: skip


def check(data: bytes) -> None:
    """Read an error of a status that the first byte says."""
    status, body = 256 + (data[0] if data else 244), data[1:]
    error, found = read_error(Reply(status=status, body=body), now=0), read_body(body)
    assert isinstance(error, APIStatusError)
    assert pickle.loads(pickle.dumps(error)).args == error.args, body  # noqa: S301 - our own
    assert error.message.isprintable(), body
    assert len(error.message) <= MAX_MESSAGE + 120, body
    parsed = parse(body)
    if not isinstance(parsed, dict):
        same(ErrorBody(), found, body)
        return
    inner = parsed.get("error") if isinstance(parsed.get("error"), dict) else {}
    if isinstance(inner.get("code"), str) and inner["code"] in BY_CODE:
        same(BY_CODE[inner["code"]], type(error), body)
    said = inner.get("message")
    if isinstance(said, str) and said.isprintable() and said.split():
        same(" ".join(said.split()), found.message, body)


def parse(body: bytes) -> object:
    """Return what JSON a body is, `None` for none."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
