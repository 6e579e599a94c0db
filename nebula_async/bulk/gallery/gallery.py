"""The gallery of a job: what a run, or a command, has written and makes thumbnails of."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attrs import define, field

from nebula_async.bulk.bucket import STORE
from nebula_async.bulk.command import quoted
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.gallery.decoding import can_decode
from nebula_async.bulk.gallery.entries import choose, read_paths
from nebula_async.bulk.gallery.place import GalleryFolder
from nebula_async.bulk.gallery.scripts import read_back
from nebula_async.bulk.gallery.store_urls import browser_url, is_browsable
from nebula_async.bulk.gallery.thumbnails import Thumbnails
from nebula_async.bulk.gallery.writing import GalleryWriter, Report, Shown, Written, facts_of, is_current
from nebula_async.bulk.ledger import Ledger
from nebula_async.errors import JobError

SECONDS_AFTER_RUN = 20.0
"""How long a run that has ended makes thumbnails of what it could not while it ran."""

SECONDS_AFTER_STOP = 2.0
"""How long somebody waits for the page who wants to leave at once: tens of thousands of entries are written by then."""

NO_PILLOW = (
    "no thumbnails: Pillow is not installed, so the gallery shows the pictures themselves;"
    " pip install 'nebula_async[images]'"
)

logger = logging.getLogger(__name__)


@define(eq=False)
class Gallery:
    """The page of the job in `folder`. Its methods block, but for `hurry` and `stop`."""

    folder: JobFolder
    shown: Shown
    thumbnails: Thumbnails | None
    notes: list[str] = field(factory=list, init=False)
    """What is to be said about it, once it is written."""

    is_filling: bool = field(default=False, init=False)
    """Whether thumbnails are made that somebody waits for."""

    _is_first: bool = field(init=False)
    _is_ours: bool = field(default=False, init=False)
    _is_filled: bool = field(default=False, init=False)
    _until: float = field(default=math.inf, init=False)

    @classmethod
    def of(
        cls,
        ledger: Ledger,
        folder: JobFolder,
        *,
        store_options: Mapping[str, Any] = MappingProxyType({}),
        pictures_url: str | None = None,
    ) -> Gallery:
        """Return the gallery of a job by its ledger. `pictures_url` is where a browser finds the folder `images` of a
        job whose pictures are in an object store; else it is guessed by the store's URL and options.
        """
        place, store = GalleryFolder(folder.path / "gallery"), ledger.fact(STORE)
        title = folder.path.absolute().name or str(folder.path)
        if store is None or folder.holds_pictures():
            thumbnails = Thumbnails(folder.path, place.thumbnails) if can_decode() else None
            return cls(folder, Shown(title=title, job=_named(folder.path)), thumbnails)
        before = read_back(place.summary) or {}
        told = pictures_url or (_url(before) if before.get("is_told") else None)
        guessed = _images_at(browser_url(store, store_options))
        pictures = told or (guessed if store_options else _url(before) or guessed)  # a run knows the store's options
        return cls(folder, Shown(title=title, job=None, pictures=pictures or "", is_told=told is not None), None)

    def __attrs_post_init__(self) -> None:
        self._is_first = not self.place.page.is_file()

    @property
    def place(self) -> GalleryFolder:
        """Where it is."""
        return GalleryFolder(self.folder.path / "gallery")

    @property
    def page(self) -> Path:
        """The page to open."""
        return self.place.page

    def offer(self, path: str) -> None:
        """Let a thumbnail be made of a picture that is stored, beside the caller."""
        if self.thumbnails is not None and self._is_claimed():
            self.thumbnails.offer(path)

    def is_current(self, ledger: Ledger) -> bool:
        """Whether the page shows what the ledger says."""
        return is_current(self.place, facts_of(ledger, self.shown))

    def fill(self, ledger: Ledger, seconds: float = math.inf, *, on_each: Callable[[], None] = lambda: None) -> None:
        """Make the thumbnails that are missing, for so many seconds, or until `hurry`; `on_each` is told of each
        picture that is shown.
        """
        if self.thumbnails is not None and self._is_claimed():
            self.thumbnails.settle()
            self.is_filling = True
            try:
                paths = read_paths(ledger, choose(ledger))
                self._is_filled = self.thumbnails.fill(paths, seconds, on_each=on_each)
            finally:
                self.is_filling = False

    def write(self, ledger: Ledger, report: Report) -> Written:
        """Write the page. Raises `OSError` and `JobError`; then the page shows what it did before."""
        written = GalleryWriter(
            place=self.place, shown=self.shown,
            thumbnail_of=self._thumbnail_of, is_stopped=lambda: time.monotonic() > self._until,
        ).write(ledger, report, facts_of(ledger, self.shown))  # fmt: skip
        self._note(written)
        return written

    def finish(self, ledger: Ledger, report: Callable[[], Report]) -> None:
        """Write the page at the end of a run, where it does not show what the ledger says. Whatever prevents that is a
        note: a run has its pictures.
        """
        self.attempt(lambda: None if self.is_current(ledger) else self.write(ledger, report()))
        self.close()

    def attempt(self, work: Callable[[], object]) -> None:
        """Do something for the page; what prevents it is a note."""
        try:
            work()
        except (OSError, JobError) as error:
            self._note_unwritten(error)
        except Exception as error:
            logger.exception("the gallery could not be written", extra={"page": str(self.page)})
            self._note_unwritten(error)

    def hurry(self) -> None:
        """Make no more thumbnails."""
        if self.thumbnails is not None:
            self.thumbnails.stop()

    def stop(self, seconds: float = SECONDS_AFTER_STOP) -> None:
        """Make no more thumbnails, and give up the page where it is not written in so many seconds."""
        self.hurry()
        self._until = time.monotonic() + seconds

    def close(self) -> None:
        """Let go of what makes thumbnails."""
        if self.thumbnails is not None:
            self.thumbnails.close()

    def _is_claimed(self) -> bool:
        """Whether the folder is ours; where it is not, the writing says so."""
        if not self._is_ours:
            with suppress(OSError, JobError):
                self.place.claim()
                self._is_ours = True
        return self._is_ours

    def _thumbnail_of(self, path: str) -> str | None:
        return None if self.thumbnails is None else self.thumbnails.find(path)

    def _note(self, written: Written) -> None:
        if self.shown.job is None:
            self._note_store()
        elif self.thumbnails is None and self._is_first and written.pictures:
            self.notes.append(NO_PILLOW)
        elif written.thumbnails < written.pictures and not self._is_filled:
            self._note_missing(written)

    def _note_store(self) -> None:
        pictures = self.shown.pictures
        if self._is_first and pictures:
            self.notes.append(f"the gallery shows the pictures from {pictures}: a browser must be allowed to read them")
        elif not pictures:
            self.notes.append(
                f"the gallery shows no pictures: {self._command()} --pictures-url URL tells where they are"
            )

    def _note_missing(self, written: Written) -> None:
        problem = self.thumbnails and self.thumbnails.problem
        why = f" ({problem})" if problem else ""
        counted = f"{written.thumbnails:,} of {written.pictures:,}"
        self.notes.append(f"thumbnails: {counted}{why}; `{self._command()}` makes the rest")

    def _note_unwritten(self, error: Exception) -> None:
        text = error.message if isinstance(error, JobError) else getattr(error, "strerror", None) or str(error)
        note = f"the gallery was not written: {text}; `{self._command()}` writes it"
        self.notes += [note] if note not in self.notes else []

    def _command(self) -> str:
        return f"nebula-async gallery {quoted(_named(self.folder.path))}"


def _named(folder: Path) -> str:
    """Return a folder as a command takes it: one that begins like an option is named otherwise."""
    return f"./{folder}" if str(folder).startswith("-") else str(folder)


def _url(summary: Mapping[str, Any]) -> str | None:
    """Return where the pictures were looked for before, if that was on the web."""
    pictures = summary.get("pictures")
    return pictures if isinstance(pictures, str) and is_browsable(pictures) else None


def _images_at(store: str | None) -> str | None:
    return None if store is None else f"{store}/images/"
