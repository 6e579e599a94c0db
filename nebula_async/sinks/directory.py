"""Pictures as files of a folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from threading import Lock
from typing import Any

from attrs import Attribute, define, field, frozen

from nebula_async.errors import ConfigurationError
from nebula_async.images.media import EXTENSIONS, MediaReader
from nebula_async.images.part_file import PartFile
from nebula_async.offload import on_disk
from nebula_async.sinks.names import check_key, copies, problem_of_name
from nebula_async.sinks.sink import Stored

PIECE_BYTES = 2**20


def _check_folder(_sink: DirectorySink, _attribute: Attribute[Any], folder: Path) -> None:
    if problem := problem_of_name(folder):
        raise ConfigurationError(f"the folder {str(folder)!a} cannot be that of a sink: {problem}")


@frozen
class DirectorySink:
    """Stores pictures as files below the folder `path`, which is made where it is missing, as are folders in it.

    A picture is written to a hidden file (`.….part`) beside its place, as it comes, and linked into place when it is
    whole: it appears at once, and no other file is ever replaced. Nothing is written outside of the folder, whatever
    the key; a link to a folder elsewhere is refused with an `OSError`. After a power cut the last pictures may be
    damaged: the system is not told to bring them to the disk at once. Raises `ConfigurationError` for a folder whose
    name this process cannot write.
    """

    path: Path = field(converter=Path, validator=_check_folder)

    async def open(self, key: str) -> _FileWriter:
        """Return a writer whose `publish` returns the file's path.

        Raises `ValueError` for an unsafe key, and for one that cannot be written in the names of files here.
        """
        _check(self.path, key)
        return _FileWriter(self.path, key)

    async def find(self, key: str) -> Stored | None:
        """Return the picture that is stored under `key`, if it is there and whole; one that is damaged is passed over.

        It is read to its end. Raises `ValueError` as `open` does, `OSError` for a folder that cannot be read.
        """
        _check(self.path, key)
        return await on_disk(_find, self.path, key)


@define(eq=False)
class _FileWriter:
    """Writes each piece in a thread, as it comes: in larger ones it costs no less, and the loop is held for longer.

    A cancellation leaves a thread working, which a disk may hold for ever: the lock makes `discard` wait for it.
    """

    _folder: Path
    _key: str
    _part: PartFile | None = field(default=None, init=False)
    _is_over: bool = field(default=False, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    async def write(self, data: bytes) -> None:
        await on_disk(self._write, data, abandon_on_cancel=True)

    async def publish(self, media_type: str, extension: str) -> str:  # noqa: ARG002 - the extension tells it
        return await on_disk(self._publish, extension)

    async def discard(self) -> None:
        await on_disk(self._discard, abandon_on_cancel=True)

    def _write(self, data: bytes) -> None:
        with self._lock:
            self._begun().write(data)

    def _publish(self, extension: str) -> str:
        with self._lock:
            part = self._begun()
            path = _link(part, (self._folder / name for name in copies(self._key, extension)))
            self._is_over = True
            with suppress(OSError):  # the picture is in place; a part file that stays does not undo that
                part.discard()
        return str(path)

    def _discard(self) -> None:
        with self._lock:
            part, self._part, self._is_over = self._part, None, True
            if part is not None:
                part.discard()

    def _begun(self) -> PartFile:
        if self._is_over:
            raise ValueError(f"the writer of {self._key!r} has published or discarded its picture: open another one")
        if self._part is None:
            target = self._folder / self._key
            _keep_inside(self._folder, target.parent)
            self._part = PartFile.beside(target)
        return self._part


def _check(folder: Path, key: str) -> None:
    """Refuse a key before its picture is written, rather than when that is whole and paid for. Raises `ValueError`."""
    check_key(key)
    if problem := problem_of_name(folder / key):
        raise ValueError(f"{key!a} cannot be the key of a picture: {problem}")


def _keep_inside(folder: Path, inner: Path) -> None:
    """Refuse to follow a link out of the folder. Raises `OSError`."""
    if not Path(os.path.realpath(inner)).is_relative_to(os.path.realpath(folder)):
        raise OSError(errno.ELOOP, "a link in the sink's folder leads out of it; replace it by a folder", str(inner))


def _find(folder: Path, key: str) -> Stored | None:
    for extension, *_ in EXTENSIONS.values():
        for name in copies(key, extension):
            media_type = _media_type(folder / name)
            if media_type is None:
                break
            if media_type:
                return Stored(str(folder / name), media_type)
    return None


def _media_type(path: Path) -> str | None:
    """Return the media type of a whole picture, "" of anything else that has its name, `None` where nothing has."""
    reader = MediaReader()
    try:
        if not S_ISREG(path.lstat().st_mode):
            return ""
        with path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                reader.feed(piece)
        return reader.finish().media_type
    except FileNotFoundError:
        return None
    except ValueError:
        return ""


def _link(part: PartFile, names: Iterator[Path]) -> Path:
    while True:
        name = next(names)
        with suppress(FileExistsError):
            part.link(name)
            return name
