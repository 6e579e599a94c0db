"""What a fake transport says: replies of the API, made without it."""

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

JSON = {"Content-Type": "application/json"}
USUAL_SIDE = 1024

Phase: TypeAlias = Literal["connecting", "sending", "waiting", "reading"]
PHASES: tuple[Phase, ...] = ("connecting", "sending", "waiting", "reading")


def _as_bytes(body: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


@frozen
class FakeReply:
    """A reply: its status, its body as bytes, text or JSON values, and its headers."""

    status: int = 200
    body: bytes = field(default=b"", converter=_as_bytes, repr=lambda body: f"<{len(body)} bytes>")
    headers: Mapping[str, str] = field(factory=lambda: dict(JSON))

    @classmethod
    def error(
        cls,
        status: int,
        *,
        code: str | None = None,
        message: str = "This error was scripted",
        retry_after: float | None = None,
    ) -> FakeReply:
        """Return an error as the API words it: with a code as the inference API does, else as the serverless one."""
        coded = {"status": "error", "error": {"code": code, "message": message, "details": {}}}
        body = {"status": "failed", "message": message, "data": None} if code is None else coded
        return cls(status, body, JSON if retry_after is None else JSON | {"Retry-After": f"{retry_after:g}"})


@frozen
class FakeFailure:
    """A connection that breaks, in a phase: while connecting or sending, while waiting for a reply or reading it.

    `error` is what is raised; unless given, the usual one of that phase. Where it breaks "reading", half of the reply
    has come.
    """

    phase: Phase
    error: Exception | None = None

    def __attrs_post_init__(self) -> None:
        if self.phase not in PHASES:
            raise ValueError(f"the phase is {self.phase!r}; allowed is {', '.join(PHASES)}")


def picture(fields: Mapping[str, Any], index: int = 0) -> bytes:
    """Return a small PNG file of the size that is asked for, in a colour that follows from all that is asked for."""
    width, height = _size(fields)
    colour = sha256(json.dumps([dict(fields), index], sort_keys=True).encode()).digest()[:3]
    rows = zlib.compress((b"\0" + colour * width) * height, 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", rows), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def serverless_reply(fields: Mapping[str, Any], pictures: Sequence[bytes]) -> FakeReply:
    """Return pictures as the serverless API does."""
    data = [
        {"timings": {"inference": 1.0}, "index": index, "b64_json": b64encode(file).decode()}
        for index, file in enumerate(pictures)
    ]
    model = fields.get("model", fields.get("model_name"))
    return FakeReply(body={"model": model, "object": "list", "data": data, "status": "success"})


def inference_reply(fields: Mapping[str, Any], pictures: Sequence[bytes], urls: Sequence[str] | None) -> FakeReply:
    """Return pictures as the inference API does, or their URLs."""
    files = [{"url": None, "b64_json": b64encode(file).decode()} for file in pictures]
    images = files if urls is None else [{"url": url, "b64_json": None} for url in urls]
    width, height = _size(fields)
    usage = {"images_generated": len(images), "resolution": f"{width}x{height}"}
    return FakeReply(body={"status": "success", "data": {"images": images, "usage": usage}})


def _size(fields: Mapping[str, Any]) -> tuple[int, int]:
    width, _, height = str(fields.get("size", "")).partition("x")
    return int(fields.get("width") or width or USUAL_SIDE), int(fields.get("height") or height or USUAL_SIDE)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
