"""What a job finds when it starts: bad lines, changed lines, and calls that had not ended when a run was stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger, Row, State
from nebula_async.bulk.manifest import Item, check_manifest, read_manifest
from nebula_async.bulk.metadata import Metadata, PictureRow
from nebula_async.charges import Charges
from nebula_async.errors import JobError
from nebula_async.images.image import read_image
from nebula_async.images.provenance import Provenance, read_provenance
from nebula_async.results import describe_request

MOST_SHOWN = 20


@frozen
class Source:
    """Where a job's items come from: a manifest, and the parameters for what its lines leave out."""

    manifest: Path
    defaults: Mapping[str, Any] = field(factory=dict)

    def count(self) -> int:
        """Return how many items there are. Raises `JobError` that lists the bad lines."""
        total, bad = check_manifest(self.manifest, defaults=self.defaults)
        if bad:
            lines = "\n  ".join(str(line) for line in bad[:MOST_SHOWN])
            more = f"\n  … and {len(bad) - MOST_SHOWN} more" if len(bad) > MOST_SHOWN else ""
            head = f"{self.manifest} cannot be used, nothing was sent; lines to mend: {len(bad)}"
            raise JobError(f"{head}\n  {lines}{more}")
        return total

    def items(self) -> Iterator[Item]:
        """Yield the items. Raises `JobError` for a line that is bad, which none was when they were counted."""
        for entry in read_manifest(self.manifest, defaults=self.defaults):
            if not isinstance(entry, Item):
                raise JobError(f"{self.manifest} changed while the job ran: {entry}")
            yield entry

    def body_sha(self, item: Item) -> str:
        """Return the digest of what an item asks for, the same wherever the manifest's folder lies."""
        fields = item.request.to_dict()
        for name in ("image", "mask"):
            if _is_path(fields.get(name)):
                fields[name] = os.path.relpath(fields[name], self.manifest.parent)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


@frozen(kw_only=True)
class Recovery:
    """What became of the calls that had not ended when earlier runs were stopped.

    The pictures of `adopted` were stored. `sent_again` are: they may be paid for twice. `given_up` were sent again
    before; their outcome stays unknown until the user says so. `removed` items are in the manifest no more. The
    pictures of `gone` were stored, and are there no more.
    """

    adopted: int = 0
    sent_again: int = 0
    given_up: int = 0
    removed: int = 0
    gone: int = 0


def check_unchanged(source: Source, folder: JobFolder, ledger: Ledger, server: str) -> None:
    """Raise `JobError` for another server, and for items that are not what the ledger knows under their number."""
    known = ledger.server(server)
    if known != server:
        raise JobError(f"{folder.path} was begun with {known}, and this is {server}; use another output folder")
    if ledger.is_empty():
        if folder.holds_pictures():
            raise JobError(
                f"{folder.images} holds the pictures of a job, and their ledger {folder.ledger} is gone or empty;"
                " restore it, or use another output folder: all would be paid for again"
            )
        return
    lines = [str(item.line) for item in islice(_changed(source, ledger), MOST_SHOWN)]
    if lines:
        raise JobError(
            f"{folder.path} was begun with other input: line {', '.join(lines)} of {source.manifest.name}, or the"
            " options that fill it in, changed; restore them, or use another --out (lines may be added at the end)"
        )


def recover(folder: JobFolder, ledger: Ledger, *, total: int, resends: int) -> Recovery:
    """Settle every call that has not ended: adopt its picture, or let it be sent again, as often as `resends` says."""
    gone = [row for row in ledger.stored() if not (row.name and folder.is_there(row.name))]
    for row in gone:
        ledger.ended(row.number, State.BAD, Charges(), error="the picture was stored, and is gone or empty")
    states = Counter(_settle(row, folder, ledger, resends) for row in ledger.under_way())
    return Recovery(
        adopted=states[State.DONE],
        sent_again=states[State.PENDING],
        given_up=states[State.UNKNOWN],
        removed=ledger.count_beyond(total),
        gone=len(gone),
    )


def describe_stored(metadata: Metadata, source: Source, folder: JobFolder, ledger: Ledger) -> None:
    """Mend the metadata of a job, so that each item that is done has its rows: also one that was adopted just now.

    Of those it is not known what the reply said, nor a seed that was chosen, unless the picture itself says so. Raises
    `JobError` where the file cannot be written.
    """
    try:
        metadata.mend()
        if all(metadata.has(folder.file_name(row.name or "")) for row in ledger.stored()):
            return
        for item in source.items():
            row = ledger.find(item.number)
            if row is not None and row.state is State.DONE and row.name is not None:
                paths = folder.pictures_of(row.name, item.request.pictures)
                metadata.add(_rows([path for path in paths if not metadata.has(folder.file_name(path))], item, folder))
    except OSError as error:
        reason = error.strerror or str(error)
        raise JobError(f"{metadata.path} cannot be written: {reason}; make room, or move it away") from error


def _rows(paths: Iterable[str], item: Item, folder: JobFolder) -> Iterator[PictureRow]:
    for path in paths:
        with suppress(ValueError):  # what is no picture any more is not described
            data = (folder.path / path).read_bytes()
            image = evolve(read_image(data), provenance=_provenance(data, item))
            yield PictureRow(folder.file_name(path), image, item.number)


def _provenance(data: bytes, item: Item) -> Provenance:
    """Return what the picture says, if it is about this very request but for a seed that was chosen; else the request.

    A server may have sent a picture that says something else.
    """
    asked = Provenance(**describe_request(item.request)).settled(data)
    with suppress(ValueError):
        told = read_provenance(data)
        if told is not None and {**told.request, "seed": 0} == {**asked.request, "seed": 0}:
            return told
    return asked


def _changed(source: Source, ledger: Ledger) -> Iterator[Item]:
    for item in source.items():
        row = ledger.find(item.number)
        if row is not None and row.body_sha != source.body_sha(item):
            yield item


def _settle(row: Row, folder: JobFolder, ledger: Ledger, resends: int) -> State:
    stored = folder.find(row.name) if row.name else None
    if stored is not None:
        pictures = folder.count(row.name or "")
        charges = Charges(pictures, max(pictures, row.at_stake))
        ledger.ended(row.number, State.DONE, charges, name=stored, pictures=pictures)
        return State.DONE
    state = State.PENDING if row.cut_off < resends else State.UNKNOWN
    ledger.cut_off(row.number, state, Charges(0, row.at_stake))
    return state


def _is_path(value: object) -> bool:
    return isinstance(value, str) and not value.startswith("data:") and "://" not in value
