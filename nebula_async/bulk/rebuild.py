"""A new ledger for a job whose own is damaged or gone: of what can still be read of it, and of the pictures."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

from attrs import define, frozen

from nebula_async.bulk.bucket import STORE, check_here
from nebula_async.bulk.causes import UNTRACED
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger_copy import copy_readable
from nebula_async.bulk.ledger_file import Explained, open_file
from nebula_async.bulk.lock import JobLock
from nebula_async.bulk.metadata import LONGEST_LINE, Metadata
from nebula_async.bulk.shares import amount
from nebula_async.bulk.spool import NAME, sync_folder
from nebula_async.bulk.worker import ANSWERED
from nebula_async.errors import JobError
from nebula_async.images.media import read_media

NEW = "ledger.db.new"
ENDINGS = ("", "-wal", "-shm")
"""Of the files that SQLite makes of one database."""

MOST = 2**31
"""No job has more items, nor an item more pictures; and the database takes larger numbers."""

NEEDED = {"key": str, "number": int, "file_name": str, "body_sha256": str}
WELCOME = {"cost": str, "charges_at_least": int, "charges_at_most": int}
"""What a row of the metadata has to say, and what may be missing from it."""


@frozen(kw_only=True)
class Rebuilt:
    """What a new ledger was made of: items that the old one still told of, and those `found` by their pictures.

    `unclear` of the items may have been paid for, `undescribed` pictures have no row in the metadata, so they are of no
    item; `unowned` files were received for items of which nothing is known any more, and are in the folder `recovered`.
    """

    read: int
    found: int
    unclear: int
    undescribed: int
    unowned: int


def rebuild(folder: JobFolder) -> Rebuilt:
    """Make the ledger of a job anew, and put the old one aside as `ledger.db.old`; it blocks, and reads all pictures.

    Raises `JobError` for a folder that is no job's, or in use. It may be killed anywhere, and be run again.
    """
    if not folder.state.is_dir():
        raise JobError(
            f"{folder.path} is not the folder of a job: there is no {folder.state.name} in it; give what bulk had as"
            " --out, or as --job"
        )
    lock = JobLock.take(folder.lock)
    try:
        made = folder.state / NEW
        _remove(made)
        with closing(open_file(made, "power")) as connection, Explained(made):
            rebuilt = _Rebuilding(folder, connection).run()
        lock.committed(0)  # the new one has not been written to by a run
        _put_in_place(folder, made)
        lock.closed()
        return rebuilt
    finally:
        _remove(folder.state / NEW)
        lock.release()


def _remove(made: Path) -> None:
    for ending in ENDINGS:
        made.with_name(made.name + ending).unlink(missing_ok=True)


def _put_in_place(folder: JobFolder, made: Path) -> None:
    for ending in ENDINGS:
        old = folder.ledger.with_name(folder.ledger.name + ending)
        with suppress(FileNotFoundError):
            old.replace(folder.state / f"ledger.db.old{ending}")
    made.replace(folder.ledger)
    sync_folder(folder.state)


@define(eq=False)
class _Rebuilding:
    """One transaction: the new ledger has all of it or nothing."""

    folder: JobFolder
    connection: sqlite3.Connection

    def run(self) -> Rebuilt:
        self.connection.execute("BEGIN")
        read = copy_readable(self.folder.ledger, self.connection)
        store = self.connection.execute("SELECT value FROM meta WHERE key = ?", (STORE,)).fetchone()
        check_here(store and store[0], self.folder)
        found = sum(self._add(row) for row in self._rows())
        self.connection.execute(
            "UPDATE item SET state = 'bad', error = 'the picture was stored, and nothing tells where', cause = ?"
            " WHERE state = 'done' AND seq NOT IN (SELECT seq FROM output)",
            (UNTRACED,),
        )
        self.connection.execute("COMMIT")
        return Rebuilt(
            read=read,
            found=found,
            unclear=self._count("state IN ('sent', 'unknown')"),
            undescribed=self._count_undescribed(),
            unowned=self._save_unowned(),
        )

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the metadata whose pictures are there and whole."""
        path = Metadata(self.folder.images).path
        with suppress(FileNotFoundError), path.open("rb") as file:
            for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                row = _parsed(line)
                if row is not None and _is_whole(self.folder.images / row["file_name"]):
                    yield row

    def _add(self, row: Mapping[str, Any]) -> int:
        """Add a picture, unless the ledger knows it; return whether its item is new with it."""
        path = f"images/{row['file_name']}"
        if self.connection.execute("SELECT 1 FROM output WHERE path = ?", (path,)).fetchone():
            return 0
        known = self.connection.execute("SELECT seq FROM item WHERE key = ?", (row["key"],)).fetchone()
        seq = self._add_item(row, path) if known is None else known[0]
        self._add_output(seq, row, path)
        return int(known is None)

    def _add_item(self, row: Mapping[str, Any], path: str) -> int:
        request = row["provenance"]["request"]
        taken = self.connection.execute("SELECT 1 FROM item WHERE seq = ?", (row["number"],)).fetchone()
        seq = self.connection.execute("SELECT max(seq) + 1 FROM item").fetchone()[0] if taken else row["number"]
        asked = _pictures_of(request)
        least, most = row["charges_at_least"] or 1, row["charges_at_most"] or asked
        self.connection.execute(
            "INSERT INTO item (seq, key, body_sha, state, sends, asked, at_least, at_most, name, request)"
            " VALUES (?, ?, ?, 'done', 1, ?, ?, ?, ?, ?)",
            (
                seq, row["key"], row["body_sha256"], asked, least, most,
                path.rpartition(".")[0], json.dumps(request),
            ),
        )  # fmt: skip
        self.connection.execute(
            "INSERT INTO attempt (seq, n, call_key, is_replayed, price, sent_at, ended_at, verdict, at_least, at_most)"
            " VALUES (?, 1, '', 0, ?, ?, ?, ?, ?, ?)",
            (seq, row["cost"], _made_at(row), time.time(), ANSWERED, least, most),
        )
        return int(seq)

    def _add_output(self, seq: int, row: Mapping[str, Any], path: str) -> None:
        last = self.connection.execute("SELECT coalesce(max(idx), -1) FROM output WHERE seq = ?", (seq,)).fetchone()[0]
        picture = (self.folder.path / path).read_bytes()
        line = json.dumps({**row, "provenance": json.dumps(row["provenance"], ensure_ascii=False)}, allow_nan=False)
        self.connection.execute(
            "INSERT INTO output (seq, idx, path, sha256, bytes, media_type, row) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (seq, last + 1, path, sha256(picture).hexdigest(), len(picture), read_media(picture).media_type, line),
        )

    def _count(self, which: str) -> int:
        return int(self.connection.execute(f"SELECT count(*) FROM item WHERE {which}").fetchone()[0])  # noqa: S608

    def _count_undescribed(self) -> int:
        known = "SELECT 1 FROM output WHERE path = ?"
        pictures = (path.relative_to(self.folder.path).as_posix() for path in self.folder.images.glob("[0-9]*/[0-9]*"))
        return sum(self.connection.execute(known, (path,)).fetchone() is None for path in pictures)

    def _save_unowned(self) -> int:
        """Keep what was received for items that the ledger does not know: it is paid for."""
        kept = self.folder.path / "recovered"
        saved = 0
        for path in sorted(self.folder.spool.glob("*.part")) if self.folder.spool.is_dir() else ():
            owner = NAME.fullmatch(path.name)
            if owner is None or self._count(f"seq = {int(owner['seq'])}") or not _is_whole(path):
                continue
            kept.mkdir(exist_ok=True)
            extension = read_media(path.read_bytes()).extension
            os.link(path, kept / f"{path.stem}{extension}")
            path.unlink()
            saved += 1
        return saved


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return a row of the metadata with all that an item is made of, `None` for any other line."""
    try:
        row = json.loads(line, parse_constant=_refuse)
        row["provenance"] = json.loads(row["provenance"], parse_constant=_refuse)
        row["key"].encode()  # a lone surrogate fits into no database
        row |= {name: None for name, kind in WELCOME.items() if not _fits(kind, row.get(name))}
        row["cost"] = row["cost"] if amount(row["cost"]) is not None else None
        is_whole = all(_fits(kind, row[name]) for name, kind in NEEDED.items())
        is_inside = not Path(row["file_name"]).is_absolute() and ".." not in Path(row["file_name"]).parts
        return row if is_whole and is_inside and isinstance(row["provenance"]["request"], dict) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _fits(kind: type, value: object) -> bool:
    return type(value) is kind and (not isinstance(value, int) or 0 <= value <= MOST)


def _made_at(row: Mapping[str, Any]) -> float:
    """Return when a picture was made (Unix time), which is now where its row does not tell."""
    try:
        return datetime.fromisoformat(row["created"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return time.time()


def _pictures_of(request: Mapping[str, Any]) -> int:
    """Return how many pictures a request of either API asked for."""
    extra = request.get("extra")
    count = request.get("n") or (extra.get("num_images") if isinstance(extra, dict) else None)
    return count if isinstance(count, int) and _fits(int, count) and count else 1


def _is_whole(path: Path) -> bool:
    """Whether a file is there and is a complete picture."""
    try:
        read_media(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True
