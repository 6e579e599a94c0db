"""The process that makes thumbnails, as seen from ours: begun when it is needed, ended when it takes too long."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from attrs import define, field

from nebula_async.bulk.gallery import thumbnailer

PICTURE_SECONDS = 20.0
"""How long a picture may take, on a machine that has much else to do: the process is the last to get the CPU."""

KEPT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
    "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "VIRTUAL_ENV",
)  # fmt: skip
"""Of the environment: there may be keys in the rest."""

LONGEST_ANSWER = 4096


class Made(Enum):
    """What became of a thumbnail: it is there; the picture is `BAD` or `GONE`; it `FAILED` and may not another time."""

    DONE = "done"
    BAD = "bad"
    GONE = "gone"
    FAILED = "failed"


def can_decode() -> bool:
    """Whether there is a Python with Pillow that can be started: a program that brings its own would start itself."""
    return find_spec("PIL") is not None and bool(sys.executable) and not getattr(sys, "frozen", False)


@define(eq=False)
class Decoder:
    """One process at a time, for one caller at a time. `problem` says why there will be no more thumbnails, if so."""

    seconds: float = PICTURE_SECONDS
    problem: str | None = field(default=None, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _is_stopped: bool = field(default=False, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    @property
    def process_id(self) -> int | None:
        """Which process it is, if there is one now."""
        return None if self._process is None else self._process.pid

    def make(self, picture: Path, thumbnail: Path) -> Made:
        """Make a thumbnail; it appears whole or not at all. Blocks for some milliseconds, at most `seconds`.

        A picture at which the process ends, or does not come to an end, is bad; the next one gets a new process.
        """
        if not self._is_ready():
            return Made.FAILED
        part = thumbnail.with_name(f".{os.getpid()}.part")
        asked = {
            "picture": str(picture.absolute()),
            "thumbnail": str(thumbnail.absolute()),
            "part": str(part.absolute()),
        }
        said = self._ask(json.dumps(asked))
        if said is None:
            self.close()
            with suppress(OSError):
                part.unlink(missing_ok=True)
            return Made.FAILED if self._is_stopped else Made.BAD
        if "failed" in said:
            self.problem = said["failed"]
        return next((made for made in Made if made.value in said), Made.DONE)

    def stop(self) -> None:
        """End what is under way, from another thread; nothing is made after it."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            with process:  # closes its input, and waits
                process.kill()

    def _is_ready(self) -> bool:
        """Whether there is a process; where there can be none, `problem` says so."""
        if self._process is None and self.problem is None:
            self._begin()
            if self._process is not None and self._ask() is None:
                self.close()
                self.problem = None if self._is_stopped else "the process for them ends at once"
        return self._process is not None and self.problem is None

    def _begin(self) -> None:
        with self._lock:  # one that is begun after the stop would be missed by it
            try:
                self._process = None if self._is_stopped else _started()
            except OSError as error:
                self.problem = f"the process for them cannot be started: {error.strerror or error}"

    def _ask(self, line: str = "") -> Mapping[str, str] | None:
        """Write a line, if there is one to write, and return the answer; `None` where none comes."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            if line:
                process.stdin.write(f"{line}\n".encode())
            said = json.loads(_read_line(process.stdout.fileno(), self.seconds))
        except (OSError, ValueError):
            return None
        return said if isinstance(said, dict) else None


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-P", thumbnailer.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env={name: os.environ[name] for name in KEPT if name in os.environ},
        start_new_session=True,  # what a terminal tells us, we tell it: its input ends
    )


def _read_line(file: int, seconds: float) -> bytes:
    """Return a line. Raises `TimeoutError`, and `ValueError` where the input ends, or the line does not."""
    line, until = b"", time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(until - time.monotonic(), 0)):
                raise TimeoutError
            piece = os.read(file, LONGEST_ANSWER)
            line += piece
            if not piece or len(line) > LONGEST_ANSWER:
                raise ValueError("no answer")
    return line
