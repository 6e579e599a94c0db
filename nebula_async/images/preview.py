"""A smaller likeness of a picture, for places where the whole would be a burden: a notebook keeps what it shows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from attrs import evolve

from nebula_async.images.media import read_media

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from nebula_async.images.image import Image

QUALITY = 88
"""Of a JPEG: what it leaves out is not seen at the size of a screen."""


def preview(picture: Image, *, most_bytes: int, side: int) -> Image:
    """Return the picture itself if it has at most so many bytes, else a JPEG with sides of at most `side` pixels.

    One that is transparent becomes a PNG. An AVIF, which not every notebook shows, is always made anew. Without Pillow
    (extra `images`), and for bytes that it cannot read, the picture is returned as it is. Blocks: about 30 ms for
    1024 × 1024 pixels.
    """
    if picture.data is None or (len(picture.data) <= most_bytes and picture.media_type != "image/avif"):
        return picture
    try:
        import PIL.Image
    except ImportError:
        return picture
    try:
        with PIL.Image.open(io.BytesIO(picture.data)) as opened:
            data = _made_small(opened, side)
    except Exception:  # noqa: BLE001 - Pillow names no error that it keeps to; the whole picture is shown then
        return picture
    media = read_media(data)
    return evolve(picture, data=data, media_type=media.media_type, width=media.width, height=media.height)


def _made_small(opened: PillowImage, side: int) -> bytes:
    opened.draft("RGB", (side, side))  # a large JPEG is decoded at a fraction of its size
    small = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    if small.mode == "RGBA":
        small.save(buffer, "PNG")
    else:
        small.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
