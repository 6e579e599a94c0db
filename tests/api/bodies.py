"""What the tests of replies share: small pictures, their base64, and replies."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import anyio
from PIL import Image as Pillow

from nebula_async.api.messages import HttpRequest, Reply, StreamedBody
from nebula_async.api.replies import Answer, AnswerReader
from nebula_async.images.arriving import ArrivingPicture
from nebula_async.images.media import read_media
from nebula_async.images.uploads import Held, Picture


def picture(colour: str = "red", form: str = "PNG") -> bytes:
    """Return a small picture of one colour."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 16), colour).save(buffer, form)
    return buffer.getvalue()


def b64(data: bytes) -> str:
    """Return base64 as JSON carries it."""
    return base64.b64encode(data).decode()


RED, BLUE, GREEN = (picture(colour) for colour in ("red", "blue", "green"))


def reply(body: object, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    """Return a reply; a body that is no bytes is sent as JSON."""
    return Reply(status=status, headers=headers, body=body if isinstance(body, bytes) else json.dumps(body).encode())


async def _whole(body: StreamedBody) -> bytes:
    return b"".join([piece async for piece in body.pieces()])


def json_of(request: HttpRequest) -> dict[str, Any]:
    """Return the JSON of a request, which is sent in one piece or in many."""
    return json.loads(request.body if isinstance(request.body, bytes) else anyio.run(_whole, request.body))


def as_input(name: str, data: bytes) -> Picture:
    """Return a picture that was checked and is sent in this field."""
    return Picture(name, "bytes", Held(data), read_media(data))


def read_reply(reply: Reply, *, asked: int, now: float) -> Answer:
    """Read a reply that came in one piece."""
    reader = AnswerReader(ArrivingPicture)
    reader.feed(reply.body)
    return reader.finish(reply, asked=asked, now=now)
