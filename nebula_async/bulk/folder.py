"""A job's folder: where its pictures, its ledger and its spool lie."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from uuid import uuid4

from attrs import define, field, frozen

from nebula_async.bulk.mounts import network_kind
from nebula_async.bulk.spool import Received, sync_folder
from nebula_async.errors import JobError
from nebula_async.sinks.names import copies

ROOM_LEFT, ROOM_FOR_PICTURE = 64 * 2**20, 4 * 2**20
"""Bytes that stay free on the disk, and that a picture under way may need: none is paid for that cannot be stored."""

UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.part")
"""Names of files that are written beside their places."""


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
    def state(self) -> Path:
        """Where what the job knows is."""
        return self.path / ".nebula"

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.state / "ledger.db"

    @property
    def lock(self) -> Path:
        """The file by which one process has the job."""
        return self.state / "job.lock"

    @property
    def spool(self) -> Path:
        """Where replies lie until they are stored."""
        return self.state / "spool"

    def prepare(self, *, is_synced: bool) -> None:
        """Make the folders; with `is_synced` they are on the disk then. Raises `JobError` naming the folder."""
        above = _folders_above(self.path)
        with self._explained():
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may hold URLs, which whoever knows may fetch
            self.spool.mkdir(mode=0o700, exist_ok=True)
            self.images.mkdir(exist_ok=True)
            if is_synced:
                self._sync_names(above)
        if kind := network_kind(self.state):
            raise JobError(
                f"{self.path} lies on a {kind} file system, where a ledger is not safe; give an --out on a local disk"
            )

    def try_out(self) -> None:
        """Try what the job will do in the folders, once they are nobody else's; remove what a run that was killed left
        unfinished. Raises `JobError` naming the folder.
        """
        with self._explained():
            for folder in (self.path, self.images, self.spool):
                for path in folder.glob(".*.part"):
                    if UNFINISHED.fullmatch(path.name):
                        path.unlink()
            self._try_link()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise JobError(f"cannot write to the output folder {self.path}: {reason}; give another --out") from error

    def holds_pictures(self) -> bool:
        """Whether a job has stored something here."""
        return any(self.images.glob("[0-9]*/[0-9]*"))

    def check_room(self, pictures: int, largest: int) -> None:
        """Refuse to send for more pictures than can be stored, each as large as the largest so far. Raises `JobError`.

        A folder that has vanished is not made anew: the ledger went with it.
        """
        try:
            if not self.ledger.exists():
                raise JobError(f"the output folder {self.path} is gone; nothing more is sent; put it back, then repeat")
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            text = f"the output folder {self.path} cannot be used any more: {error.strerror}; mend that, then repeat"
            raise JobError(text) from error
        needed = wanted_room(pictures, largest)
        if free < needed:
            raise JobError(
                f"no more pictures can be stored in {self.path}: {free / 10**6:.0f} MB are free, and"
                f" {needed / 10**6:.0f} MB are wanted for those under way; make room, then repeat"
            )

    def _sync_names(self, above: Sequence[Path]) -> None:
        """Bring the names of the folders to the disk, also of those made by a run that was killed before it could."""
        for folder in (self.state, self.path):
            sync_folder(folder)
        for folder in above:
            with suppress(PermissionError):  # of others: who may not read a folder cannot bring it to the disk
                sync_folder(folder)

    def _try_link(self) -> None:
        name = uuid4().hex
        part, probe = self.spool / f".{name}.part", self.images / f".{name}.part"
        try:
            part.touch(exist_ok=False)
            probe.hardlink_to(part)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP):
                raise OSError(error.errno, "its file system has no hard links, which stored pictures need") from error
            raise
        finally:
            part.unlink(missing_ok=True)
            probe.unlink(missing_ok=True)


@define(eq=False)
class Shelf:
    """Puts whole pictures into their places below a folder; other files are never replaced. It blocks.

    With `is_synced`, `sync` brings the names to the disk, of all that was placed since.
    """

    root: Path
    is_synced: bool
    _touched: set[Path] = field(factory=set, init=False)
    _known: set[Path] = field(factory=set, init=False)

    def place(self, picture: Received, name: str) -> str:
        """Link a picture into its place and return its path relative to the root; where it is there already, that is
        all. Where another file has the name, the next free one is taken. Raises `OSError`.
        """
        if picture.part is None:
            raise ValueError("a picture without bytes has no place")
        for candidate in copies(name, picture.extension):
            target = self.root / candidate
            self._make_folder(target.parent)
            if _is_linked(picture.part, target):
                self._touched.add(target.parent)
                return candidate
        raise AssertionError("the names do not end")

    def sync(self) -> None:
        """Bring the names of what was placed to the disk, a folder once for all its pictures. Raises `OSError`."""
        touched, self._touched = self._touched, set()
        for folder in sorted(touched, reverse=True) if self.is_synced else ():  # those inside first
            sync_folder(folder)

    def holds(self, path: str, size: int) -> bool:
        """Whether a picture that was stored is there, as large as it was."""
        try:
            return os.stat(f"{self.root}/{path}").st_size == size  # noqa: PTH116 - a `Path` takes longer than the disk
        except OSError:
            return False

    def address(self, path: str) -> str:
        """Return what results tell of where a picture is: its path, relative to the root."""
        return path

    def _make_folder(self, folder: Path) -> None:
        is_there = folder.is_dir()
        if not is_there:
            folder.mkdir()
        if not is_there or folder not in self._known:  # a run that was killed may have made it, and not synced its name
            self._known.add(folder)
            self._touched.add(folder.parent)


def wanted_room(pictures: int, largest: int = 0) -> int:
    """Return the bytes that must be free for so many pictures to be asked for at a time, the largest so far of so many
    bytes.
    """
    return ROOM_LEFT + (pictures + 1) * max(largest, ROOM_FOR_PICTURE)


def _folders_above(path: Path) -> Sequence[Path]:
    """Return the folders in which there may be a new name once a path is made: those to be made too, and one more."""
    parents = path.absolute().parents
    missing = sum(1 for _ in takewhile(lambda folder: not folder.is_dir(), parents))
    return parents[: missing + 1]


def _is_linked(part: Path, target: Path) -> bool:
    """Whether the part is at the target now, or the same picture was there before."""
    try:
        os.link(part, target, follow_symlinks=False)
    except FileExistsError:
        return not target.is_symlink() and target.is_file() and _is_same(part, target)
    return True


def _is_same(part: Path, target: Path) -> bool:
    one, other = part.stat(), target.stat()
    if os.path.samestat(one, other):
        return True
    return one.st_size == other.st_size and part.read_bytes() == target.read_bytes()
