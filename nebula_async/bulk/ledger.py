"""What a job knows of each item: a SQLite file beside the pictures, written before a request leaves and after its
picture is stored.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from nebula_async.charges import Charges
from nebula_async.errors import JobError

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE item (
    number INTEGER PRIMARY KEY,
    body_sha TEXT NOT NULL,
    state TEXT NOT NULL,
    cut_off INTEGER NOT NULL DEFAULT 0,
    at_least INTEGER NOT NULL DEFAULT 0,
    at_most INTEGER NOT NULL DEFAULT 0,
    at_stake INTEGER NOT NULL,
    pictures INTEGER NOT NULL DEFAULT 0,
    name TEXT,
    error TEXT
) STRICT;
"""
VERSION = 2
APPLICATION = 0x6E6562  # "neb": tells this ledger from any other SQLite file

LOCK_SECONDS = 0.2


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
    """An item as the ledger knows it.

    `cut_off` counts its calls that were under way when a run was stopped. `charges` is what calls that ended may have
    cost, `at_stake` what one under way may. `name` is where its picture will be, or is once the item is done.
    """

    number: int
    body_sha: str
    state: State
    cut_off: int
    charges: Charges
    at_stake: int
    name: str | None
    error: str | None


@define(eq=False)
class Ledger:
    """The items of one job. One process at a time; its methods block, are called one after the other, and raise
    `JobError` where the file fails them.
    """

    path: Path
    _connection: sqlite3.Connection = field(alias="connection")

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Open a ledger, or make one. Raises `JobError` where another process has it, or it is not one of ours."""
        with _explained(path):
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS)
        ledger = cls(path, connection)
        try:
            with _explained(path):
                ledger._prepare()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        """Close the file; another process may open it then."""
        self._connection.close()

    def server(self, name: str) -> str:
        """Return the name of the server that the job was begun with; it is `name` if nothing was sent yet."""
        if self.is_empty():
            self._write("INSERT OR REPLACE INTO meta VALUES ('server', ?)", name)
        found: str = self._read("SELECT value FROM meta WHERE key = 'server'")[0][0]
        return found

    def is_empty(self) -> bool:
        """Whether nothing was ever sent."""
        return self.count_beyond(0) == 0

    def find(self, number: int) -> Row | None:
        """Return the row of an item."""
        found = self._read(f"{SELECT} WHERE number = ?", number)
        return _row(*found[0]) if found else None

    def stored(self) -> Iterator[Row]:
        """Yield the items that are done."""
        with _explained(self.path):
            for values in self._connection.execute(f"{SELECT} WHERE state = ? ORDER BY number", (State.DONE,)):
                yield _row(*values)

    def under_way(self) -> list[Row]:
        """Return the items whose call has not ended, as far as the ledger knows."""
        return [_row(*values) for values in self._read(f"{SELECT} WHERE state = ?", State.SENT)]

    def count_beyond(self, total: int) -> int:
        """Return how many items come after the first `total`: they were sent and are asked for no more."""
        found: int = self._read("SELECT count(*) FROM item WHERE number >= ?", total)[0][0]
        return found

    def counts(self, total: int) -> Counter[State]:
        """Return how many of the first `total` items are in each state."""
        found = self._read("SELECT state, count(*) FROM item WHERE number < ? GROUP BY state", total)
        return Counter({State(state): number for state, number in found})

    def pictures(self) -> int:
        """Return how many pictures were ever stored."""
        found: int = self._read("SELECT coalesce(sum(pictures), 0) FROM item")[0][0]
        return found

    def charges(self) -> Charges:
        """Return what all calls ever made for the job may have been charged."""
        sums = "SELECT coalesce(sum(at_least), 0), coalesce(sum(at_most + at_stake), 0) FROM item"
        return Charges(*self._read(sums)[0])

    def sending(self, number: int, body_sha: str, name: str, *, at_stake: int) -> None:
        """Note, before anything leaves, that an item is about to be sent, and what that may cost in pictures."""
        self._write(
            "INSERT INTO item (number, body_sha, state, at_stake, name) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (number) DO UPDATE SET"
            " state = excluded.state, at_stake = excluded.at_stake, name = excluded.name, error = NULL",
            number, body_sha, State.SENT, at_stake, name,
        )  # fmt: skip

    def ended(
        self,
        number: int,
        state: State,
        charges: Charges,
        *,
        name: str | None = None,
        pictures: int = 0,
        error: str | None = None,
    ) -> None:
        """Note how a call ended; what it was charged and the pictures that were stored are added to what there was."""
        self._write(
            "UPDATE item SET state = ?, at_least = at_least + ?, at_most = at_most + ?, at_stake = 0,"
            " pictures = pictures + ?, name = ?, error = ? WHERE number = ?",
            state, charges.at_least, charges.at_most, pictures, name, _storable(error), number,
        )  # fmt: skip

    def cut_off(self, number: int, state: State, charges: Charges) -> None:
        """Note that the call for an item was under way when a run was stopped, and where that leaves the item."""
        self._write("UPDATE item SET cut_off = cut_off + 1 WHERE number = ?", number)
        self.ended(number, state, charges, error="the run was stopped while the request was under way")

    def put_back(self, *states: State) -> None:
        """Let the items in these states be sent again."""
        for state in states:
            self._write("UPDATE item SET state = ?, cut_off = 0 WHERE state = ?", State.PENDING, state)

    def _read(self, statement: str, *values: str | int) -> list[tuple[Any, ...]]:
        with _explained(self.path):
            return self._connection.execute(statement, values).fetchall()

    def _write(self, statement: str, *values: str | int | None) -> None:
        with _explained(self.path):
            self._connection.execute(statement, values)

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._connection.execute("BEGIN EXCLUSIVE")  # nothing of a file that is not ours is changed
        self._check()
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")

    def _check(self) -> None:
        application, version = (self._pragma(name) for name in ("application_id", "user_version"))
        if not self._pragma("schema_version"):
            self._create()
        elif application != APPLICATION:
            raise JobError(f"{self.path} is no ledger but a file of another program; use another output folder")
        elif version != VERSION:
            raise JobError(f"{self.path} is of another version of nebula_async; update, or use another output folder")
        elif (problem := self._pragma("quick_check")) != "ok":
            raise sqlite3.DatabaseError(problem)

    def _create(self) -> None:
        for statement in SCHEMA.split(";"):
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
        self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def _pragma(self, name: str) -> Any:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]


SELECT = "SELECT number, body_sha, state, cut_off, at_least, at_most, at_stake, name, error FROM item"


def _row(number: int, body_sha: str, state: str, cut_off: int, at_least: int, at_most: int, *rest: Any) -> Row:
    return Row(number, body_sha, State(state), cut_off, Charges(at_least, at_most), *rest)


def _storable(text: str | None) -> str | None:
    """Return text without the lone surrogates that a server's JSON may hold and no database."""
    return None if text is None else text.encode(errors="backslashreplace").decode()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise JobError(_explain(error, path)) from error


def _explain(error: sqlite3.Error, path: Path) -> str:
    folder = path.parent.parent
    if getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
        return f"the disk of {folder} is full; make room, then repeat the command"
    if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
        return f"{folder} is in use by another process; wait for it, or use another output folder"
    return f"the ledger {path} cannot be used ({error}); restore it from a copy, or use another output folder"
