"""The SQLite file below a job's ledger: its schema, how it is opened, and what is said where it fails."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

from attrs import frozen

from nebula_async.errors import JobError

Durability: TypeAlias = Literal["power", "process"]
DURABILITIES: tuple[Durability, ...] = ("power", "process")

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE item (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    body_sha TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('pending', 'sent', 'urls', 'done', 'rejected', 'bad', 'expired', 'unknown')),
    epoch INTEGER NOT NULL DEFAULT 0,
    sends INTEGER NOT NULL DEFAULT 0,
    resends INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    asked INTEGER NOT NULL,
    at_least INTEGER NOT NULL DEFAULT 0,
    at_most INTEGER NOT NULL DEFAULT 0,
    at_stake INTEGER NOT NULL DEFAULT 0,
    listed INTEGER NOT NULL DEFAULT 1,
    name TEXT NOT NULL,
    request TEXT NOT NULL,
    error TEXT,
    cause TEXT
) STRICT;
CREATE TABLE attempt (
    seq INTEGER NOT NULL,
    n INTEGER NOT NULL,
    call_key TEXT NOT NULL,
    is_replayed INTEGER NOT NULL,
    price TEXT,
    sent_at REAL NOT NULL,
    ended_at REAL,
    verdict TEXT,
    at_least INTEGER NOT NULL DEFAULT 0,
    at_most INTEGER NOT NULL DEFAULT 0,
    request_id TEXT,
    error TEXT,
    cause TEXT,
    seconds REAL,
    PRIMARY KEY (seq, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE output (
    seq INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    path TEXT,
    sha256 TEXT,
    bytes INTEGER,
    media_type TEXT,
    row TEXT,
    url TEXT,
    expires_at REAL,
    PRIMARY KEY (seq, idx)
) STRICT;
CREATE TABLE event (at REAL NOT NULL, kind TEXT NOT NULL, detail TEXT) STRICT;
"""
VERSION = 4
APPLICATION = 0x6E6562  # "neb": tells this ledger from any other SQLite file

LOCK_SECONDS = 0.2

UNWRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR")
"""What SQLite says of a place where it cannot make the index of a log."""


def open_file(path: Path, durability: Durability) -> sqlite3.Connection:
    """Open the file for its one writer, or make it, for its owner alone: it may hold URLs. Raises `JobError`."""
    with Explained(path):
        with suppress(OSError):  # SQLite says it better
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS)
    try:
        with Explained(path):
            connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'OFF'}")
            connection.execute("BEGIN EXCLUSIVE")  # nothing of a file that is not ours is changed
            _check(connection, path)
            connection.execute("COMMIT")
            _use_log(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the file for a reader, also while a job writes it. Raises `JobError` where there is none, or no good one."""
    if not path.is_file():
        folder = path.parent.parent
        raise JobError(
            f"{folder} is not the folder of a job: there is no ledger {path}; give what bulk had as --out, or as --job"
            " where that is a store"
        )
    with Explained(path):
        connection = _reading(path)
    try:
        with Explained(path):
            _check_kind(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _reading(path: Path) -> sqlite3.Connection:
    """Connect for reading, also where nothing may be written: not even the index of a log that SQLite makes for it."""
    connection = _connected(path, "mode=ro")
    try:
        _pragma(connection, "user_version")
    except sqlite3.OperationalError as error:
        connection.close()
        if not error.sqlite_errorname.startswith(UNWRITABLE) or _log_bytes(path):
            raise
        return _connected(path, "mode=ro&immutable=1")
    return connection


def _connected(path: Path, options: str) -> sqlite3.Connection:
    url = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(url, uri=True, isolation_level=None, check_same_thread=False)


def _log_bytes(path: Path) -> int:
    """Return how large the log beside the file is, in which there may be more than in the file itself."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


@frozen
class Explained:
    """A block in which what SQLite raises becomes a `JobError` that says what to do about the file at `path`.

    There is one around each statement, so it is no generator: that would take as long as a statement does.
    """

    path: Path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, sqlite3.Error):
            raise JobError(_explain(error, self.path)) from error


def _explain(error: sqlite3.Error, path: Path) -> str:
    folder, name = path.parent.parent, getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL") or (name.startswith("SQLITE_IOERR") and _is_full(folder)):
        return f"the disk of {folder} is full; make room, then repeat the command"
    if name.startswith("SQLITE_BUSY"):
        return f"{folder} is in use by another process; wait for it, or use another output folder"
    if name.startswith("SQLITE_IOERR"):
        return f"the disk of {folder} fails ({error}); nothing more is sent; repeat the command once it works again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return f"the ledger {path} cannot be opened ({error}); see who owns {path.parent}, and who may write there"
    return damaged(path, str(error))


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free == 0
    except OSError:
        return False


def damaged(path: Path, problem: str) -> str:
    """Return what is said of a ledger that is not whole."""
    return (
        f"the ledger {path} cannot be used ({problem}); restore it from a copy, or make a new one from the pictures"
        f" with nebula-async rebuild {path.parent.parent}"
    )


def _use_log(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "journal_mode = WAL") != "wal":  # SQLite says so, and raises nothing
        raise JobError(f"the disk of {path.parent.parent} fails; repeat the command, or give another --out")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if not _pragma(connection, "schema_version"):
        _create(connection)
        return
    _check_kind(connection, path)
    if (problem := _pragma(connection, "quick_check")) != "ok":
        raise sqlite3.DatabaseError(problem)


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    application, version = (_pragma(connection, name) for name in ("application_id", "user_version"))
    if application != APPLICATION:
        raise JobError(f"{path} is no ledger but a file of another program; use another output folder")
    if version > VERSION:
        raise JobError(f"{path} is of a newer version of nebula_async; update, or use another output folder")
    if version < VERSION:
        raise JobError(
            f"{path} is of an older version of nebula_async, which this one does not continue; finish the job with that"
            f" version, or make a new ledger from the pictures with nebula-async rebuild {path.parent.parent}"
        )


def _create(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
