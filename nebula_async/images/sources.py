"""The pictures that users hand in: a path, bytes, a binary file, a PIL image, an async iterator of bytes, one that came
back, or a data URL.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterable
from contextlib import AsyncExitStack
from inspect import iscoroutinefunction
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import anyio.to_thread
import pybase64
from anyio.lowlevel import checkpoint

from nebula_async.checks import shown
from nebula_async.errors import InvalidRequestError
from nebula_async.images.image import Image
from nebula_async.images.media import Media
from nebula_async.images.uploads import Content, Held, Picture, examine, find_file, unusable

DATA_URL = "data:"

ACCEPTED = frozenset({"image/png", "image/jpeg", "image/webp"})
"""The types that the vendor names (of its console; nothing is said of others)."""

PNG_MODES = frozenset({"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"})
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{60,}+(?:={1,2}\s*)?")

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


BlockingSource: TypeAlias = str | PathLike[str] | bytes | BinaryFile | PillowImage | Image
PictureSource: TypeAlias = BlockingSource | AsyncIterable[bytes]

KINDS = "a path, bytes, a binary file, a PIL image or an async iterator of bytes"


def is_source(value: object) -> bool:
    """Whether a value is of a kind that `read_sources` can read."""
    if isinstance(value, AsyncIterable):
        return True
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


async def read_sources(image: PictureSource, mask: PictureSource | None) -> tuple[Picture, ...]:
    """Read a picture, and its mask where there is one, and return them ready to be sent.

    Files are read in pieces and not kept; an async iterator is, and is closed. Cancellation leaves a source that blocks
    to the thread that reads it. Raises `InvalidRequestError`, naming the field, for what cannot be read, for what is no
    picture, and for a mask of another size than the picture's.
    """
    picture = await _read_picture(image, "image")
    if mask is None:
        return (picture,)
    painted = await _read_picture(mask, "mask")
    if (painted.media.width, painted.media.height) != (picture.media.width, picture.media.height):
        raise InvalidRequestError(
            f"the mask is {painted.media.width}x{painted.media.height} pixels and the image"
            f" {picture.media.width}x{picture.media.height}; give a mask of the image's size"
        )
    return picture, painted


async def _read_picture(source: PictureSource, name: str) -> Picture:
    try:
        content = await _read(source)
        _check_size(content.size)
        return Picture(name, shown(source), content, _accepted(await examine(content)))
    except Exception as error:  # an open file, or a picture not loaded yet, is other people's code
        raise unusable(name, shown(source), error, step="give a whole PNG, JPEG or WebP") from error


async def _read(source: PictureSource) -> Content:
    if isinstance(source, AsyncIterable):
        return Held(await _joined(source))
    return await anyio.to_thread.run_sync(_content, source, abandon_on_cancel=True)


async def _joined(source: AsyncIterable[bytes]) -> bytes:
    data = io.BytesIO()
    async with AsyncExitStack() as ending:
        pieces = aiter(source)
        if hasattr(pieces, "aclose"):
            ending.push_async_callback(pieces.aclose)
        async for piece in pieces:
            data.write(_as_bytes(piece))
            _check_size(data.tell())
            await checkpoint()  # one that never waits could not be stopped
    if not data.tell():
        raise ValueError("it has nothing left to give; give its bytes to use them more than once")
    return data.getvalue()


def _accepted(media: Media) -> Media:
    if media.media_type not in ACCEPTED:
        raise ValueError(f"it is {media.media_type}; the API takes PNG, JPEG and WebP")
    return media


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")


def _as_bytes(data: object) -> bytes:
    if not isinstance(data, bytes):
        raise TypeError(f"reading it gives {type(data).__name__} instead of bytes")
    return data


def _content(source: BlockingSource) -> Content:
    if isinstance(source, bytes | Image):
        return Held(source if isinstance(source, bytes) else source.content)
    if isinstance(source, str):
        return _content_of_text(source)
    if isinstance(source, PathLike):
        return find_file(source, MAX_BYTES + 1)
    return Held(_read_once(source))


def _read_once(source: BinaryFile | PillowImage) -> bytes:
    if isinstance(source, PillowImage):
        buffer = io.BytesIO()
        _as_png(source).save(buffer, format="PNG")
        return buffer.getvalue()
    data = _as_bytes(source.read())
    if not data:
        raise ValueError("the file has nothing left to read; give its path to use it more than once")
    return data


def _as_png(picture: PillowImage) -> PillowImage:
    """Return a picture in colours that PNG has: others, such as CMYK, are converted."""
    return picture if picture.mode in PNG_MODES else picture.convert("RGB")


def _content_of_text(text: str) -> Content:
    if text.startswith(DATA_URL):
        return Held(pybase64.b64decode(text.partition(",")[2], validate=True))
    if text.startswith(("http://", "https://")):
        raise ValueError("it is a URL; give a path, or the bytes")
    if len(text) > MAX_PATH or (BASE64.fullmatch(text) and not Path(text).exists()):
        raise ValueError("it is no path; base64 is given decoded, or as a data URL (data:image/png;base64,…)")
    return find_file(text, MAX_BYTES + 1)
