"""What an export holds for each picture: its name among the samples, its bytes, and its row of the metadata."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from attrs import field, frozen

from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.states import Output
from nebula_async.errors import JobError
from nebula_async.images.media import EXTENSIONS

PIECE_BYTES = 2**20

INTEGERS = frozenset({"number", "seed", "num_steps", "width", "height", "charges_at_least", "charges_at_most"})
FLOATS = frozenset({"guidance_scale", "inference_seconds"})


def column_type(column: str) -> str:
    """Return the type of a column of the metadata, the same for every job, also where all its values are null."""
    if column in INTEGERS:
        return "int64"
    return "float64" if column in FLOATS else "string"


def typed(column: str, value: Any) -> Any:
    """Return a value of the metadata as its column's type."""
    if value is None or isinstance(value, str):
        return value
    kind = column_type(column)
    if kind == "string":
        return json.dumps(value)
    return float(value) if kind == "float64" else value


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system say where it happened; those of a read, a write and a sync do not by themselves."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


@frozen(kw_only=True)
class Sample:
    """A picture on its way into a shard: where it is and what the ledger knows of it.

    Its name is made of numbers alone and has no dot: `000000042`, and `000000042-1` for the second picture of an item.
    """

    name: str
    place: Path
    size: int
    sha256: str
    media_type: str
    line: str = field(repr=False)

    @property
    def file_name(self) -> str:
        """What its file is called in a shard."""
        return f"{self.name}{EXTENSIONS[self.media_type][0]}"

    def values(self) -> dict[str, Any]:
        """Return its row of the metadata."""
        row: dict[str, Any] = json.loads(self.line)
        return {column: typed(column, value) for column, value in row.items()}

    def row(self, columns: Iterable[str]) -> dict[str, Any]:
        """Return its row with these columns, null where it has no value."""
        values = self.values()
        return {column: values.get(column) for column in columns}

    def check(self) -> None:
        """Refuse a picture that is gone, or has another size than what was stored. Raises `JobError`."""
        try:
            size = self.place.stat().st_size
        except FileNotFoundError as error:
            raise self._gone() from error
        if size != self.size:
            raise self._changed()

    def pieces(self) -> Iterator[bytes]:
        """Yield the picture. Raises `JobError` where it is gone, or, after the last piece, is not what was stored."""
        digest, read = hashlib.sha256(), 0
        try:
            with naming(self.place), self.place.open("rb", buffering=0) as file:
                while read <= self.size and (piece := file.read(PIECE_BYTES)):
                    digest.update(piece)
                    read += len(piece)
                    yield piece
        except FileNotFoundError as error:
            raise self._gone() from error
        if (read, digest.hexdigest()) != (self.size, self.sha256):
            raise self._changed()

    def _gone(self) -> JobError:
        return JobError(
            f"{self.place} is gone: the job stored it, and it is not there; put it back, or let the job make it again"
            " (`nebula-async bulk … --retry-failed` pays for it again), then repeat the export"
        )

    def _changed(self) -> JobError:
        return JobError(
            f"{self.place} is not the picture that the job stored (sha256 {self.sha256}); put that back, or remove this"
            " one and let the job make it again (`nebula-async bulk … --retry-failed` pays for it again), then repeat"
            " the export"
        )


def read_samples(ledger: Ledger, folder: Path) -> Generator[Sample, None, None]:
    """Yield the pictures of a job that are stored, in the order of its items, whichever finished first.

    Raises `JobError` where they are in an object store. It must be closed before the ledger is.
    """
    with closing(cast("Generator[Output, None, None]", ledger.outputs())) as outputs:
        yield from (_sample(output, folder) for output in outputs if output.path is not None)


def _sample(output: Output, folder: Path) -> Sample:
    path, number = output.path or "", f"{output.seq:09}"
    if "://" in path:
        raise JobError(
            f"the pictures of this job are in an object store ({path}), and export reads files of this machine only;"
            " a job whose --out is a folder can be exported"
        )
    return Sample(
        name=f"{number}-{output.index}" if output.index else number,
        place=folder / path,
        size=output.bytes or 0,
        sha256=output.sha256 or "",
        media_type=output.media_type or "",
        line=output.row or "{}",
    )
