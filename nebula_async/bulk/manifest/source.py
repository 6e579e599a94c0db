"""Where a job's items come from: a file that lies still, and what is done to each of its rows."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from attrs import Attribute, evolve, field, frozen

from nebula_async.bulk.manifest.columns import read_columns
from nebula_async.bulk.manifest.entries import Entry, Fields, Lines, by_line, check_readable, read_prompt, read_text
from nebula_async.bulk.manifest.items import (
    BadLine,
    Item,
    check_defaults,
    copy_key,
    copy_of,
    fields_from,
    read_row,
    row_key,
)
from nebula_async.bulk.manifest.json_lines import read_json_lines
from nebula_async.bulk.manifest.parquet import load_arrow, read_parquet
from nebula_async.bulk.manifest.spooling import GIVEN_ITEMS, STANDARD_INPUT, GivenItems, spool_items, spool_stdin
from nebula_async.bulk.manifest.table import read_table
from nebula_async.checks import Checks, shown
from nebula_async.errors import InvalidRequestError, JobError
from nebula_async.images.sources import as_text
from nebula_async.requests import PICTURE_FIELDS, ImageRequest, InferenceRequest

KINDS = ("txt", "csv", "tsv", "jsonl", "parquet")
MOST_COPIES = 10_000

check = Checks(InvalidRequestError)


def _read_defaults(defaults: Fields) -> dict[str, Any]:
    """Return the defaults as what a file could hold. Raises `InvalidRequestError`."""
    check_defaults(defaults)
    pictures = {name: as_text(defaults[name]) for name in PICTURE_FIELDS if defaults.get(name) is not None}
    return {**defaults, **pictures}


def _check_columns(source: Source, _attribute: Attribute[Any], columns: Mapping[str, str]) -> None:
    if columns and source.kind == "txt":
        raise InvalidRequestError("columns: text has none, it is a prompt on each line; use CSV or JSON lines for more")
    if source.kind in {"csv", "tsv"} and "extra" in columns.values():
        raise InvalidRequestError("columns: extra fits into no cell; use JSON lines or Parquet for it")


@frozen(kw_only=True)
class Source:
    """The items of a job, read from a file as often as they are wanted, one at a time: memory does not grow with it.

    - txt: a prompt on each line
    - csv, tsv: a header of field names, then a row for each request; an empty cell leaves a field out
    - jsonl: on each line an object of fields, or a text that is the prompt
    - parquet: a row for each request; a null leaves a field out

    The fields are those of `ImageRequest`, or of `InferenceRequest` where `dialect` says "inference". `defaults` are
    fields for all rows whose API has them; a row's own win, also a JSON `null`, which leaves the field out. `columns`
    says which field a column of another name is. Relative `image` and `mask` paths start at `base`. Each row stands for
    `repeat` items, with consecutive seeds. `name` is what messages call the file. Blank lines are skipped; text is
    UTF-8, and may be compressed with gzip.
    """

    path: Path
    name: str
    kind: str = field(validator=check.one_of(KINDS))
    base: Path
    defaults: Mapping[str, Any] = field(factory=dict, converter=_read_defaults)
    columns: Mapping[str, str] = field(factory=dict, converter=read_columns, validator=_check_columns)
    repeat: int = field(default=1, validator=check.whole(1, MOST_COPIES))

    def fingerprint(self) -> str:
        """Return a digest of all that the items depend on, but for the pictures that rows name. Raises `JobError`."""
        rules = [self.kind, dict(self.defaults), dict(self.columns), self.repeat]
        digest = hashlib.sha256(json.dumps(rules, sort_keys=True, default=str).encode() + b"\n")
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, lambda: digest).hexdigest()
        except OSError as error:
            raise JobError(f"{self.name} cannot be read: {error.strerror}; mend that, or give another file") from error

    def stamp(self) -> tuple[int, ...]:
        """Return what tells the file as it is now from what is written into it later. Raises `JobError`."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise JobError(f"{self.name} cannot be read: {error.strerror}; mend that, or give another file") from error
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def check_unwritten(self, stamp: tuple[int, ...]) -> None:
        """Raise `JobError` where the file was written to since the stamp; one that took its place is not looked at."""
        try:
            now = self.stamp()
        except JobError:  # it is gone: who reads it has it open
            return
        if now != stamp and now[:2] == stamp[:2]:
            raise JobError(f"{self.name} was written to while the job ran; nothing more is sent; repeat the command")

    def entries(self, *, limit: int | None = None) -> Iterator[Item | BadLine]:
        """Yield all items, or those below a number, and what is wrong with rows; what is behind them is not read.

        Raises `JobError` for a file that cannot be read.
        """
        return self._read(_whatever, limit)

    def items(self, wanted: Callable[[str], bool] | None = None, *, limit: int | None = None) -> Iterator[Item]:
        """Yield the items, or those below a number, whose key is wanted; the others are not looked at.

        Raises `JobError` for a row that is bad now, which none was when they were counted.
        """
        for entry in self._read(wanted or _whatever, limit):
            if not isinstance(entry, Item):
                raise JobError(f"{self.name} changed while the job ran: {entry}; mend that, then repeat")
            yield entry

    def body_sha(self, item: Item) -> str:
        """Return the digest of what an item asks for, the same wherever the manifest's folder lies."""
        fields = fields_from(self.base, item.request)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def _read(self, wanted: Callable[[str], bool], limit: int | None) -> Iterator[Item | BadLine]:
        row, end = -1, math.inf if limit is None else limit
        for row, (line, fields) in enumerate(self._rows()):
            copies = min(self.repeat, end - row * self.repeat)
            if copies <= 0:
                return
            if isinstance(fields, str):
                yield BadLine(line, fields, self.name)
                continue
            base = row_key(row, fields)
            keys = [(copy, key) for copy in range(int(copies)) if wanted(key := copy_key(base, copy))]
            if keys:
                yield from self._items(row, line, fields, keys)
        if row < 0:
            raise JobError(f"there is no request in {self.name}; give at least one")

    def _items(self, row: int, line: int, fields: Fields, keys: Iterable[tuple[int, str]]) -> Iterator[Item | BadLine]:
        try:
            request = read_row(fields, base=self.base, defaults=self.defaults)
            for copy, key in keys:
                yield Item(key, row * self.repeat + copy, line, copy_of(request, copy))
        except InvalidRequestError as error:
            yield BadLine(line, str(error), self.name)

    def _rows(self) -> Iterator[Entry]:
        if self.kind == "parquet":
            return read_parquet(self.path, self.name, self.columns)
        readers: Mapping[str, Callable[[Lines], Iterator[Entry]]] = {
            "txt": partial(by_line, read_prompt),
            "csv": partial(read_table, ",", self.columns),
            "tsv": partial(read_table, "\t", self.columns),
            "jsonl": partial(read_json_lines, self.columns, self.name),
        }
        return read_text(self.path, self.name, readers[self.kind])


async def open_source(
    manifest: str | os.PathLike[str] | GivenItems,
    *,
    spool: Path,
    defaults: Mapping[str, Any],
    columns: Mapping[str, str | None],
    repeat: int,
    kind: str | None = None,
) -> Source:
    """Return the items of a file, of standard input ("-") or of an iterable of prompts, mappings and requests.

    What can be read once only is first written into a file beside `spool`, whose name begins like its own; relative
    picture paths then start at the working directory. `kind` says what a file is whose name does not, and what standard
    input is that is neither text nor JSON lines. Cancellation leaves no half of a file. Raises `JobError` for a file
    that cannot be read or is of no known kind, and `InvalidRequestError` for wrong arguments.
    """
    draft = Source(
        path=spool,
        name=GIVEN_ITEMS,
        kind=kind or "jsonl",
        base=Path(),
        defaults=defaults,
        columns=columns,
        repeat=repeat,
    )
    if manifest == "-":
        path, found = await spool_stdin(spool, kind)
        return evolve(draft, path=path, name=STANDARD_INPUT, kind=found)
    if isinstance(manifest, str | os.PathLike):
        return await anyio.to_thread.run_sync(_of_file, Path(manifest), draft, kind)
    return evolve(draft, kind="jsonl", path=await spool_items(_many(manifest, kind), spool))


def _of_file(path: Path, draft: Source, kind: str | None) -> Source:
    check_readable(path, _expected())
    kind = kind or kind_of_file(path)
    if kind == "parquet":
        load_arrow()  # without it, that is said before anything else is done
    return evolve(draft, path=path, name=path.name, kind=kind, base=path.parent)


def _many(items: GivenItems, kind: str | None) -> GivenItems:
    """Return the items of a program. Raises `InvalidRequestError` for what is not many."""
    if kind is not None:
        raise InvalidRequestError(f"kind says what a file is, and these are items of a program; got {shown(kind)}")
    is_one = isinstance(items, bytes | Mapping | ImageRequest | InferenceRequest)
    if is_one or not isinstance(items, Iterable | AsyncIterable):
        raise InvalidRequestError(
            f'manifest must be a path, "-" or an iterable of prompts, mappings and requests; got {shown(items)}'
        )
    return items


def kind_of_file(path: Path) -> str:
    """Return the kind of manifest that a file's name ends in, before a `.gz`. Raises `JobError` for another one."""
    name = path.name.lower().removesuffix(".gz")
    kind = next((kind for kind in KINDS if name.endswith(f".{kind}")), None)
    if kind is None or (kind == "parquet" and path.name.lower().endswith(".gz")):
        raise JobError(f"{path} is of no known kind; {_expected()}")
    return kind


def _expected() -> str:
    names = ", ".join(f".{kind}" for kind in KINDS)
    ends = f"a file whose name ends in {names} (the first four also with .gz)"
    return f"give {ends}, say its kind (--format, kind=), or send it to standard input (-)"


def _whatever(_key: str) -> bool:
    return True
