"""Where the pictures of a job lie from their first byte until the ledger says that they are stored."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from nebula_async.images.image import Image
from nebula_async.images.media import read_media

NAME = re.compile(
    r"(?P<seq>[0-9]+)\.(?P<n>[0-9]+)\.(?:(?P<index>[0-9]+)\.part|[0-9]+\.part\.part|reply(?:\.part)?|said)"
)

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@frozen(kw_only=True)
class Received:
    """A picture of a complete reply: its part file with its digest, or the URL where it still lies."""

    part: Path | None = None
    sha256: str | None = None
    bytes: int = 0
    media_type: str = ""
    extension: str = ""
    width: int | None = None
    height: int | None = None
    url: str | None = field(default=None, repr=False)
    expires_at: float | None = None

    @classmethod
    def at_url(cls, image: Image) -> Received:
        """Return a picture that still lies at its URL."""
        until = None if image.expires_at is None else image.expires_at.timestamp()
        return cls(url=image.url, expires_at=until)


@frozen
class Spool:
    """The folder of replies under way; its files are named by the item's `seq` and the number of the attempt, never by
    what a user wrote. With `is_synced` a whole picture is on the disk, and not only with the system, before it counts.
    """

    folder: Path
    is_synced: bool

    def part(self, seq: int, n: int, index: int) -> Path:
        """Return where picture number `index` of an attempt grows."""
        return self.folder / f"{seq}.{n}.{index}.part"

    def write_reply(self, seq: int, n: int, images: Sequence[Received]) -> None:
        """Note that a reply is complete, and what its pictures are: from here on they are found again."""
        stubs = [{name: value for name, value in _values(image).items() if value is not None} for image in images]
        path = self.folder / f"{seq}.{n}.reply"
        part = path.with_name(f"{path.name}.part")
        try:
            with os.fdopen(os.open(part, FLAGS, 0o600), "wb") as file:
                file.write(json.dumps({"images": stubs}).encode())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def keep_said(self, seq: int, n: int, text: bytes) -> None:
        """Keep what a reply of no use said beside its pictures. Raises `OSError`."""
        if text:
            with os.fdopen(os.open(self.folder / f"{seq}.{n}.said", FLAGS, 0o600), "wb") as file:
                file.write(text)

    def read_reply(self, seq: int, n: int) -> list[Received] | None:
        """Return the pictures of a complete reply that are as they came; `None` where no reply is complete.

        One whose bytes are not those that came, by length, digest and structure, is not among them.
        """
        try:
            stubs = json.loads((self.folder / f"{seq}.{n}.reply").read_bytes())["images"]
            images = [self._received(**stub) for stub in stubs]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return [image for image in images if image.part is None or _is_as_it_came(image)]

    def whole_parts(self, seq: int, n: int) -> list[Received]:
        """Return the pictures of an incomplete reply that arrived whole: their structure says so.

        Raises `OSError` where the disk does not keep them.
        """
        parts = sorted(self.folder.glob(f"{seq}.{n}.*.part"))
        found = {path: image for path in parts if _match(path, "index") and (image := _described(path)) is not None}
        for path in found if self.is_synced else ():  # those of a complete reply were synced before it was noted
            _sync(path)
        return list(found.values())

    def keep(self, part: Path) -> None:
        """Bring a part that a run left which was killed to the disk, where that is wanted. Raises `OSError`."""
        if self.is_synced:
            _sync(part)

    def has_begun(self, seq: int, n: int) -> bool:
        """Whether a reply to an attempt had begun to arrive."""
        return any(NAME.fullmatch(path.name) for path in self.folder.glob(f"{seq}.{n}.*"))

    def discard(self, seq: int, n: int) -> None:
        """Remove what is here of an attempt. What cannot be removed is left."""
        _remove(path for path in self.folder.glob(f"{seq}.{n}.*") if NAME.fullmatch(path.name))

    def forget(self, seq: int, n: int, parts: Iterable[Path]) -> None:
        """Remove a reply whose pictures are stored: their parts first, which it names."""
        _remove((*parts, self.folder / f"{seq}.{n}.reply"))

    def forget_before(self, seq: int, n: int) -> None:
        """Remove what is here of an item's attempts before one: evidence of what was bad, once it was bought anew."""
        found = ((path, _match(path, "n")) for path in self.folder.glob(f"{seq}.*"))
        _remove(path for path, attempt in found if attempt is not None and int(attempt) < n)

    def sweep(self, keep: Container[int]) -> None:
        """Remove what is left of attempts that ended, but for the items to keep: what came for them is evidence."""
        found = ((path, _match(path, "seq")) for path in self.folder.iterdir())
        _remove(path for path, seq in found if seq is not None and int(seq) not in keep)

    def _received(self, part: str | None = None, **stub: Any) -> Received:
        if part is not None and not NAME.fullmatch(part):
            raise ValueError("this is no name of a part")
        return Received(part=None if part is None else self.folder / part, **stub)


@define(eq=False)
class PartWriter:
    """Writes one part file, in threads, one call after the other."""

    path: Path
    is_synced: bool
    size: int = field(default=0, init=False)
    _file: int | None = field(default=None, init=False)
    _is_doubtful: bool = field(default=False, init=False)
    _hash: Any = field(factory=sha256, init=False)

    def write(self, pieces: Sequence[bytes]) -> None:
        """Append pieces, all or none of them: after an `OSError` the same may be tried again."""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        file = self._opened()
        view, at = memoryview(data), self.size
        while view:
            written = os.pwrite(file, view, at)
            view, at = view[written:], at + written
        self.size = at
        self._hash.update(data)

    def finish(self) -> str:
        """Bring the file to the disk where that is wanted, close it, and return its digest. Raises `OSError`; then it
        may be tried again.
        """
        if self._is_doubtful:
            self._rescue()
        elif self._file is not None:
            self._sync()
        return str(self._hash.hexdigest())

    def _sync(self) -> None:
        try:
            if self.is_synced and self._file is not None:
                os.fsync(self._file)
        except OSError:
            self._is_doubtful = True
            self._rescue()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _opened(self) -> int:
        if self._file is None:  # a file that was begun is gone on with, no other one is
            flags = FLAGS & ~(os.O_CREAT | os.O_EXCL) if self.size else FLAGS
            self._file = os.open(self.path, flags, 0o600)
        return self._file

    def _rescue(self) -> None:
        """After a sync that failed, the descriptor says nothing true any more: copy once what can be read back."""
        data = self.path.read_bytes()
        if sha256(data).digest() != self._hash.digest():
            raise OSError(errno.EIO, "the disk lost what was written to it", str(self.path))
        copy = self.path.with_name(f"{self.path.name}.part")
        try:
            with os.fdopen(os.open(copy, FLAGS, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            copy.replace(self.path)
            self._is_doubtful = False
        finally:
            copy.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk. Raises `OSError`."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(paths: Iterable[Path]) -> None:
    with suppress(OSError):  # of a folder that cannot be listed
        for path in paths:
            with suppress(OSError):
                path.unlink()


def _values(image: Received) -> dict[str, Any]:
    if image.part is None:
        return {"url": image.url, "expires_at": image.expires_at}
    names = ("sha256", "bytes", "media_type", "extension", "width", "height")
    return {"part": image.part.name, **{name: getattr(image, name) for name in names}}


def _is_as_it_came(image: Received) -> bool:
    try:
        data = image.part.read_bytes() if image.part else b""
        read_media(data)
    except (OSError, ValueError):
        return False
    return len(data) == image.bytes and sha256(data).hexdigest() == image.sha256


def _described(path: Path) -> Received | None:
    try:
        data = path.read_bytes()
        media = read_media(data)
    except (OSError, ValueError):
        return None
    return Received(
        part=path, sha256=sha256(data).hexdigest(), bytes=len(data),
        media_type=media.media_type, extension=media.extension, width=media.width, height=media.height,
    )  # fmt: skip


def _match(path: Path, group: str) -> str | None:
    found = NAME.fullmatch(path.name)
    return found[group] if found else None
