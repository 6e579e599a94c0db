"""Proves from the recorded system calls of a run that what has to be durable was, before what depends on it.

Each demand is: a file or folder is synced after one thing and before another. reliability.md 8.3 has the order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import frozen
from system_calls import LINKS, SYNCS, UNLINKS, Call

WRITES = ("write", "pwrite64", "ftruncate")
FOLDERS_MADE = ("mkdir", "mkdirat")
SENDS = ("sendto", "sendmsg", "write")
NEVER = 1 << 60


@frozen
class Demand:
    """A sync of `path` that has to begin after line `after` of the record and to be over before line `before`."""

    why: str
    item: str
    path: str
    after: int
    before: int

    def witnesses(self, calls: Iterable[Call]) -> list[Call]:
        """Return the syncs that satisfy it."""
        return [
            call
            for call in calls
            if call.name in SYNCS and call.result == 0 and call.place == self.path
            if self.after < call.begun and call.ended < self.before
        ]

    def __str__(self) -> str:
        return f"{self.path} is not synced {self.why} ({self.item})"


@frozen
class Record:
    """The calls of a run, the folder of its job, and the picture of each item, by its key."""

    calls: Sequence[Call]
    out: Path
    prompts: Mapping[str, str]
    pictures: Mapping[str, Path]

    @property
    def ledger(self) -> str:
        """The file that commits go to."""
        return str(self.out / ".nebula" / "ledger.db-wal")

    def first(self, names: Sequence[str], is_it: Callable[[Call], bool], *, after: int = -1) -> Call | None:
        """Return the first of such calls that worked."""
        found = (call for call in self.calls if call.name in names and call.result >= 0 and call.begun > after)
        return next(filter(is_it, found), None)


def unmet(record: Record) -> list[str]:
    """Return what was not durable when it had to be."""
    problems = [*_out_of_order(record)]
    return problems + [str(demand) for demand in demands(record) if not demand.witnesses(record.calls)]


def demands(record: Record) -> list[Demand]:
    """Return what has to be synced, and when."""
    return [*_folders(record), *(demand for key in record.pictures for demand in _of_item(record, key))]


def _of_item(record: Record, key: str) -> Iterator[Demand]:
    picture = record.pictures[key]
    sent = _line(_sent(record, key))
    link = record.first(LINKS, lambda call: str(picture) in call.paths)
    noted, told = _noted(record, key, before=sent), _told(record, picture)
    part = link.paths[0] if link else str(picture)
    written = _last(record, lambda call: call.name in WRITES and call.place == part)
    removed = record.first(UNLINKS, lambda call: part in call.paths)
    yield Demand("before its request leaves", key, record.ledger, noted, sent)
    yield Demand("before it is published", key, part, written, _line(link))
    yield Demand("after it is published, before the ledger tells", key, str(picture.parent), _end(link), _line(told))
    yield Demand("before its part is removed", key, record.ledger, _end(told), _line(removed))


def _folders(record: Record) -> Iterator[Demand]:
    """A folder that was made is in its parent for good before anything in it counts."""
    posts = [_line(_sent(record, key)) for key in record.prompts]
    for call in record.calls:
        if call.name not in FOLDERS_MADE or call.result != 0:
            continue
        made = Path(call.paths[0])
        if made.is_relative_to(record.out / "images") and made != record.out / "images":
            told = [_line(_told(record, path)) for path in record.pictures.values() if path.parent == made]
            yield Demand(
                "before the ledger tells of a picture in it", made.name, str(made.parent), call.ended, min(told)
            )
        elif made.is_relative_to(record.out):
            yield Demand("before the first request", made.name, str(made.parent), call.ended, min(posts))


def _out_of_order(record: Record) -> Iterator[str]:
    """What no sync can mend: a request, a picture or a removal that came before what has to come before it."""
    for key, picture in record.pictures.items():
        sent, told = _sent(record, key), _told(record, picture)
        link = record.first(LINKS, lambda call, picture=picture: str(picture) in call.paths)
        if sent is None or link is None or told is None:
            yield f"{key} was not sent, not linked or not told to the ledger, as far as the record shows"
        elif not sent.ended < link.begun <= link.ended < told.begun:
            yield f"{key} was not sent, linked and told to the ledger in this order"


def _sent(record: Record, key: str) -> Call | None:
    """Return the call by which the first byte of an item's request leaves."""
    prompt = record.prompts[key]
    body = record.first(SENDS, lambda call: f'\\"{prompt}\\"' in call.text and "<socket:" in call.text)
    heads = [call for call in record.calls if body and call.place == body.place and '"POST ' in call.text]
    return max((head for head in heads if body and head.begun <= body.begun), key=lambda call: call.begun, default=None)


def _noted(record: Record, key: str, *, before: int) -> int:
    """Return the end of the first write to the ledger that tells of an item, which is where its sending is noted."""
    noted = record.first(WRITES, lambda call: call.place == record.ledger and key in call.text)
    return noted.ended if noted and noted.ended < before else NEVER


def _told(record: Record, picture: Path) -> Call | None:
    """Return the first write to the ledger that holds a picture's digest."""
    digest = hashlib.sha256(picture.read_bytes()).hexdigest()
    return record.first(WRITES, lambda call: call.place == record.ledger and digest in call.text)


def _last(record: Record, is_it: Callable[[Call], bool]) -> int:
    return max((call.ended for call in record.calls if is_it(call)), default=NEVER)


def _line(call: Call | None) -> int:
    return -1 if call is None else call.begun


def _end(call: Call | None) -> int:
    return NEVER if call is None else call.ended
