"""A file that is written beside its place, and appears there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from uuid import uuid4

from attrs import define


@define(eq=False)
class PartFile:
    """A hidden file in the folder that it is for, open for writing; it blocks, so it belongs into a thread.

    Write pieces, then put it in place, then discard what is left of it, whatever happened. Nothing is held in memory.
    """

    path: Path
    _file: FileIO

    @classmethod
    def beside(cls, target: Path) -> PartFile:
        """Begin the file that is meant for the place of `target`; missing folders are made, as is usual for files."""
        target.parent.mkdir(parents=True, exist_ok=True)
        path = target.with_name(f".{uuid4().hex}.part")
        return cls(path, path.open("xb", buffering=0))

    def write(self, data: bytes) -> None:
        """Append a piece. Raises `OSError` where it cannot be stored, also when only a part of it can."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def replace(self, target: Path) -> None:
        """Put it in the place of `target`, whatever file is there."""
        self._file.close()  # an open file cannot be renamed everywhere
        self.path.replace(target)

    def link(self, target: Path) -> None:
        """Put it in the place of `target`. Raises `FileExistsError` where anything has that name, also a dangling link.

        Unlike a rename, a hard link never takes the place of another file. On a file system without them the name is
        claimed by an empty file first.
        """
        self._file.close()
        try:
            target.hardlink_to(self.path)
        except FileExistsError:
            raise
        except OSError:
            self._claim(target)

    def discard(self) -> None:
        """Remove what is not in place; once is enough, and twice does no harm."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _claim(self, target: Path) -> None:
        target.touch(exist_ok=False)
        try:
            self.path.replace(target)
        except OSError:
            with suppress(OSError):  # the one that says why goes first
                target.unlink()
            raise


def replace_lines(target: Path, lines: Iterable[str]) -> None:
    """Make a text file anew of these lines; until all of them are written it is as it was, also where that fails.

    It blocks. Raises `OSError`, and what `lines` raises.
    """
    part = PartFile.beside(target)
    try:
        for line in lines:
            part.write(f"{line}\n".encode())
        part.replace(target)
    finally:
        part.discard()
