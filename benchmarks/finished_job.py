"""A job that is nearly done, made in seconds: a few items by the job itself, all others in the likeness of one of them.

Each of the others gets what the job leaves of an item: rows of the ledger, its picture in its folder, its line of
metadata.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
from attrs import frozen
from canned import MODEL, write_prompts

from nebula_async.bulk.manifest.items import Item
from nebula_async.bulk.manifest.source import Source, open_source

REALLY_RUN = 20
STOPPED = 3
"""How a job ends whose budget is spent."""

TABLES = {
    "item": "SELECT * FROM item WHERE seq = ?",
    "attempt": "SELECT * FROM attempt WHERE seq = ?",
    "output": "SELECT * FROM output WHERE seq = ?",
}
Row = dict[str, Any]


@frozen
class Likeness:
    """What the job left of one item: its rows by table, its picture, and its number in them."""

    seq: int
    rows: dict[str, list[Row]]
    picture: bytes
    path: str

    def of(self, item: Item, body_sha: str) -> dict[str, list[Row]]:
        """Return the rows of another item."""
        own = {"seq": item.number, "key": item.key, "body_sha": body_sha}
        return {table: [self._changed(row, own) for row in rows] for table, rows in self.rows.items()}

    def path_of(self, seq: int) -> str:
        """Return where the picture of another item belongs."""
        return _renumbered(self.path, self.seq, seq)

    def _changed(self, row: Row, own: Row) -> Row:
        texts = {
            name: _renumbered(value, self.seq, own["seq"]) for name, value in row.items() if isinstance(value, str)
        }
        return row | texts | {name: value for name, value in own.items() if name in row}


def make_nearly_finished(folder: Path, items: int, begin: Callable[[Path, Path], int], *, left: int = 0) -> Path:
    """Make a job in `folder/out` of whose items only the last ones are left; return its manifest.

    `begin` is given both, runs the job in a process of its own until `REALLY_RUN` pictures are bought, and returns its
    exit code.
    """
    manifest = write_prompts(folder, items)
    if begin(manifest, folder / "out") != STOPPED:
        raise SystemExit("the job was to stop at its budget, and did not")
    source = anyio.run(open_manifest, manifest)
    fill(folder / "out", source, items - left)
    return manifest


async def open_manifest(manifest: Path) -> Source:
    """Return the items of a manifest, as the job has them."""
    return await open_source(manifest, spool=manifest, defaults={"model": MODEL}, columns={}, repeat=1)


def fill(out: Path, source: Source, until: int) -> None:
    """Let all items before this number be done."""
    with closing(sqlite3.connect(out / ".nebula" / "ledger.db")) as ledger:
        ledger.row_factory = sqlite3.Row
        likeness = read_likeness(ledger, out)
        done = {key for (key,) in ledger.execute("SELECT key FROM item")}
        missing = (item for item in source.items(lambda key: key not in done) if item.number < until)
        with (out / "images" / "metadata.jsonl").open("a") as metadata, ledger:
            for item in missing:
                rows = likeness.of(item, source.body_sha(item))
                add(ledger, rows)
                metadata.writelines(f"{row['row']}\n" for row in rows["output"])
                write_picture(out / likeness.path_of(item.number), likeness.picture)
            ledger.execute("UPDATE meta SET value = ? WHERE key = 'metadata_bytes'", (str(metadata.tell()),))


def read_likeness(ledger: sqlite3.Connection, out: Path) -> Likeness:
    """Return the last item that the job itself did."""
    (seq,) = ledger.execute("SELECT max(seq) FROM item WHERE state = 'done'").fetchone()
    rows = {table: [dict(row) for row in ledger.execute(query, (seq,))] for table, query in TABLES.items()}
    path = rows["output"][0]["path"]
    return Likeness(seq, rows, (out / path).read_bytes(), path)


def add(ledger: sqlite3.Connection, rows: dict[str, list[Row]]) -> None:
    """Write the rows of another item."""
    for table, of_table in rows.items():
        for row in of_table:
            marks = ", ".join("?" * len(row))
            ledger.execute(f"INSERT INTO {table} VALUES ({marks})", list(row.values()))  # noqa: S608 - our own names


def write_picture(path: Path, picture: bytes) -> None:
    """Write a picture where the job would have."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture)


def _renumbered(text: str, old: int, new: int) -> str:
    """Return the text with another number of the item in the names of its files and their folder."""
    return text.replace(f"{old // 1000:05}/{old:09}", f"{new // 1000:05}/{new:09}")
