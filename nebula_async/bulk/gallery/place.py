"""The gallery's folder: the page's own files, the data of the job, the thumbnails."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from attrs import frozen

from nebula_async.bulk.gallery.scripts import write_whole
from nebula_async.errors import JobError

PAGE, DATA, THUMBNAILS = "index.html", "data", "thumbnails"

MARK = ".nebula-gallery"
"""The file that says whose folder it is: what is in it is replaced and removed without asking. It is the lock, too."""

OWN_PICTURES = "img-src 'self'"
"""What the page's content security policy says of pictures."""


@frozen
class GalleryFolder:
    """`gallery/` in the folder of a job. What is in it can be made anew at any time."""

    path: Path

    @property
    def page(self) -> Path:
        """The page to open."""
        return self.path / PAGE

    @property
    def data(self) -> Path:
        """Where the scripts are that hold the job's data."""
        return self.path / DATA

    @property
    def summary(self) -> Path:
        """The script that says what there is; it is written last."""
        return self.data / "summary.js"

    @property
    def thumbnails(self) -> Path:
        """Where the thumbnails are, in folders like those of the pictures."""
        return self.path / THUMBNAILS

    def claim(self) -> None:
        """Make the folder. Raises `JobError` where somebody else's files have its name, and `OSError`.

        What is in it is removed, so that none of its folders may be a link, which would lead to somebody else's.
        """
        for folder in (self.path, self.data, self.thumbnails):
            if folder.is_symlink():
                raise JobError(f"{folder} is a link, and the gallery wants a folder of its own there; take it away")
        _make_folder(self.path)
        if (self.path / MARK).exists():
            return
        if any(self.path.iterdir()):
            raise JobError(f"{self.path} holds files that are of no gallery; move them away")
        (self.path / MARK).touch()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody else write the data meanwhile. Raises `JobError` where somebody does, and `OSError`."""
        import fcntl

        self.claim()
        _make_folder(self.data)
        file = os.open(self.path / MARK, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise JobError(f"another process is writing {self.page}; wait for it, then repeat") from error
        finally:
            os.close(file)

    def put_page(self, pictures: str) -> None:
        """Put the files of the page in place, where they are not there already; pictures may come from that URL."""
        for name, data in page_files().items():
            wanted = _allowing(data, pictures) if name == PAGE else data
            target = self.path / name
            if not _holds(target, wanted):
                write_whole(target, wanted)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise JobError(f"{path} is no folder, and the gallery wants that name; move it away") from error


@cache
def page_files() -> Mapping[str, bytes]:
    """Return the page's files by their names."""
    folder = files("nebula_async.bulk.gallery") / "page"
    return {
        file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda file: file.name) if file.is_file()
    }


def page_digest() -> str:
    """Return what changes with the page's files."""
    digest = hashlib.sha256()
    for name, data in page_files().items():
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def _allowing(page: bytes, pictures: str) -> bytes:
    """Return the page with a policy that lets pictures come from a URL's origin too; a path needs no more."""
    parts = urlsplit(pictures)
    if not parts.netloc:
        return page
    origin = escape(f"{parts.scheme}://{parts.netloc}")
    return page.replace(OWN_PICTURES.encode(), f"{OWN_PICTURES} {origin}".encode(), 1)


def _holds(path: Path, data: bytes) -> bool:
    with suppress(OSError):
        return path.read_bytes() == data
    return False
