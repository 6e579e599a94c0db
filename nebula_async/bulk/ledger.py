"""What a job knows of each item: a SQLite file beside the pictures, written before a request leaves and after its
picture is stored.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field

from nebula_async.bulk.ledger_file import Durability, Explained, open_file, open_to_read
from nebula_async.bulk.ledger_rows import ATTEMPT, OUTPUT, ROW, UNFINISHED, as_attempt, as_output, as_row, storable
from nebula_async.bulk.states import GOES_TO, Attempt, NewItem, Output, Row, State
from nebula_async.charges import Charges
from nebula_async.errors import JobError

PICTURES_AT_PRICES = """
    SELECT price, iif(is_replayed, max(at_most), sum(at_most)) AS pictures FROM attempt
        GROUP BY seq, call_key, is_replayed, price
    UNION ALL SELECT price, at_stake FROM item JOIN attempt USING (seq) WHERE at_stake > 0 AND n = sends"""
"""What attempts may have been charged, those under one replayed key once, and what is at stake."""

COMMITS = "commits"
"""Under this name is noted how often a ledger was written to by the runs of its job."""


@define(eq=False)
class Ledger:
    """The items of one job. It has one writer; its methods block, are called one after the other, and raise `JobError`
    where the file fails them. Each is a transaction of its own, unless several stand in `with ledger.together()`.
    """

    path: Path
    _connection: sqlite3.Connection = field(alias="connection")

    @classmethod
    def open(cls, path: Path, durability: Durability = "power") -> Ledger:
        """Open a ledger for writing, or make one. With durability "power" what is written survives a power cut, with
        "process" only the end of this process. Raises `JobError` for what is no ledger, or a damaged one.
        """
        return cls(path, open_file(path, durability))

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Open a ledger for reading, also while a job runs. Raises `JobError` where there is none."""
        return cls(path, open_to_read(path))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make one transaction of what is written inside: all of it, or nothing. One inside another is part of it."""
        if self._connection.in_transaction:
            yield
            return
        self._write("BEGIN")
        try:
            yield
            self._write("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise

    def fact(self, name: str) -> str | None:
        """Return what is noted of the job under a name."""
        found = self._read("SELECT value FROM meta WHERE key = ?", name)
        return found[0][0] if found else None

    def note(self, name: str, value: str) -> None:
        """Note something of the job."""
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)

    def tell(self, at: float, kind: str, detail: str | None = None) -> None:
        """Append to what happened, at a Unix time."""
        self._write("INSERT INTO event VALUES (?, ?, ?)", at, kind, storable(detail))

    def find(self, key: str) -> Row | None:
        """Return the row of an item."""
        found = self._read(f"{ROW} WHERE key = ?", key)
        return as_row(*found[0]) if found else None

    def state(self, key: str) -> State:
        """Return where an item stands."""
        found = self._read("SELECT state FROM item WHERE key = ?", key)
        return State(found[0][0]) if found else State.PENDING

    def places(self) -> Iterator[tuple[int, str, int]]:
        """Yield `seq`, path and size of all pictures that are stored."""
        yield from self.select("SELECT seq, path, bytes FROM output WHERE path IS NOT NULL")

    def rows(self, *states: State) -> Iterator[Row]:
        """Yield the items in these states, also those that are asked for no more, in the order of `seq`."""
        marks = ", ".join("?" * len(states))
        return (as_row(*values) for values in self.select(f"{ROW} WHERE state IN ({marks}) ORDER BY seq", *states))

    def unfinished(self) -> Iterator[Row]:
        """Yield the items that are asked for, were sent, and are not done."""
        return (as_row(*values) for values in self.select(f"{ROW} WHERE {UNFINISHED} ORDER BY seq"))

    def unfetched(self) -> list[Row]:
        """Return the items whose pictures are still at URLs, those first whose URLs expire first."""
        first = "SELECT min(expires_at) FROM output WHERE output.seq = item.seq AND path IS NULL"
        return [as_row(*values) for values in self._read(f"{ROW} WHERE state = 'urls' ORDER BY ({first}), seq")]

    def outputs(self, seq: int | None = None) -> Iterator[Output]:
        """Yield the pictures of one item, or all that are stored, in the order of `seq` and index."""
        which = "WHERE path IS NOT NULL" if seq is None else "WHERE seq = ?"
        given = () if seq is None else (seq,)
        return (as_output(*values) for values in self.select(f"{OUTPUT} {which} ORDER BY seq, idx", *given))

    def attempts(self, seq: int) -> list[Attempt]:
        """Return all attempts that were made for an item."""
        return [as_attempt(*values) for values in self._read(f"{ATTEMPT} WHERE seq = ? ORDER BY n", seq)]

    def is_empty(self) -> bool:
        """Whether nothing was ever sent."""
        return not self._read("SELECT 1 FROM item LIMIT 1")

    def counts(self) -> Counter[State]:
        """Return how many of the items that are asked for are in each state."""
        found = self._read("SELECT state, count(*) FROM item WHERE listed GROUP BY state")
        return Counter({State(state): number for state, number in found})

    def unlisted(self) -> int:
        """Return how many items were sent and are asked for no more."""
        return int(self._read("SELECT count(*) FROM item WHERE NOT listed")[0][0])

    def pictures(self) -> int:
        """Return how many pictures are stored."""
        return int(self._read("SELECT count(*) FROM output WHERE path IS NOT NULL")[0][0])

    def charges(self) -> Charges:
        """Return what all attempts ever made for the job may have been charged."""
        sums = "SELECT coalesce(sum(at_least), 0), coalesce(sum(at_most + at_stake), 0) FROM item"
        return Charges(*self._read(sums)[0])

    def priced(self) -> list[tuple[str | None, int]]:
        """Return for each price of a picture (`None`: not known) how many may have been charged at it."""
        return self._read(f"SELECT price, sum(pictures) FROM ({PICTURES_AT_PRICES}) GROUP BY price")  # noqa: S608

    def sends(self) -> int:
        """Return how many requests were ever sent: attempts that ended without a connection are none."""
        return int(self._read("SELECT count(*) FROM attempt WHERE verdict IS NOT 'not sent'")[0][0])

    def refusals(self) -> int:
        """Return how many requests were refused as one too many."""
        return int(self._read("SELECT count(*) FROM attempt WHERE verdict = 'throttled'")[0][0])

    def paid_twice(self) -> int:
        """Return how many pictures may have been paid for beyond those that were asked for, at most."""
        sums = "SELECT coalesce(sum(max(at_most + at_stake - asked, 0)), 0) FROM item"
        return int(self._read(sums)[0][0])

    def duplicates(self) -> int:
        """Return how many pictures were asked for once more because nobody knew whether they were paid for."""
        return int(self._read("SELECT coalesce(sum(duplicates), 0) FROM item")[0][0])

    def unlist(self) -> None:
        """Count no item any more, until it is listed."""
        self._write("UPDATE item SET listed = 0")

    def set_listed(self, key: str, *, is_listed: bool) -> None:
        """Count an item from now on, or no longer."""
        self._write("UPDATE item SET listed = ? WHERE key = ?", is_listed, key)

    def add(self, item: NewItem) -> Row:
        """Return the row of an item, made where there is none, pending: its `seq` is its number, where that is free."""
        if (row := self.find(item.key)) is not None:
            return row
        is_taken = self._read("SELECT 1 FROM item WHERE seq = ?", item.number)
        last = "SELECT max(coalesce(max(seq) + 1, 0), ?) FROM item"
        seq = self._read(last, item.beyond)[0][0] if is_taken else item.number
        name, sha = item.name(seq), item.body_sha
        self._write(
            "INSERT INTO item (seq, key, body_sha, state, asked, name, request) VALUES (?, ?, ?, ?, ?, ?, ?)",
            seq, item.key, sha, State.PENDING, item.asked, name, item.request,
        )  # fmt: skip
        return Row(seq, item.key, sha, State.PENDING, 0, 0, 0, 0, item.asked, Charges(), 0, name, item.request)

    def sending(self, seq: int, call_key: str, *, at: float, is_replayed: bool, price: str | None = None) -> int:
        """Note, before anything leaves, that an attempt is about to, at USD for a picture; return its number, from 1
        over all runs.
        """
        change = "UPDATE item SET sends = sends + 1, at_stake = asked WHERE seq = ? RETURNING sends"
        insert = "INSERT INTO attempt (seq, n, call_key, is_replayed, price, sent_at) VALUES (?, ?, ?, ?, ?, ?)"
        with self.together():
            self.move(seq, State.SENT)
            n = int(self._write(change, seq)[0][0])
            self._write(insert, seq, n, call_key, is_replayed, price, at)
        return n

    def resending(self, seq: int, duplicates: int) -> None:
        """Note that an item will be sent once more although it may have been paid for; so many of its pictures come out
        of the duplicate-spend budget.
        """
        self._write("UPDATE item SET resends = resends + 1, duplicates = duplicates + ? WHERE seq = ?", duplicates, seq)

    def ended(
        self, seq: int, n: int, verdict: str, charges: Charges, *, at: float,
        request_id: str | None = None, error: str | None = None, cause: str | None = None, seconds: float | None = None,
    ) -> None:  # fmt: skip
        """Note what became of an attempt, what it may have been charged, and the seconds from its leaving to its end,
        where these are known.
        """
        with self.together():
            self._write(
                "UPDATE attempt SET ended_at = ?, verdict = ?, at_least = ?, at_most = ?, request_id = ?, error = ?,"
                " cause = ?, seconds = ? WHERE seq = ? AND n = ?",
                at, verdict, charges.at_least, charges.at_most, storable(request_id), storable(error),
                storable(cause), seconds, seq, n,
            )  # fmt: skip
            sums = self._charges_of(seq)
            change = "UPDATE item SET at_least = ?, at_most = ?, at_stake = 0 WHERE seq = ?"
            self._write(change, sums.at_least, sums.at_most, seq)

    def move(self, seq: int, state: State, *, error: str | None = None, cause: str | None = None) -> None:
        """Let an item go to another state, because of an error if one says why; errors are grouped by their cause.

        Raises `JobError` where it cannot come there from the one it is in.
        """
        before = self._read("SELECT state FROM item WHERE seq = ?", seq)
        can_go = bool(before) and (state == before[0][0] or state in GOES_TO[State(before[0][0])])
        change = "UPDATE item SET state = ?, error = ?, cause = ? WHERE seq = ? AND state = ? RETURNING 1"
        if not (can_go and self._write(change, state, storable(error), storable(cause), seq, before[0][0])):
            raise JobError(f"item {seq} cannot become {state} from where it stands; was {self.path} changed by hand?")

    def store(self, outputs: Iterable[Output]) -> None:
        """Note pictures, in place of what was noted of them before."""
        with self.together():
            for output in outputs:
                self._write(
                    "INSERT OR REPLACE INTO output VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    output.seq, output.index, output.path, output.sha256, output.bytes, output.media_type,
                    storable(output.row), storable(output.url), output.expires_at,
                )  # fmt: skip

    def next_index(self, seq: int) -> int:
        """Return the index after those of all pictures of an item: one bought anew takes nobody's place."""
        return int(self._read("SELECT coalesce(max(idx) + 1, 0) FROM output WHERE seq = ?", seq)[0][0])

    def forget(self, path: str) -> None:
        """Forget a picture: it is there no more."""
        self._write("DELETE FROM output WHERE path = ?", path)

    def put_back(self, *states: State, is_anew: bool) -> None:
        """Let those items that are asked for and in these states be sent again; `is_anew`: as a new purchase, under
        another key, that waits for nothing at a URL any more.
        """
        lost = "DELETE FROM output WHERE path IS NULL AND seq IN (SELECT seq FROM item WHERE state = ? AND listed)"
        change = (
            "UPDATE item SET state = 'pending', resends = 0, epoch = epoch + ?, error = NULL, cause = NULL"
            " WHERE state = ? AND listed"
        )
        for state in states:
            if is_anew:
                self._write(lost, state)
            self._write(change, is_anew, state)

    def _charges_of(self, seq: int) -> Charges:
        """Return what all attempts for an item may have been charged; those under one replayed key count once."""
        sums = (
            "SELECT iif(is_replayed, max(at_least), sum(at_least)), iif(is_replayed, max(at_most), sum(at_most))"
            " FROM attempt WHERE seq = ? GROUP BY call_key, is_replayed"
        )
        return sum((Charges(*found) for found in self._read(sums, seq)), Charges())

    def _read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with Explained(self.path):
            return self._connection.execute(statement, values).fetchall()  # type: ignore[arg-type, unused-ignore]

    _write = _read

    def select(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Yield what a query finds, for those who look at many rows in their own way."""
        with Explained(self.path):
            yield from self._connection.execute(statement, values)  # type: ignore[arg-type, unused-ignore]
