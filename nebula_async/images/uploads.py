"""Pictures on their way to the API: read again for each attempt, in pieces that keep the event loop free."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TypeAlias

import pybase64
from anyio.lowlevel import checkpoint
from attrs import define, field, frozen

from nebula_async.errors import InvalidRequestError
from nebula_async.images.media import Media, MediaReader
from nebula_async.offload import on_disk

PIECE_BYTES = 3 * 128 * 1024
"""A multiple of three, so that the base64 of the pieces is that of the whole; in base64 it is 512 KiB. A piece that is
at hand is encoded within 20 us and checked within 100: threads that do so contend for the interpreter, and cost more.
"""

NOT_WAITING: int | None = getattr(os, "RWF_NOWAIT", None)
"""Linux reads what it still has in memory without waiting for a disk; a file that was just checked is there."""

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
        return _InMemory(memoryview(self.data))


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
        return _SameFile(self.path.open("rb", buffering=0), self.identity)


@define(eq=False)
class _InMemory:
    view: memoryview

    def read_at_once(self, size: int) -> memoryview:
        """Return the next bytes, so many."""
        data, self.view = self.view[:size], self.view[size:]
        return data

    read = read_at_once

    def close(self) -> None:
        """Let go of them."""
        self.view.release()


@define(eq=False)
class _SameFile:
    """Reads into the same memory again and again: what was read is good until the next piece is."""

    file: io.FileIO
    identity: Identity
    _at: int = field(default=0, init=False)
    _memory: memoryview = field(factory=lambda: memoryview(bytearray(PIECE_BYTES)), init=False)

    def read(self, size: int) -> memoryview:
        """Return the next bytes, so many. Raises `ValueError` where the file is no longer the one that was found."""
        self.file.seek(self._at)
        return self._checked(size, self.file.readinto(self._memory[:size]))

    def read_at_once(self, size: int) -> memoryview | None:
        """Do the same, or return `None` where the disk would have to be waited for."""
        if NOT_WAITING is None:
            return None
        try:
            count = os.preadv(self.file.fileno(), [self._memory[:size]], self._at, NOT_WAITING)
        except OSError:  # also of a file system that cannot tell
            return None
        return self._checked(size, count) if count == size else None

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _checked(self, size: int, count: int) -> memoryview:
        if _identify(self.file) != self.identity or count != size:
            raise ValueError("the file was changed meanwhile")
        self._at += size
        return self._memory[:size]


Content: TypeAlias = Held | OnDisk
Reader: TypeAlias = _InMemory | _SameFile


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
        try:
            async with aclosing(_read(self.content)) as pieces:
                async for data in pieces:
                    yield pybase64.b64encode(data)
        except (OSError, ValueError) as error:
            raise unusable(self.name, self.given, error, step="leave it as it is until it is sent") from error


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
    """Return what a picture is, read in pieces that keep the loop free. Raises `ValueError` and `OSError`."""
    media = MediaReader()
    async with aclosing(_read(content)) as pieces:
        async for data in pieces:
            media.feed(data)
    return media.finish()


async def _read(content: Content) -> AsyncGenerator[memoryview, None]:
    """Yield the bytes of a picture, each piece good until the next."""
    reader = await _open(content)
    try:
        for start in range(0, content.size, PIECE_BYTES):
            await checkpoint()  # sockets may take one piece after the other without a wait
            size = min(PIECE_BYTES, content.size - start)
            data = reader.read_at_once(size)
            yield await on_disk(reader.read, size) if data is None else data
    finally:
        reader.close()


def unusable(name: str, given: str, error: Exception, *, step: str) -> InvalidRequestError:
    """Return what is raised for a picture that cannot be used; `step` is what to do about it."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return InvalidRequestError(f"{name} cannot be used: {reason}; got {given}; {step}")


def _identify(file: io.FileIO | io.BufferedReader) -> Identity:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


async def _open(content: Content) -> Reader:
    return content.open() if isinstance(content, Held) else await on_disk(content.open)
