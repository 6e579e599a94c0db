"""The pictures that users hand in: a path, bytes, a binary file, a PIL image, one that came back, or a data URL."""

from __future__ import annotations

import io
import re
from inspect import iscoroutinefunction
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import pybase64

from nebula_async.checks import shown
from nebula_async.errors import InvalidRequestError
from nebula_async.images.image import Image
from nebula_async.images.media import Media, read_media

DATA_URL = "data:"

ACCEPTED = frozenset({"image/png", "image/jpeg", "image/webp"})
"""The types that the vendor names (of its console; nothing is said of others)."""

PNG_MODES = frozenset({"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"})
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{60,}={0,2}\s*")

MAX_PATH = 4096
MAX_BYTES = 48 * 2**20
"""In base64 a picture of this size fills the largest request."""


@runtime_checkable
class BinaryFile(Protocol):
    """An open binary file, or anything else that is read like one."""

    def read(self) -> bytes:
        """Return all bytes that are left."""
        ...


@runtime_checkable
class PillowImage(Protocol):
    """A `PIL.Image.Image`; Pillow itself is not imported."""

    size: tuple[int, int]
    mode: str

    def convert(self, mode: str) -> PillowImage:
        """Return the picture in other colours."""
        ...

    def save(self, fp: Any, format: str | None = None) -> None:  # noqa: A002 - Pillow's own name
        """Write the picture into a file."""
        ...


PictureSource: TypeAlias = str | PathLike[str] | bytes | BinaryFile | PillowImage | Image


def is_source(value: object) -> bool:
    """Whether a value is of a kind that `read_sources` can read."""
    if isinstance(value, io.TextIOBase) or iscoroutinefunction(getattr(value, "read", None)):
        return False
    return isinstance(value, str | PathLike | bytes | BinaryFile | PillowImage | Image)


def as_text(source: PictureSource) -> str:
    """Return a source as text that is a source again: a path as it is, bytes as a data URL."""
    if isinstance(source, str | PathLike):
        return fspath(source)
    if isinstance(source, bytes | Image):
        data = source if isinstance(source, bytes) else source.content
        return f"{DATA_URL}application/octet-stream;base64,{pybase64.b64encode_as_string(data)}"
    raise InvalidRequestError(f"a {type(source).__name__} cannot be written down; give its path or its bytes")


def read_sources(image: PictureSource, mask: PictureSource | None) -> dict[str, bytes]:
    """Read a picture, and its mask where there is one, and return their bytes by field.

    Blocks, as long as what they come from does: call it beside the loop. Raises `InvalidRequestError`, naming the
    field, for what cannot be read, for what is no picture, and for a mask of another size than the picture's.
    """
    data, media = _read_picture(image, "image")
    if mask is None:
        return {"image": data}
    mask_data, mask_media = _read_picture(mask, "mask")
    if (mask_media.width, mask_media.height) != (media.width, media.height):
        raise InvalidRequestError(
            f"the mask is {mask_media.width}x{mask_media.height} pixels and the image {media.width}x{media.height};"
            " give a mask of the image's size"
        )
    return {"image": data, "mask": mask_data}


def _read_picture(source: PictureSource, name: str) -> tuple[bytes, Media]:
    try:
        data = _read(source)
        return data, _accepted(read_media(data))
    except Exception as error:  # an open file, or a picture not loaded yet, is other people's code
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidRequestError(f"{name} cannot be used: {reason}; got {shown(source)}") from error


def _accepted(media: Media) -> Media:
    if media.media_type not in ACCEPTED:
        raise ValueError(f"it is {media.media_type}; the API takes PNG, JPEG and WebP")
    return media


def _read(source: PictureSource) -> bytes:
    data = _content(source)
    if not isinstance(data, bytes):
        raise TypeError(f"reading it gives {type(data).__name__} instead of bytes")
    if not data and isinstance(source, BinaryFile):
        raise ValueError("the file has nothing left to read; give its path to use it more than once")
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
    return data


def _content(source: PictureSource) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, Image):
        return source.content
    if isinstance(source, str):
        return _content_of_text(source)
    if isinstance(source, PathLike):
        return _content_of_file(source)
    if isinstance(source, PillowImage):
        buffer = io.BytesIO()
        _as_png(source).save(buffer, format="PNG")
        return buffer.getvalue()
    return source.read()


def _as_png(picture: PillowImage) -> PillowImage:
    """Return a picture in colours that PNG has: others, such as CMYK, are converted."""
    return picture if picture.mode in PNG_MODES else picture.convert("RGB")


def _content_of_text(text: str) -> bytes:
    if text.startswith(DATA_URL):
        return pybase64.b64decode(text.partition(",")[2], validate=True)
    if text.startswith(("http://", "https://")):
        raise ValueError("it is a URL; give a path, or the bytes")
    if len(text) > MAX_PATH or (BASE64.fullmatch(text) and not Path(text).exists()):
        raise ValueError("it is no path; base64 is given decoded, or as a data URL (data:image/png;base64,…)")
    return _content_of_file(text)


def _content_of_file(path: str | PathLike[str]) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MAX_BYTES + 1)
