"""Where processes of a host meet: rows of a SQLite file that only this user can read."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from weakref import finalize

from attrs import define, field

Value = TypeVar("Value")

FILE = "accounts-1.db"
"""The number is that of the form of what is in it."""

STATE_VARIABLE = "NEBULA_STATE_DIR"

TABLE = "CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, state TEXT NOT NULL, day TEXT NOT NULL)"
FORGET = "DELETE FROM account WHERE day < date('now', '-2 days')"
READ = "SELECT state FROM account WHERE name = ?"
WRITE = "INSERT OR REPLACE INTO account VALUES (?, ?, date('now'))"

MAY_PASS = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, 0}
"""0: an error of Python's own, for text that is none."""


class StoreBusyError(Exception):
    """Another process has locked the file, usually for less than a millisecond: nothing was done."""


class StoreLostError(Exception):
    """The file cannot be used; the text says why. Nothing was done."""


def state_folders(environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Return the folders for what a user's processes share, the first that can be used counts.

    It is `NEBULA_STATE_DIR` where that is set, else one below `XDG_STATE_HOME` or `~/.local/state`, else one of this
    user below the folder for temporary files.
    """
    environ = os.environ if environ is None else environ
    if given := environ.get(STATE_VARIABLE):
        return (Path(given).expanduser().absolute(),)
    home = environ.get("XDG_STATE_HOME") or "~/.local/state"
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        kept = Path(home).expanduser() / "nebula-async"
    except RuntimeError:  # nobody's home
        kept = Path()
    temporary = Path(tempfile.gettempdir()) / f"nebula-async-{user}"
    return (kept, temporary) if kept.is_absolute() else (temporary,)


@define(eq=False, repr=False)
class HostStore:
    """Rows of text that processes change one after the other. Nothing ever waits here: who finds the file locked is
    told so. It is not synced, so a crash of the machine may take what was written last, or all of it.
    """

    folders: tuple[Path, ...]
    path: Path | None = field(default=None, init=False)
    _connection: sqlite3.Connection | None = field(default=None, init=False)
    _opened: tuple[int, int, int] | None = field(default=None, init=False)

    def read(self, name: str) -> str | None:
        """Return the text of a row, if there is one. Raises `StoreBusyError` and `StoreLostError`."""

        def look(connection: sqlite3.Connection) -> str | None:
            row = connection.execute(READ, (name,)).fetchone()
            return None if row is None else str(row[0])

        return self._guarded(look)

    def change(self, name: str, work: Callable[[str | None], tuple[str, Value]]) -> Value:
        """Let `work` make a new text of a row's old one, while nobody else can; return what it returns beside it.

        Where this fails, `work` may have been called all the same, or more than once. A damaged file is replaced by an
        empty one. Raises `StoreBusyError` and `StoreLostError`.
        """

        def transact(connection: sqlite3.Connection) -> Value:
            connection.execute("BEGIN IMMEDIATE")
            try:
                row = connection.execute(READ, (name,)).fetchone()
                text, value = work(None if row is None else str(row[0]))
                connection.execute(WRITE, (name, text))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return value

        return self._guarded(transact)

    def _guarded(self, work: Callable[[sqlite3.Connection], Value]) -> Value:
        for mend in (self._close, self._replace, None):
            try:
                return work(self._open())
            except sqlite3.Error as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in MAY_PASS:
                    raise StoreBusyError from error
                if mend is None or code not in DAMAGED:
                    self._close()
                    raise StoreLostError(f"{self.path}: {error}") from error
                mend()
            except OSError as error:
                self._close()
                raise StoreLostError(f"{error.filename or self.path}: {error.strerror or error}") from error
        raise AssertionError("unreachable")

    def _open(self) -> sqlite3.Connection:
        """Return the connection to the file that is there now; another process may have removed or replaced it."""
        if self._connection is not None and self.path is not None and self._opened == _identity(self.path):
            return self._connection
        self._close()
        self.path = _find_place(self.folders) / FILE
        _create(self.path)
        self._opened = _identity(self.path)
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA page_size=16384")  # a row and what it hangs from are a page each
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=MEMORY")  # several write: never WAL
            connection.execute(TABLE)
            connection.execute(FORGET)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        finalize(self, connection.close)  # accounts live as long as anyone uses them, and nobody closes them
        return connection

    def _close(self) -> None:
        connection, self._connection, self._opened = self._connection, None, None
        if connection is not None:
            connection.close()

    def _replace(self) -> None:
        """Take a damaged file away, unless another process was faster."""
        opened, path = self._opened, self.path
        self._close()
        if path is not None and opened == _identity(path):
            with suppress(OSError):  # elsewhere than on POSIX a file that others have open stays
                path.unlink()


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a file, as this process opened it, from any other."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a third of the time, at each request
    except OSError:
        return None
    return found.st_dev, found.st_ino, os.getpid()


def _find_place(folders: tuple[Path, ...]) -> Path:
    problem = OSError("no folder to keep it in")
    for folder in folders:
        try:
            _prepare(folder)
        except OSError as error:
            problem = error
            continue
        return folder
    raise problem


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """See that a folder can hold what is shared. Raises `OSError` for one that is not there or not ours alone."""
    found = folder.stat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022):
        raise PermissionError(0, "must be this user's and writable by nobody else", str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(0, "cannot be written to", str(folder))


def _create(path: Path) -> None:
    """Make an empty file if there is none; one that is there is not touched, as closing it would end our locks."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
