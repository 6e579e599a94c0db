"""One process for a job at a time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from attrs import define, frozen

from nebula_async.errors import JobError

LOCKS = Path("/proc/locks")

RECORD_BYTES = 128
"""The file is written in place and never grows: that succeeds on a full disk too."""

CLOSED = "closed"


@define(eq=False)
class JobLock:
    """The lock of a job's folder: the system frees it when its process ends, however it ends.

    `was_closed` says whether the process that had it before let go of it by itself, having closed its files. `commits`
    is how often the ledger was written to, as far as was noted here: one that knows of fewer lacks the last.
    """

    path: Path
    was_closed: bool
    commits: int
    _file: int
    _holder: str = CLOSED

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
            noted, _ = _read(file)
            holder = noted if noted.startswith("process ") else "another process"  # it notes itself a little later
            os.close(file)
            folder = path.parent.parent
            raise JobError(f"{folder} is in use by {holder}; wait for it, or use another output folder") from error
        noted, commits = _read(file)
        return cls(path, noted in ("", CLOSED), commits, file)

    def opened(self) -> None:
        """Note who has the lock; from here on an end without `closed` is a kill. Raises `JobError`."""
        self._holder = f"process {os.getpid()}"
        try:
            self._note()
        except OSError as error:
            raise JobError(
                f"the lock {self.path} cannot be written: {error.strerror}; mend that, then repeat"
            ) from error

    def committed(self, commits: int) -> None:
        """Note how often the ledger was written to."""
        self.commits = commits
        self._note()

    def closed(self) -> None:
        """Note that all is closed in order."""
        self._holder = CLOSED
        with suppress(OSError):  # of a folder that is gone: the next run looks more closely
            self._note()

    def release(self) -> None:
        """Let go of it, also for processes that were forked meanwhile and have it open too."""
        import fcntl

        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)

    def _note(self) -> None:
        record = f"{self._holder}\n{self.commits}\n"
        os.pwrite(self._file, record.ljust(RECORD_BYTES).encode(), 0)


@frozen
class Holder:
    """The process that a lock's file names: it has the lock now, or `was_killed` while it had it."""

    process: int
    was_killed: bool


def holder_of(path: Path) -> Holder | None:
    """Return who has a lock, or had it last and did not close its files. It is not taken, so that nobody is refused."""
    try:
        with path.open("rb") as file:
            noted, _ = _read(file.fileno())
            inode = os.fstat(file.fileno()).st_ino
    except OSError:
        return None
    number = noted.removeprefix("process ")
    if noted == number or not (number.isdecimal() and number.isascii()):
        return None
    return Holder(int(number), was_killed=not _is_locked(inode))


def _is_locked(inode: int) -> bool:
    """Whether the system lists a lock of a file: a process that was killed is still noted in the file, and has none."""
    try:
        locks = LOCKS.read_text().splitlines()
    except OSError:  # not on this system: the note is believed
        return True
    return any(line.split()[5].rpartition(":")[2] == str(inode) for line in locks if len(line.split()) > 5)


def _read(file: int) -> tuple[str, int]:
    holder, _, rest = os.pread(file, RECORD_BYTES, 0).decode(errors="replace").partition("\n")
    commits = rest.partition("\n")[0]
    return holder, int(commits) if commits.isdecimal() and commits.isascii() else 0
