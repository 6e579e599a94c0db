"""A ledger and what it has to say, written together; the process that writes may be killed anywhere."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field
from ledger_model import Item, Try, free_seq

from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.ledger_file import Durability
from nebula_async.bulk.states import Output, State
from nebula_async.charges import Charges

Fate = tuple[str | None, float]
"""What becomes of a transaction: nothing special (`None`), something beside it fails ("raised"), or the process is
killed "behind" it, or "inside": so large a part of it was written.
"""

NO_FATE: Fate = (None, 0.0)


class Broken(Exception):  # noqa: N818 - a sign
    """Something fails within a transaction."""


def _fail_if(is_broken: bool) -> None:
    if is_broken:
        raise Broken


@define(eq=False)
class Twin:
    """A ledger, in a folder of its own for each life of the process, and its items by their keys."""

    folder: Path
    durability: Durability
    items: dict[str, Item] = field(factory=dict)
    lives: int = 0
    ledger: Ledger = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ledger = self._open()

    def those(self, *states: State) -> list[Item]:
        """Return the items in these states."""
        return [item for item in self.items.values() if item.state in states]

    @contextmanager
    def transaction(self, fate: Fate) -> Iterator[None]:
        """Make one transaction of what is written inside, which meets its fate."""
        how, share = fate
        before, written = copy.deepcopy(self.items), self._log_bytes()
        try:
            with self.ledger.together():
                yield
                _fail_if(how == "raised")
        except Broken:
            self.items = before
        if how == "behind":
            self.restart(is_killed=True)
        elif how == "inside" and self._log_bytes() > written:
            self.items = before
            self.restart(is_killed=True, log_bytes=written + int(share * (self._log_bytes() - written)))

    def restart(self, *, is_killed: bool, log_bytes: int | None = None) -> None:
        """End this process' part, and open the ledger as the next one does.

        Of one that is killed the files are taken as they lie there, its log perhaps only up to some byte.
        """
        old = self.ledger
        if not is_killed:
            old.close()
        files = {path.name: path.read_bytes() for path in old.path.parent.iterdir() if not path.name.endswith("-shm")}
        old.close()
        self.lives += 1
        self._path.parent.mkdir(parents=True)
        for name, data in files.items():
            whole = data if log_bytes is None or not name.endswith("-wal") else data[:log_bytes]
            (self._path.parent / name).write_bytes(whole)
        shutil.rmtree(old.path.parent)
        self.ledger = self._open()

    def add(self, key: str, number: int, asked: int, price: str | None) -> Item:
        """Add an item, unless it is there."""
        if key not in self.items:
            self.items[key] = Item(key, free_seq(self.items, number), asked, price)
        item = self.items[key]
        assert item.row() == self.ledger.add(item.new(number))
        return item

    def send(self, item: Item, *, is_replayed: bool) -> None:
        """Begin an attempt."""
        n = len(item.tries) + 1
        assert n == self.ledger.sending(item.seq, item.call_key, at=float(n), is_replayed=is_replayed, price=item.price)
        item.tries.append(Try(item.call_key, is_replayed))
        item.state, item.error = State.SENT, None

    def resend(self, item: Item) -> None:
        """Say that an item will be sent once more although it may have been paid for."""
        self.ledger.resending(item.seq, item.asked)
        item.resends, item.duplicates = item.resends + 1, item.duplicates + item.asked

    def end(self, item: Item, verdict: str, charges: Charges) -> None:
        """Say how the last attempt ended, perhaps anew."""
        n = len(item.tries)
        self.ledger.ended(item.seq, n, verdict, charges, at=n + 0.5)
        item.tries[-1].charges, item.tries[-1].verdict = charges, verdict

    def move(self, item: Item, state: State, *, error: str | None = None) -> None:
        """Bring an item to another state."""
        self.ledger.move(item.seq, state, error=error)
        item.state = state
        item.error = None if error is None else error.encode(errors="backslashreplace").decode()

    def store(self, item: Item, indices: Iterable[int], *, path: bool) -> None:
        """Note pictures of an item, with their places or only their URLs."""
        for index in indices:
            place = f"images/00000/{item.seq:09}-{index}.png" if path else None
            url, expires_at = (None, None) if path else (f"https://storage.example/{item.seq}/{index}", 3600.5)
            output = Output(
                seq=item.seq, index=index, path=place, sha256=place and "0" * 64, bytes=place and 7,
                media_type=place and "image/png", row=place and "{}", url=url, expires_at=expires_at,
            )  # fmt: skip
            self.ledger.store([output])
            item.outputs[index] = output

    def put_back(self, *states: State, is_anew: bool) -> None:
        """Let the items in these states be sent again."""
        self.ledger.put_back(*states, is_anew=is_anew)
        for item in filter(lambda item: item.is_listed, self.those(*states)):
            item.state, item.resends, item.epoch, item.error = State.PENDING, 0, item.epoch + is_anew, None
            if is_anew:
                item.outputs = {index: output for index, output in item.outputs.items() if output.path is not None}

    def list_only(self, found: Mapping[str, bool]) -> None:
        """Count those of the items found that are selected, and no others."""
        self.ledger.unlist()
        for key, is_listed in found.items():
            self.ledger.set_listed(key, is_listed=is_listed)
        for item in self.items.values():
            item.is_listed = found.get(item.key, False)

    def forget(self, item: Item) -> None:
        """Forget the pictures of an item."""
        for output in item.outputs.values():
            self.ledger.forget(output.path)
        item.outputs.clear()

    @property
    def _path(self) -> Path:
        return self.folder / str(self.lives) / ".nebula" / "ledger.db"

    def _open(self) -> Ledger:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return Ledger.open(self._path, self.durability)

    def _log_bytes(self) -> int:
        log = self.ledger.path.with_name("ledger.db-wal")
        return log.stat().st_size if log.exists() else 0
