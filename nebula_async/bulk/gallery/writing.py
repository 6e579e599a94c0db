"""A job's ledger written as the data of its page: in pieces, so that memory does not grow with the job."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from attrs import define, field, frozen

from nebula_async.bulk.gallery.entries import Entry, Texts, choose, read_entries
from nebula_async.bulk.gallery.place import DATA, THUMBNAILS, GalleryFolder, page_digest
from nebula_async.bulk.gallery.scripts import exact, read_back, script, write_whole
from nebula_async.bulk.ledger import COMMITS, Ledger
from nebula_async.errors import JobError

VERSION = 1
"""Of the data; a page of another version does not read it."""

CHUNK_ENTRIES = 2_000

OURS = re.compile(r"[0-9a-f]{8}", re.ASCII)
"""The folders of one writing each."""

Report = Mapping[str, Any]


@frozen(kw_only=True)
class Shown:
    """Whose pictures a page shows: the job's folder as commands name it (`None`: they lie elsewhere), and where a
    browser finds them; `is_told`: somebody said so.
    """

    title: str
    job: str | None
    pictures: str = "../images/"
    is_told: bool = False


@frozen(kw_only=True)
class Written:
    """What a page shows: entries of the job, those left out, pictures, and how many of them have a thumbnail."""

    entries: int
    omitted: int
    pictures: int
    thumbnails: int


def facts_of(ledger: Ledger, shown: Shown) -> str:
    """Return what changes when the page has to be written anew, and is the same after a run that changed nothing."""
    counts = sorted((state.value, number) for state, number in ledger.counts().items())
    facts = [ledger.fact(COMMITS), ledger.fact("input"), counts, ledger.unlisted(), ledger.pictures()]
    told = json.dumps([VERSION, page_digest(), shown.title, shown.job, shown.pictures, *facts])
    return hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()


def is_current(place: GalleryFolder, facts: str) -> bool:
    """Whether the page was written of these facts, and is whole."""
    summary = read_back(place.summary) or {}
    if summary.get("facts") != facts or not place.page.is_file():
        return False
    folder = place.path / str(summary.get("data"))
    try:
        return sum(path.stat().st_size for path in folder.glob("*.js")) == summary.get("bytes")
    except OSError:
        return False


@define(eq=False, kw_only=True)
class GalleryWriter:
    """Writes the page of a job. `thumbnail_of` names the thumbnail of a picture, by its path, if it has one; where
    `is_stopped` says so, the writing ends.
    """

    place: GalleryFolder
    shown: Shown
    thumbnail_of: Callable[[str], str | None]
    is_stopped: Callable[[], bool]
    _pictures: int = field(default=0, init=False)
    _thumbnails: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)

    def write(self, ledger: Ledger, report: Report, facts: str) -> Written:
        """Write it. Until the last file is in its place the page shows what it did before, whatever ends this.

        It blocks. Raises `OSError`, and `JobError` where the ledger cannot be read, the page is being written by
        another process, or it is stopped.
        """
        with self.place.held(), self._tidied():
            self.place.put_page(self.shown.pictures)
            data = f"{DATA}/{uuid4().hex[:8]}/"
            choice = choose(ledger)
            rows = self._write_chunks(self.place.path / data, read_entries(ledger, choice))
            written = Written(
                entries=rows, omitted=max(choice.entries - rows, 0),
                pictures=self._pictures, thumbnails=self._thumbnails,
            )  # fmt: skip
            summary = self._summary(ledger, report, written) | {"data": data, "facts": facts}
            write_whole(self.place.summary, script("summary", summary))
        return written

    def _write_chunks(self, folder: Path, entries: Iterator[Entry]) -> int:
        folder.mkdir()
        written = 0
        for number in count():
            if self.is_stopped():
                raise JobError("the run was stopped")
            texts = Texts()
            rows = [entry.columns(self._thumbnail_of(entry), texts) for entry in islice(entries, CHUNK_ENTRIES)]
            if not rows:
                break
            data = script("items", number, {"texts": texts.texts, "rows": rows})
            write_whole(folder / f"{number:05}.js", data)
            self._bytes += len(data)
            written += len(rows)
        return written

    def _thumbnail_of(self, entry: Entry) -> str | None:
        if entry.path is None:
            return None
        thumbnail = self.thumbnail_of(entry.path)
        self._pictures += 1
        self._thumbnails += thumbnail is not None
        return thumbnail

    def _summary(self, ledger: Ledger, report: Report, written: Written) -> dict[str, Any]:
        return {
            "version": VERSION,
            "title": self.shown.title,
            "written": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "commits": int(ledger.fact(COMMITS) or 0),
            "items": written.entries,
            "chunks": -(-written.entries // CHUNK_ENTRIES),
            "omitted": written.omitted,
            "pictures": self.shown.pictures,
            "is_told": self.shown.is_told,
            "thumbnails": f"{THUMBNAILS}/",
            "job": self.shown.job,
            "bytes": self._bytes,
            "report": exact(dict(report)),
        }

    @contextmanager
    def _tidied(self) -> Iterator[None]:
        """Remove what is of no page: of one before, or of a writing that failed or was killed."""
        for folder in (self.place.path, self.place.data):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)
        try:
            yield
        finally:
            keep = (read_back(self.place.summary) or {}).get("data")
            for folder in self.place.data.iterdir():
                is_ours = OURS.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink()
                if is_ours and f"{DATA}/{folder.name}/" != keep:
                    shutil.rmtree(folder, ignore_errors=True)
