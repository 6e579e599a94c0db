"""What holds of a job's folder and of what its server charged, however often the job was killed in between."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import frozen

from nebula_async.emulator import RequestRecord

STATES = {"pending", "sent", "urls", "done", "rejected", "bad", "expired", "unknown"}
UNDER_WAY = {"pending", "sent", "urls"}
SPOILT = {"bad", "expired", "unknown"}
"""States of items that are over and may leave something in the spool."""

LEFT_ALONE = {
    "images/metadata.jsonl", "report.json", "failed.jsonl",
    ".nebula/job.lock", ".nebula/ledger.db", ".nebula/ledger.db-wal", ".nebula/ledger.db-shm",
}  # fmt: skip


@frozen
class Item:
    """An item's row, with its attempts and outputs."""

    row: Mapping[str, Any]
    attempts: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]

    @property
    def at_least(self) -> int:
        """Pictures that were charged for, as far as the ledger is sure."""
        return int(self.row["at_least"])

    @property
    def at_most(self) -> int:
        """Pictures that may have been charged for."""
        return int(self.row["at_most"] + self.row["at_stake"])

    @property
    def stored(self) -> tuple[Mapping[str, Any], ...]:
        """Its pictures that have a file."""
        return tuple(output for output in self.outputs if output["path"] is not None)


@frozen
class Kept:
    """What a ledger holds, and what SQLite says of it."""

    integrity: str
    items: Mapping[str, Item]


@frozen
class Witness:
    """A job's folder, each item's key and prompt, and what the server wrote down of the requests."""

    out: Path
    prompts: Mapping[str, str]
    requests: tuple[RequestRecord, ...]
    kept: Kept

    @classmethod
    def called(cls, out: Path, prompts: Mapping[str, str], requests: Iterable[RequestRecord]) -> Witness:
        """Read the ledger of a job whose process is gone; nothing of the job is touched."""
        return cls(out, prompts, tuple(requests), read_ledger(out / ".nebula" / "ledger.db"))

    def requests_for(self, key: str) -> tuple[RequestRecord, ...]:
        """Return the requests that asked for an item."""
        return tuple(request for request in self.requests if request.prompt == self.prompts[key])

    def charged(self, key: str) -> int:
        """Return how many pictures were charged for an item."""
        return sum(request.images_charged for request in self.requests_for(key))

    @property
    def extra(self) -> int:
        """Pictures that were charged for and are not in the folder."""
        stored = sum(len(item.stored) for item in self.kept.items.values())
        return sum(request.images_charged for request in self.requests) - stored


def read_ledger(path: Path) -> Kept:
    """Read a copy: opening a ledger that was left in the middle would write to it."""
    with tempfile.TemporaryDirectory() as folder:
        for part in path.parent.glob(f"{path.name}*"):
            shutil.copy(part, folder)
        with closing(sqlite3.connect(Path(folder) / path.name)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                return _read(connection)
            except sqlite3.DatabaseError as error:
                return Kept(str(error), {})


def _read(connection: sqlite3.Connection) -> Kept:
    attempts, outputs = (_by_item(connection, table) for table in ("attempt", "output"))
    rows = connection.execute("SELECT * FROM item ORDER BY seq").fetchall()
    items = {
        row["key"]: Item(dict(row), tuple(attempts.get(row["seq"], ())), tuple(outputs.get(row["seq"], ())))
        for row in rows
    }
    return Kept(str(connection.execute("PRAGMA integrity_check").fetchone()[0]), items)


def _by_item(connection: sqlite3.Connection, table: str) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):  # noqa: S608 - two tables of our own
        found.setdefault(row["seq"], []).append(dict(row))
    return found


def violations(witness: Witness, *, is_over: bool = True) -> list[str]:
    """Return what does not hold; what must hold only after completion is looked at where the job `is_over`."""
    always: tuple[Rule, ...] = (_ledger_is_whole, _attempts_are_listed, _charges_are_within, _one_body_a_key)
    after: tuple[Rule, ...] = (
        _one_state_each, _all_are_over, _done_is_there, _files_have_owners, _sums_agree, _nothing_is_left, _told_beside
    )  # fmt: skip
    return [problem for rule in (always + after if is_over else always) for problem in rule(witness)]


Rule = Callable[[Witness], Iterator[str]]


def _ledger_is_whole(witness: Witness) -> Iterator[str]:
    if witness.kept.integrity != "ok":
        yield f"I8: the ledger is damaged: {witness.kept.integrity}"


def _attempts_are_listed(witness: Witness) -> Iterator[str]:
    """Whatever the server saw was in the ledger before it left."""
    for key in witness.prompts:
        seen = len(witness.requests_for(key))
        listed = len(witness.kept.items[key].attempts) if key in witness.kept.items else 0
        if seen > listed:
            yield f"W1: {key} was sent {seen} times, and {listed} attempts are listed"


def _charges_are_within(witness: Witness) -> Iterator[str]:
    for key in witness.prompts:
        charged, item = witness.charged(key), witness.kept.items.get(key)
        if item is None and charged:
            yield f"I4: {key} was charged {charged} times and is not in the ledger"
        if item is not None and not item.at_least <= charged <= item.at_most:
            yield f"I4: {key} was charged {charged} times, the ledger says {item.at_least} to {item.at_most}"


def _one_body_a_key(witness: Witness) -> Iterator[str]:
    for key in witness.prompts:
        bodies = {json.dumps(dict(request.fields), sort_keys=True) for request in witness.requests_for(key)}
        if len(bodies) > 1:
            yield f"I6: {key} was sent with {len(bodies)} bodies"


def _one_state_each(witness: Witness) -> Iterator[str]:
    for key, item in witness.kept.items.items():
        if item.row["state"] not in STATES or key not in witness.prompts:
            yield f"I1: {key} is {item.row['state']!r}"


def _all_are_over(witness: Witness) -> Iterator[str]:
    for key in witness.prompts:
        item = witness.kept.items.get(key)
        state = "not in the ledger" if item is None else item.row["state"]
        if item is None or state in UNDER_WAY or item.row["at_stake"]:
            yield f"I1: {key} is {state} after the job's end"


def _done_is_there(witness: Witness) -> Iterator[str]:
    for key, item in witness.kept.items.items():
        if item.row["state"] == "done" and not item.stored:
            yield f"I2: {key} is done without a picture"
        for output in item.stored:
            yield from _as_told(key, output, witness.out / output["path"])


def _as_told(key: str, output: Mapping[str, Any], path: Path) -> Iterator[str]:
    data = path.read_bytes() if path.is_file() else b""
    if (hashlib.sha256(data).hexdigest(), len(data)) != (output["sha256"], output["bytes"]):
        yield f"I2: {output['path']} of {key} is {'other bytes' if data else 'gone or empty'}"


def _files_have_owners(witness: Witness) -> Iterator[str]:
    owned = Counter(output["path"] for item in witness.kept.items.values() for output in item.stored)
    there = {path for path in files(witness.out) if path.startswith("images/")} - LEFT_ALONE
    yield from (f"I3: nobody owns {path}" for path in sorted(there - owned.keys()))
    yield from (f"I3: {path} has {owners} owners" for path, owners in owned.items() if owners > 1)


def _sums_agree(witness: Witness) -> Iterator[str]:
    for key, item in witness.kept.items.items():
        for name in ("at_least", "at_most"):
            told, summed = item.row[name], _sum(item.attempts, name)
            if told != summed:
                yield f"I4: {name} of {key} is {told}, that of its attempts {summed}"


def _sum(attempts: Iterable[Mapping[str, Any]], name: str) -> int:
    """Return what attempts cost together: those under one key that the server replays count once."""
    once: Counter[str] = Counter()
    for attempt in attempts:
        if attempt["is_replayed"]:
            once[attempt["call_key"]] = max(once[attempt["call_key"]], attempt[name])
        else:
            once[""] += attempt[name]
    return once.total()


def _nothing_is_left(witness: Witness) -> Iterator[str]:
    spoilt = {str(item.row["seq"]) for item in witness.kept.items.values() if item.row["state"] in SPOILT}
    for path in sorted(files(witness.out) - LEFT_ALONE):
        folder, name = path.rpartition("/")[::2]
        is_evidence = folder == ".nebula/spool" and name.partition(".")[0] in spoilt
        is_picture = path.startswith("images/") and not name.startswith(".") and not name.endswith(".part")
        if not (is_evidence or is_picture or path.startswith(".nebula/input.")):
            yield f"I7: {path} is left"


def _told_beside(witness: Witness) -> Iterator[str]:
    path = witness.out / "images" / "metadata.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    told = Counter(json.loads(line)["file_name"] for line in lines)
    stored = Counter(
        output["path"].removeprefix("images/") for item in witness.kept.items.values() for output in item.stored
    )
    if told != stored:
        yield f"metadata.jsonl tells of {sorted(told.elements())}, stored are {sorted(stored.elements())}"
    known = {output["row"].rstrip("\n") for item in witness.kept.items.values() for output in item.stored}
    yield from (
        f"metadata.jsonl has a row that is not the ledger's: {line[:80]}" for line in lines if line not in known
    )


def files(out: Path) -> set[str]:
    """Return the files of a folder, relative to it."""
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
