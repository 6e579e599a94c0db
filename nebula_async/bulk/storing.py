"""From whole parts in the spool to pictures in their places, and what the ledger says of them. It blocks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import define, evolve, field

from nebula_async.bulk.bucket import Bucket
from nebula_async.bulk.folder import Shelf
from nebula_async.bulk.metadata import Metadata, finish_row, provenance_in
from nebula_async.bulk.spool import PartWriter, Received, Spool
from nebula_async.bulk.states import Output
from nebula_async.images.provenance import Provenance, read_provenance, write_provenance

EMBEDDED = 1000
"""Parts from this index on hold the pictures of those before, with how they were made written into them."""


def _ignore(_path: str) -> None:
    """Nobody listens."""


@define(eq=False)
class Storing:
    """Puts pictures where they belong; with `is_told` how they were made is written into them first.

    In three steps, for many items at a time: `place`, then `settle` before the ledger is written, `tidy` after.
    """

    spool: Spool
    shelf: Shelf | Bucket
    metadata: Metadata
    is_told: bool
    on_stored: Callable[[str], None] = field(default=_ignore, init=False)
    """Told of the path of each picture once the ledger says where it is."""

    largest: int = field(default=0, init=False)
    is_untold: bool = field(default=False, init=False)
    """Whether the metadata lack what the ledger says, because they could not be written."""

    _embedded: dict[tuple[int, int], list[Path]] = field(factory=dict, init=False)
    _stored: list[tuple[int, int, Sequence[Received], Sequence[Output]]] = field(factory=list, init=False)

    def place(
        self, seq: int, n: int, name: str, draft: Mapping[str, Any], pictures: Mapping[int, Received]
    ) -> list[Output]:
        """Put the pictures of an item into their places, by their index; return what the ledger is to say of each.

        One that is at a URL has no place yet. Raises `OSError`; it may be called again for the same pictures.
        """
        return [
            self._at_url(seq, index, draft, picture)
            if picture.part is None
            else self._place(seq, n, index, name if index == 0 else f"{name}-{index}", draft, picture)
            for index, picture in pictures.items()
        ]

    def address(self, output: Output) -> str | None:
        """Return where results say that a picture is; `None` where it is at its URL still."""
        return None if output.path is None else self.shelf.address(output.path)

    def is_stored(self, seq: int, n: int, pictures: Sequence[Received], outputs: Sequence[Output]) -> None:
        """Note that the ledger is about to say so: its parts are not needed any more."""
        self._stored.append((seq, n, pictures, outputs))

    def settle(self) -> None:
        """Bring the names of what was placed to the disk. Raises `OSError`."""
        self._stored.clear()  # of a transaction that failed
        self.shelf.sync()

    def tidy(self) -> None:
        """Add what the ledger says now to the metadata, and remove its parts. Raises `OSError`."""
        stored, self._stored = self._stored, []
        rows = [output.row for *_, outputs in stored for output in outputs if output.path and output.row]
        if rows:
            self.is_untold = True
            self.metadata.add(rows)
            self.is_untold = False
        for path in [output.path for *_, outputs in stored for output in outputs if output.path]:
            self.on_stored(path)
        for seq, n, pictures, outputs in stored:
            told = self._embedded.pop((seq, n), ())
            self.spool.forget(seq, n, (*(picture.part for picture in pictures if picture.part), *told))
            if n > 1 and all(output.path for output in outputs):
                self.spool.forget_before(seq, n)

    def _at_url(self, seq: int, index: int, draft: Mapping[str, Any], picture: Received) -> Output:
        row = json.dumps(draft, allow_nan=False)
        return Output(seq=seq, index=index, url=picture.url, expires_at=picture.expires_at, row=row)

    def _place(self, seq: int, n: int, index: int, name: str, draft: Mapping[str, Any], picture: Received) -> Output:
        self.largest = max(self.largest, picture.bytes)
        told = self._told(seq, n, index, draft, picture)
        path = self.shelf.place(told, name)
        return Output(
            seq=seq, index=index, path=path, sha256=told.sha256, bytes=told.bytes, media_type=told.media_type,
            row=finish_row(draft, path.removeprefix("images/"), picture), url=picture.url,
        )  # fmt: skip

    def _told(self, seq: int, n: int, index: int, draft: Mapping[str, Any], picture: Received) -> Received:
        """Return the part to be stored: one that says how the picture was made, where that is wanted and has a place.

        What a run that was killed had begun to store stays as it was begun: it may be in its place already.
        """
        part = self.spool.part(seq, n, EMBEDDED + index)
        if (told := _told_before(part, picture)) is not None:
            self.spool.keep(part)
            self._embedded.setdefault((seq, n), []).append(part)
            return told
        if not self.is_told or picture.part is None or picture.part.stat().st_nlink > 1:
            return picture
        with suppress(ValueError):  # what was paid for is stored all the same
            made = Provenance.from_json(provenance_in(draft, picture.sha256))
            data = write_provenance(picture.part.read_bytes(), made)
            writer = PartWriter(part, self.spool.is_synced)
            part.unlink(missing_ok=True)  # of a run that was killed here
            writer.write([data])
            self._embedded.setdefault((seq, n), []).append(part)
            return evolve(picture, part=part, sha256=writer.finish(), bytes=len(data))
        return picture


def _told_before(part: Path, picture: Received) -> Received | None:
    """Return the part that a run made which was killed. It may be stored already, and it knew more of the reply: made
    anew it would be another picture.
    """
    if not os.path.lexists(part):  # as for nearly all
        return None
    with suppress(OSError, ValueError):
        data = part.read_bytes()
        made = read_provenance(data)
        if made is not None and made.sha256 == picture.sha256:
            return evolve(picture, part=part, sha256=sha256(data).hexdigest(), bytes=len(data))
    return None
