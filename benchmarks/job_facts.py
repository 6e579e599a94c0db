"""What a job's folder says of each item, to be held against what the server billed for it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from attrs import frozen

ITEMS = "SELECT seq, key, state, at_least, at_most + at_stake, duplicates, error FROM item"
ATTEMPTS = "SELECT seq FROM attempt WHERE verdict IS NULL OR at_most > 0"
OUTPUTS = "SELECT path, sha256 FROM output WHERE path IS NOT NULL"


@frozen
class Fact:
    """An item as the ledger has it; `duplicates` were bought again unasked."""

    seq: int
    key: str
    state: str
    at_least: int
    at_most: int
    duplicates: int
    error: str | None


@frozen
class JobFacts:
    """What lies in a job's folder: items by key, how many attempts of each may have cost something, by `seq`, digests
    of its pictures by path, and the causes in failed.jsonl by key.
    """

    out: Path
    items: Mapping[str, Fact]
    paying: Counter[int]
    digests: Mapping[str, str]
    causes: Mapping[str, str]
    found: Mapping[str, str]

    @property
    def states(self) -> Counter[str]:
        """How many items are in each state."""
        return Counter(fact.state for fact in self.items.values())

    @property
    def at_most(self) -> int:
        """How many pictures may have been billed."""
        return sum(fact.at_most for fact in self.items.values())

    @property
    def duplicates(self) -> int:
        """How many pictures were bought again unasked."""
        return sum(fact.duplicates for fact in self.items.values())

    @property
    def files(self) -> int:
        """How many pictures lie in the folder."""
        return len(self.found)

    def is_done(self, key: str) -> bool:
        """Whether an item is stored."""
        return key in self.items and self.items[key].state == "done"

    def lost(self, keys: Iterable[str]) -> list[str]:
        """Return the items that are not stored, and of which failed.jsonl or the ledger does not say why."""
        return [key for key in keys if not self.is_done(key) and not (self.causes.get(key) and self._has_error(key))]

    def misjudged(self, charged: Mapping[str, int]) -> list[str]:
        """Return the items of which the ledger says another price than was billed."""
        return [key for key, count in charged.items() if not self._covers(key, count)]

    def unlisted_extras(self, charged: Mapping[str, int]) -> list[str]:
        """Return the items billed more often than the ledger has attempts for them that may have cost something."""
        return [key for key, count in charged.items() if key in self.items and self.paying[self.items[key].seq] < count]

    def damaged(self) -> list[str]:
        """Return the files that are missing, not what the ledger says, or not known to it."""
        paths = sorted(self.digests.keys() | self.found.keys())
        return [path for path in paths if self.digests.get(path) != self.found.get(path)]

    def leftovers(self) -> list[str]:
        """Return what lies in the spool."""
        spool = self.out / ".nebula" / "spool"
        return sorted(path.name for path in spool.iterdir()) if spool.is_dir() else []

    def _has_error(self, key: str) -> bool:
        return key not in self.items or bool(self.items[key].error)

    def _covers(self, key: str, charged: int) -> bool:
        return key in self.items and self.items[key].at_least <= charged <= self.items[key].at_most


def read_job(out: Path) -> JobFacts:
    """Read the folder of a job that nobody runs."""
    with closing(sqlite3.connect(f"{(out / '.nebula' / 'ledger.db').as_uri()}?mode=ro", uri=True)) as ledger:
        facts = [Fact(*values) for values in ledger.execute(ITEMS)]
        paying = Counter(seq for (seq,) in ledger.execute(ATTEMPTS))
        digests = dict(ledger.execute(OUTPUTS).fetchall())
    found = {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("images/*/*")
    }
    return JobFacts(out, {fact.key: fact for fact in facts}, paying, digests, read_causes(out), found)


def read_causes(out: Path) -> dict[str, str]:
    """Return the cause that failed.jsonl gives for each item."""
    path = out / "failed.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return {entry["id"]: json.dumps(entry["failure"]) for entry in map(json.loads, lines) if entry.get("failure")}
