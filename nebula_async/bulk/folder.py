"""A job's folder: where its pictures and its ledger lie."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from attrs import frozen

from nebula_async.errors import JobError
from nebula_async.images.image import Image
from nebula_async.images.media import SUFFIXES, read_media
from nebula_async.requests import Request
from nebula_async.sinks.names import relative_key

ROOM_LEFT, ROOM_FOR_PICTURE = 16 * 2**20, 4 * 2**20
"""Bytes that stay free on the disk, and that a picture under way may need: none is paid for that cannot be stored."""


@frozen
class JobFolder:
    """`images/` holds the pictures in folders of a thousand, `.nebula/` what the job knows of them.

    Paths of pictures are relative to the folder, as the ledger notes them: it may be moved as a whole.
    """

    path: Path

    @property
    def images(self) -> Path:
        """Where the pictures are."""
        return self.path / "images"

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.path / ".nebula" / "ledger.db"

    def prepare(self) -> None:
        """Make the folders and try to write into them. Raises `JobError` naming the folder."""
        try:
            self.images.mkdir(parents=True, exist_ok=True)
            self.ledger.parent.mkdir(mode=0o700, exist_ok=True)  # it may hold URLs, which whoever knows may fetch
            for folder in (self.images, self.ledger.parent):
                probe = folder / f".{uuid4().hex}.part"
                probe.touch(exist_ok=False)
                probe.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise JobError(f"cannot write to the output folder {self.path}: {reason}; give another --out") from error

    def holds_pictures(self) -> bool:
        """Whether a job has stored something here."""
        return any(self.images.glob("[0-9]*/[0-9]*"))

    def free_name(self, number: int, request: Request) -> str:
        """Return the name under which an item's picture will be stored: no file has it, whatever its extension.

        Raises `OSError` where the job's folder has vanished.
        """
        self._check()
        names = _copies(f"images/{relative_key(number, request.prompt, request.id)}")
        return next(name for name in names if not any(self._files(name)))

    def check_room(self, in_flight: int) -> None:
        """Refuse to send for more than can be stored. Raises `OSError`."""
        self._check()
        needed = ROOM_LEFT + in_flight * ROOM_FOR_PICTURE
        if shutil.disk_usage(self.path).free < needed:
            raise OSError(
                errno.ENOSPC, f"less than {needed >> 20} MiB are free; make room, then repeat", str(self.path)
            )

    def is_there(self, path: str) -> bool:
        """Whether a picture that was stored is there, and not empty."""
        try:
            return (self.path / path).stat().st_size > 0
        except OSError:
            return False

    def find(self, name: str) -> str | None:
        """Return the path of the whole picture that was stored under a name which was free before it was sent."""
        found = next(filter(_is_whole, self._files(name)), None)
        return None if found is None else found.relative_to(self.path).as_posix()

    def count(self, name: str) -> int:
        """Return how many pictures were stored for an item, under the name and those made of it."""
        return sum(1 for _ in itertools.takewhile(lambda copy: any(self._files(copy)), _copies(name)))

    def file_name(self, path: str) -> str:
        """Return the path of a picture relative to the folder of all pictures, as the metadata name it."""
        return path.removeprefix("images/")

    def pictures_of(self, path: str, pictures: int) -> list[str]:
        """Return the paths of an item's pictures, of which `path` is the first; the file names of others follow it."""
        name = path.rpartition(".")[0]
        others = (next(self._files(f"{name}-{copy}"), None) for copy in range(1, pictures))
        return [path, *(other.relative_to(self.path).as_posix() for other in others if other is not None)]

    async def store(self, name: str, images: Sequence[Image]) -> list[str]:
        """Store the pictures of an item, the first one last under the name itself; return the path of each.

        No other file is replaced: where one has come to the name, the next free one is taken. Raises `OSError`.
        """
        self._check()
        others = [await self._store(_copies(f"{name}-{copy}"), image) for copy, image in enumerate(images[1:], 1)]
        first = await self._store(_copies(name), images[0])
        return [path.relative_to(self.path).as_posix() for path in (first, *others)]

    async def _store(self, names: Iterator[str], image: Image) -> Path:
        try:
            return await image.save(self.path / f"{next(names)}{image.extension}")
        except FileExistsError:
            return await self._store(names, image)

    def _check(self) -> None:
        """A folder that has vanished is not made anew: the ledger went with it."""
        if not self.ledger.exists():
            raise FileNotFoundError(errno.ENOENT, "the output folder is gone", str(self.path))

    def _files(self, name: str) -> Iterator[Path]:
        candidates = (self.path / f"{name}{suffix}" for suffix in SUFFIXES)
        return (path for path in candidates if path.exists() or path.is_symlink())


def _copies(name: str) -> Iterator[str]:
    return itertools.chain((name,), (f"{name}-{copy}" for copy in itertools.count(1)))


def _is_whole(path: Path) -> bool:
    try:
        read_media(path.read_bytes() if path.is_file() else b"")
    except (OSError, ValueError):
        return False
    return True
