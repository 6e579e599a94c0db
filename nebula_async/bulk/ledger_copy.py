"""What can still be read of a ledger that is damaged, row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from nebula_async.bulk.ledger_file import APPLICATION, VERSION

TABLES = ("meta", "item", "attempt", "output", "event")


def copy_readable(damaged: Path, into: sqlite3.Connection) -> int:
    """Copy what can be read of a ledger of this version, or of the one before, into an empty one; return how many items
    that are.

    A row that cannot be read ends its table, one that does not fit is left out. Never raises for the damaged file.
    """
    with suppress(sqlite3.Error):
        source = sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True)
        try:
            if _is_ours(source):
                for table in TABLES:
                    _copy(table, source, into)
        finally:
            source.close()
    for table in ("attempt", "output"):  # what belongs to nothing would be taken for known
        into.execute(f"DELETE FROM {table} WHERE seq NOT IN (SELECT seq FROM item)")  # noqa: S608 - our own names
    into.execute(
        "DELETE FROM meta WHERE key IN ('input', 'census', 'metadata_bytes', 'commits')"
    )  # all is looked at anew
    return int(into.execute("SELECT count(*) FROM item").fetchone()[0])


def _is_ours(source: sqlite3.Connection) -> bool:
    application, version = (
        source.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    return bool(application == APPLICATION and version in (VERSION - 1, VERSION))


def _copy(table: str, source: sqlite3.Connection, into: sqlite3.Connection) -> None:
    names = _columns(table, source)
    insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - our own
    for row in _readable(table, names, source):
        with suppress(sqlite3.Error):
            into.execute(insert, row)


def _columns(table: str, source: sqlite3.Connection) -> list[str]:
    """Return the columns that a table has: the version before had fewer."""
    return [row[1] for row in source.execute(f"PRAGMA table_info({table})")]


def _readable(table: str, names: Sequence[str], source: sqlite3.Connection) -> Iterator[tuple[object, ...]]:
    with suppress(sqlite3.Error):
        yield from source.execute(f"SELECT {', '.join(names)} FROM {table}")  # noqa: S608 - our own names
