"""What a notebook shows of one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve

from nebula_async.images.limits import MAX_PIXELS
from nebula_async.images.media import read_media
from nebula_async.images.preview import preview
from nebula_async.printing import printable

if TYPE_CHECKING:
    from nebula_async.images.image import Image

MimeBundle: TypeAlias = tuple[dict[str, bytes | str], dict[str, dict[str, int]]]
"""Data by media type, and what is told of it: as IPython takes it from `_repr_mimebundle_`."""

LARGEST_WHOLE, LARGEST_SIDE = 2**20, 1024
"""Of one picture: above so many bytes a preview with such sides is shown."""


def show_image(image: Image) -> MimeBundle:
    """Return how a notebook shows one picture: itself, a preview where it is large, or a line that says where it is."""
    shown = preview(brought_here(image), most_bytes=LARGEST_WHOLE, side=LARGEST_SIDE)
    if shown.data is None:
        return {"text/plain": printable(f"a picture: {whereabouts(image)}")}, {}
    if shown.media_type is None:  # it was made by hand
        return {"text/plain": repr(image)}, {}
    sides = {name: side for name, side in (("width", shown.width), ("height", shown.height)) if side}
    return {shown.media_type: shown.data, "text/plain": repr(image)}, {shown.media_type: sides}


def brought_here(image: Image) -> Image:
    """Return a picture that a sink stored in a file of this machine with its bytes; any other as it is.

    Only a file that is the picture it is said to be is read: `stored` may be a word of anybody's sink.
    """
    if image.data is not None or image.stored is None:
        return image
    try:
        path = Path(image.stored)
        if not path.is_file() or path.stat().st_size > MAX_PIXELS * 4:
            return image
        data = path.read_bytes()
        found = read_media(data)
    except (OSError, ValueError):
        return image
    same = (found.media_type, found.width, found.height) == (image.media_type, image.width, image.height)
    return evolve(image, data=data) if same else image


def whereabouts(image: Image) -> str:
    """Return, in words, where a picture is that is not shown."""
    if image.stored is not None:
        return f"stored as {image.stored}"
    if image.url is not None:
        until = f" before {image.expires_at:%H:%M} UTC" if image.expires_at else ""
        return f"it is still at its URL: fetch it with await nebula.download(image){until}"
    if image.data is not None:
        return f"it has {len(image.data)} bytes, too many to be shown here; save it"
    return "it has no bytes"
