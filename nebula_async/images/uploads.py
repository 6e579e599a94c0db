"""Pictures on their way to the API: read again for each attempt, and encoded, in pieces, beside the event loop."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TypeAlias

import pybase64
from attrs import define, field, frozen

from nebula_async.errors import InvalidRequestError
from nebula_async.images.media import Media, MediaReader
from nebula_async.offload import Arguments, Value, offload, on_disk

PIECE_BYTES = 3 * 128 * 1024
"""A multiple of three, so that the base64 of the pieces is that of the whole; in base64 it is 512 KiB."""

EXAMINED_BYTES = 768 * 1024
"""How much of a picture is checked at a time: for long enough that the way to a thread pays, and no longer."""

Identity: TypeAlias = tuple[int, int, int, int]
"""What a file is told apart by: device and place on it, size, and when it was last written to."""


@frozen
class Held:
    """The bytes of a picture, in memory."""

    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self.data)

    def open(self) -> Reader:
        """Begin reading them; there is no copy of the whole."""
        return io.BytesIO(self.data)


@frozen
class OnDisk:
    """A picture in a file, which is opened whenever it is read; `identity` is what the file was when it was found."""

    path: Path
    identity: Identity

    @property
    def size(self) -> int:
        """How many bytes it had."""
        return self.identity[2]

    def open(self) -> Reader:
        """Begin reading it. Raises `OSError` where it is gone."""
        return _SameFile(self.path.open("rb"), self.identity)


@define(eq=False)
class _SameFile:
    file: io.BufferedReader
    identity: Identity

    def read(self, size: int, /) -> bytes:
        """Return so many bytes. Raises `ValueError` where the file is no longer the one that was found."""
        data = self.file.read(size)
        if _identify(self.file) != self.identity or len(data) != size:
            raise ValueError("the file was changed meanwhile")
        return data

    def close(self) -> None:
        """Close the file."""
        self.file.close()


Content: TypeAlias = Held | OnDisk
Reader: TypeAlias = io.BytesIO | _SameFile


@frozen
class Picture:
    """A picture that was checked: the field it is sent in, what it was given as, and what it is."""

    name: str
    given: str
    content: Content
    media: Media

    @property
    def size(self) -> int:
        """How many bytes its base64 has."""
        return (self.content.size + 2) // 3 * 4

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield its base64. Raises `InvalidRequestError` where it cannot be read, or is not what it was."""
        run = _at_once if isinstance(self.content, Held) else on_disk
        try:
            reader = await run(self.content.open)
            try:
                for size in _sizes(self.content, PIECE_BYTES):
                    yield await run(_encode, reader, size)
            finally:
                reader.close()
        except (OSError, ValueError) as error:
            raise unusable(self.name, self.given, error) from error


@frozen
class Upload:
    """A body of bytes and pictures in a row: the very same for each attempt, in pieces that are made meanwhile."""

    parts: tuple[bytes | Picture, ...] = field(repr=False)

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return sum(len(part) if isinstance(part, bytes) else part.size for part in self.parts)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body. Raises `InvalidRequestError`, before its last piece, where a picture is not what it was.

        Closing the generator closes the file that is being read, and so does cancellation.
        """
        waiting = b""
        for part in self.parts:
            if isinstance(part, bytes):
                waiting += part
                continue
            async with aclosing(part.pieces()) as pieces:
                async for piece in pieces:
                    yield waiting + piece
                    waiting = b""
        yield waiting


def find_file(path: str | os.PathLike[str], most_bytes: int) -> Content:
    """Return what is at a path: a file to be read later, or the bytes, at most so many, of what gives them once."""
    with Path(path).open("rb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return OnDisk(Path(path).absolute(), _identify(file))
        return Held(file.read(most_bytes))


async def examine(content: Content) -> Media:
    """Return what a picture is, read in pieces beside the loop. Raises `ValueError` and `OSError`."""
    run = offload if isinstance(content, Held) else on_disk
    media, reader = MediaReader(), await run(content.open)
    try:
        for size in _sizes(content, EXAMINED_BYTES):
            await run(_feed, media, reader, size)
    finally:
        reader.close()
    return media.finish()


def unusable(name: str, given: str, error: Exception) -> InvalidRequestError:
    """Return what is raised for a picture that cannot be used."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return InvalidRequestError(f"{name} cannot be used: {reason}; got {given}")


def _identify(file: io.BufferedReader) -> Identity:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _sizes(content: Content, most: int) -> Iterator[int]:
    return (min(most, content.size - start) for start in range(0, content.size, most))


async def _at_once(work: Callable[[*Arguments], Value], *arguments: *Arguments) -> Value:
    """Run what takes microseconds: the way to a thread and back would take longer."""
    return work(*arguments)


def _encode(reader: Reader, size: int) -> bytes:
    return pybase64.b64encode(reader.read(size))


def _feed(media: MediaReader, reader: Reader, size: int) -> None:
    media.feed(reader.read(size))
