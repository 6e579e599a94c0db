"""The pictures that users hand in: a path, bytes, a binary file, a PIL image, or a data URL."""

from __future__ import annotations

import io
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import pybase64

from nebula_async.errors import InvalidRequestError
from nebula_async.images.media import read_media

DATA_URL = "data:"


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

    def save(self, fp: Any, format: str | None = None) -> None:  # noqa: A002 - Pillow's own name
        """Write the picture into a file."""
        ...


PictureSource: TypeAlias = str | PathLike[str] | bytes | BinaryFile | PillowImage


def is_source(value: object) -> bool:
    """Whether a value is of a kind that `read_source` can read."""
    return isinstance(value, str | PathLike | bytes | BinaryFile | PillowImage)


def as_text(source: PictureSource) -> str:
    """Return a source as text that is a source again: a path as it is, bytes as a data URL."""
    if isinstance(source, str | PathLike):
        return fspath(source)
    if isinstance(source, bytes):
        return f"{DATA_URL}application/octet-stream;base64,{pybase64.b64encode_as_string(source)}"
    raise InvalidRequestError(f"a {type(source).__name__} cannot be written down; give its path or its bytes")


def encode_source(source: PictureSource, name: str) -> str:
    """Read a source and return its base64, as the API wants it. Blocks: call it beside the loop.

    Raises `InvalidRequestError`, naming the field, for what cannot be read and for what is no picture.
    """
    try:
        data = _read(source)
        read_media(data)
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"{name} cannot be used: {error}") from error
    return pybase64.b64encode_as_string(data)


def _read(source: PictureSource) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str) and source.startswith(DATA_URL):
        return pybase64.b64decode(source.partition(",")[2], validate=True)
    if isinstance(source, str | PathLike):
        return Path(source).read_bytes()
    if isinstance(source, PillowImage):
        buffer = io.BytesIO()
        source.save(buffer, format="PNG")
        return buffer.getvalue()
    return source.read()
