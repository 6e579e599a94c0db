"""What a job knows of each item: a SQLite file beside the pictures, written before a request leaves and after its
picture is stored.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from attrs import define, field, frozen

from nebula_async.charges import Charges
from nebula_async.errors import JobError

SCHEMA = """
CREATE TABLE item (
    number INTEGER PRIMARY KEY,
    body_sha TEXT NOT NULL,
    state TEXT NOT NULL,
    sends INTEGER NOT NULL DEFAULT 0,
    at_least INTEGER NOT NULL DEFAULT 0,
    at_most INTEGER NOT NULL DEFAULT 0,
    path TEXT,
    error TEXT
) STRICT
"""
VERSION = 1
APPLICATION = 0x6E6562  # "neb": tells this ledger from any other SQLite file


class State(StrEnum):
    """Where an item stands; one that has no row is waiting too."""

    PENDING = "pending"
    SENT = "sent"
    DONE = "done"
    REJECTED = "rejected"
    BAD = "bad"
    UNKNOWN = "unknown"


@frozen
class Row:
    """An item as the ledger knows it."""

    number: int
    body_sha: str
    state: State
    sends: int = 0
    charges: Charges = field(factory=Charges)
    path: str | None = None
    error: str | None = None


@define(eq=False)
class Ledger:
    """The items of one job. One process at a time; its methods block, and are called one after the other."""

    connection: sqlite3.Connection

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Open a ledger, or make one. Raises `JobError` where another process has it, or it is not one of ours."""
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.2)
        try:
            _prepare(connection, path)
        except sqlite3.Error as error:
            connection.close()
            raise JobError(_explain(error, path)) from error
        except JobError:
            connection.close()
            raise
        return cls(connection)

    def close(self) -> None:
        """Close the file; another process may open it then."""
        self.connection.close()

    def find(self, number: int) -> Row | None:
        """Return the row of an item."""
        found = self.connection.execute(f"{SELECT} WHERE number = ?", (number,)).fetchone()
        return _row(found) if found else None

    def counts(self) -> Counter[State]:
        """Return how many items are in each state."""
        found = self.connection.execute("SELECT state, count(*) FROM item GROUP BY state")
        return Counter({State(state): number for state, number in found})

    def charges(self) -> Charges:
        """Return what all items of the job may have been charged."""
        sums = self.connection.execute("SELECT coalesce(sum(at_least), 0), coalesce(sum(at_most), 0) FROM item")
        return Charges(*sums.fetchone())

    def sending(self, number: int, body_sha: str) -> None:
        """Note, before anything leaves, that an item is about to be sent."""
        self.connection.execute(
            "INSERT INTO item (number, body_sha, state, sends) VALUES (?, ?, ?, 1)"
            " ON CONFLICT (number) DO UPDATE SET state = excluded.state, sends = sends + 1",
            (number, body_sha, State.SENT),
        )

    def ended(
        self, number: int, state: State, charges: Charges, *, path: str | None = None, error: str | None = None
    ) -> None:
        """Note how an item ended; what it was charged is added to what it was charged before."""
        self.connection.execute(
            "UPDATE item SET state = ?, at_least = at_least + ?, at_most = at_most + ?, path = ?, error = ?"
            " WHERE number = ?",
            (state, charges.at_least, charges.at_most, path, error, number),
        )

    def put_back(self, states: Iterable[State]) -> None:
        """Let the items in these states be sent again."""
        for state in states:
            self.connection.execute("UPDATE item SET state = ?, sends = 0 WHERE state = ?", (State.PENDING, state))


SELECT = "SELECT number, body_sha, state, sends, at_least, at_most, path, error FROM item"


def _row(values: tuple[int, str, str, int, int, int, str | None, str | None]) -> Row:
    number, body_sha, state, sends, at_least, at_most, path, error = values
    return Row(number, body_sha, State(state), sends, Charges(at_least, at_most), path, error)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN EXCLUSIVE")
    _migrate(connection, path)
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if version == 0 and application == 0:
        connection.execute(SCHEMA)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        return
    if (application, version) != (APPLICATION, VERSION):
        raise JobError(f"{path} is of another program or version; use another output folder")


def _explain(error: sqlite3.Error, path: Path) -> str:
    if "locked" in str(error):
        return f"{path.parent.parent} is in use by another process; wait for it, or use another output folder"
    return f"the ledger {path} cannot be used ({error}); move it away to begin anew, or use another output folder"
