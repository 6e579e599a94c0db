"""Thumbnails of a job's pictures, made while it runs, as far as that costs it nothing, and later."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from attrs import define, field

from nebula_async.bulk.gallery.decoding import Decoder, Made

MOST_WAITING = 1_000
"""Pictures that wait while a job runs; those beyond are looked for once it has ended."""

OLD_SECONDS = 600.0
"""After that a part file is one of a process that was killed."""

NAME = re.compile(r"[0-9a-f]{16}\.(webp|failed)")
"""Of a thumbnail, or of the note that none can be made; files of other names are nobody's business here."""


@define(eq=False)
class Thumbnails:
    """Makes thumbnails of pictures below `root`, by their paths there, in `folder`.

    A thumbnail is named after its picture's path, size and time: one that was replaced gets another, and the old one
    is removed. A picture of which none can be made is noted, and not tried again.
    """

    root: Path
    folder: Path
    decoder: Decoder = field(factory=Decoder)
    _waiting: SimpleQueue[str | None] = field(factory=SimpleQueue, init=False)
    _thread: Thread | None = field(default=None, init=False)
    _is_stopped: bool = field(default=False, init=False)

    def find(self, path: str) -> str | None:
        """Return the name of a picture's thumbnail, `None` where it has none."""
        name = self._name(path)
        return name if name is not None and os.path.exists(f"{self.folder}/{name}") else None  # noqa: PTH110 - quicker

    def offer(self, path: str) -> None:
        """Let a thumbnail be made beside the caller, who waits for nothing; it may be left out."""
        if self.waiting >= MOST_WAITING or self._is_stopped:
            return
        self._waiting.put(path)
        if self._thread is None:
            self._thread = Thread(target=self._work, name="nebula_async thumbnails", daemon=True)
            with suppress(RuntimeError):  # no thread can be had: they are made later
                self._thread.start()

    def settle(self) -> None:
        """End what is made beside the caller, and forget what waits; blocks while a picture is under way."""
        thread, self._thread = self._thread, None
        with suppress(Empty):
            while True:
                self._waiting.get_nowait()
        with suppress(RuntimeError):
            if thread is not None:
                self._waiting.put(None)
                thread.join()
        self._waiting = SimpleQueue()

    def fill(self, paths: Iterable[str], seconds: float, *, on_each: Callable[[], None] = lambda: None) -> bool:
        """Make what is missing of these for so many seconds, and remove those of other pictures; return whether all
        were looked at, of which `on_each` is told.
        """
        self._remove_parts()
        begun, until = time.time(), time.monotonic() + seconds
        wanted = set()
        for path in paths:
            if self._is_over or time.monotonic() > until:
                return False
            wanted.add(self.make(path))
            on_each()
        if self._is_over:
            return False
        self._remove_others(wanted - {None}, begun)
        return True

    def make(self, path: str) -> str | None:
        """Make one thumbnail, unless it is there, or was tried; return its name, `None` where the picture is gone."""
        name = self._name(path)
        if name is None:
            return None
        target = self.folder / name
        if target.exists() or target.with_suffix(".failed").exists():
            return name
        if self.decoder.make(self.root / path, target) is Made.BAD:
            self._note_failed(target)
        return name

    def stop(self) -> None:
        """End what is under way, from another thread; nothing is made after it."""
        self._is_stopped = True
        self.decoder.stop()

    def close(self) -> None:
        """End what is under way, and the process that makes them."""
        self.stop()
        self.settle()
        self.decoder.close()

    @property
    def waiting(self) -> int:
        """How many were offered and are not looked at yet."""
        return self._waiting.qsize()

    @property
    def problem(self) -> str | None:
        """Why no more can be made, if so."""
        return self.decoder.problem

    @property
    def _is_over(self) -> bool:
        return self._is_stopped or self.decoder.problem is not None

    def _work(self) -> None:
        while (path := self._waiting.get()) is not None and not self._is_over:
            self.make(path)

    def _name(self, path: str) -> str | None:
        folder = path.split("/")[1:-1]
        try:
            seen = os.stat(f"{self.root}/{path}")  # noqa: PTH116 - quicker
        except OSError:
            return None
        facts = f"{path}\n{seen.st_size}\n{seen.st_mtime_ns}"
        digest = hashlib.blake2b(facts.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        return None if ".." in folder else "/".join((*folder, f"{digest}.webp"))

    def _note_failed(self, target: Path) -> None:
        with suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.with_suffix(".failed").touch()

    def _remove_others(self, wanted: Set[str | None], begun: float) -> None:
        """Remove the thumbnails of pictures that were replaced, copied or deleted; those of a run that goes on are
        newer. Where no picture is to be found, all may come back: their disk is not there.
        """
        for name in self._names() if wanted else ():
            file = self.folder / name
            with suppress(OSError):
                if str(Path(name).with_suffix(".webp")) not in wanted and file.stat().st_mtime < begun:
                    file.unlink()

    def _names(self) -> Iterator[str]:
        """Yield the names of all thumbnails, and of the notes that there is none."""
        for folder, _, files in os.walk(self.folder):
            inner = os.path.relpath(folder, self.folder)
            yield from [os.path.normpath(f"{inner}/{file}") for file in files if NAME.fullmatch(file)]

    def _remove_parts(self) -> None:
        with suppress(OSError):
            for part in self.folder.glob("*/.*.part"):
                if time.time() - part.stat().st_mtime > OLD_SECONDS:
                    part.unlink()
