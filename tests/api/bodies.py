"""What the tests of replies share: small pictures, their base64, and replies."""

from __future__ import annotations

import base64
import io
import json

from PIL import Image as Pillow

from nebula_async.api.messages import Reply


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
