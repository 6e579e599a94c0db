"""One process for a job at a time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from attrs import define

from nebula_async.errors import JobError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@define(eq=False)
class JobLock:
    """The lock of a job's folder: the system frees it when its process ends, however it ends.

    `was_closed` says whether the process that had it before let go of it by itself, having closed its files.
    """

    path: Path
    was_closed: bool
    _file: int

    @classmethod
    def take(cls, path: Path) -> JobLock:
        """Take the lock. Raises `JobError` that names the process which has it, or says why there is none."""
        import fcntl

        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise JobError(f"the lock {path} cannot be opened: {error.strerror}; give another --out") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            noted = os.pread(file, 200, 0).decode(errors="replace").partition("\n")[0]
            holder = noted if noted.startswith("process ") else "another process"  # it notes itself a little later
            os.close(file)
            folder = path.parent.parent
            raise JobError(f"{folder} is in use by {holder}; wait for it, or use another output folder") from error
        before = os.pread(file, 200, 0)
        return cls(path, before == b"" or before.endswith(b"closed\n"), file)

    def opened(self) -> None:
        """Note who has the lock; from here on an end without `closed` is a kill."""
        self._note(f"process {os.getpid()}\n")

    def closed(self) -> None:
        """Note that all is closed in order."""
        with suppress(OSError):  # of a folder that is gone, or a full disk: the next run looks more closely
            self._note("closed\n")

    def release(self) -> None:
        """Let go of it."""
        os.close(self._file)

    def _note(self, text: str) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text.encode(), 0)


def boot_id() -> str:
    """Return what names this start of the machine; empty where the system does not tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
