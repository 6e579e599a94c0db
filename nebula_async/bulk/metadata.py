"""What each picture of a job was made from, beside them: `images/metadata.jsonl`, a line for each picture.

With it the folder loads as a Hugging Face image folder: `file_name` is relative to it, every row has a file that is
there, and all rows have the same keys. https://huggingface.co/docs/datasets/image_dataset
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from nebula_async.charges import Charges
from nebula_async.images.image import Image
from nebula_async.images.part_file import PartFile
from nebula_async.images.provenance import Provenance

NAME = "metadata.jsonl"

LONGEST_LINE = 2**25
"""Bytes of a row that is looked at when a picture is looked up: nobody knows who wrote the file."""

PARAMETERS = ("id", "prompt", "negative_prompt", "model", "seed", "num_steps", "size", "quality", "style")
FACTS = ("request_id", "inference_seconds", "created", "cost", "sha256")


@frozen
class PictureRow:
    """A picture in the file: its name relative to the folder of all pictures, and the picture, its making settled."""

    file_name: str
    image: Image
    number: int
    charges: Charges | None = None

    def as_json(self) -> bytes:
        """Return the line of the file."""
        return json.dumps(self._values(), allow_nan=False).encode() + b"\n"

    def _values(self) -> dict[str, Any]:
        made = self.image.provenance
        asked: Mapping[str, Any] = made.request if made else {}
        guidance, extra = asked.get("guidance_scale"), asked.get("extra")
        return {
            "file_name": self.file_name,
            "number": self.number,
            "dialect": asked.get("dialect", "serverless"),
            **{name: asked.get(name) for name in PARAMETERS},
            "guidance_scale": None if guidance is None else float(guidance),  # one type in all rows
            "extra": None if extra is None else json.dumps(extra),
            "width": self.image.width,
            "height": self.image.height,
            **{name: getattr(made, name, None) for name in FACTS},
            "charges_at_least": self.charges and self.charges.at_least,
            "charges_at_most": self.charges and self.charges.at_most,
            "provenance": made and made.to_json(),
        }


@define(eq=False)
class Metadata:
    """The file of rows. Its methods block and are called one after the other, by one process."""

    folder: Path
    _known: array[int] = field(factory=lambda: array("q"), init=False)

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.folder / NAME

    def mend(self) -> None:
        """Cut off what a run that was killed left unfinished, and rows whose picture is gone; learn which are there."""
        marks, is_damaged = array("q"), False
        for line in self._lines():
            name = self._file_name(line)
            if name is None:
                is_damaged = True
            else:
                marks.append(hash(name))
        self._known = array("q", sorted(marks))
        if is_damaged:
            self._rewrite()

    def has(self, file_name: str) -> bool:
        """Whether a picture had a row when the file was mended."""
        mark = hash(file_name)
        at = bisect_left(self._known, mark)
        return at < len(self._known) and self._known[at] == mark

    def add(self, rows: Iterable[PictureRow]) -> None:
        """Append rows, all or none of them. Raises `OSError`."""
        lines = b"".join(row.as_json() for row in rows)
        with self.path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                written = file.write(lines)
                if written != len(lines):
                    file.write(lines[written:])  # says why there is no room for them
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise

    def _lines(self) -> Iterator[bytes]:
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            yield from iter(lambda: file.readline(LONGEST_LINE), b"")

    def _file_name(self, line: bytes) -> str | None:
        """Return the picture that a line is about, if the line is whole and the picture there."""
        values = _read(line) if line.endswith(b"\n") else {}
        name = values.get("file_name")
        with suppress(OSError, ValueError):  # of a name that no file can have
            return name if isinstance(name, str) and (self.folder / name).is_file() else None
        return None

    def _rewrite(self) -> None:
        part = PartFile.beside(self.path)
        try:
            for line in self._lines():
                if self._file_name(line) is not None:
                    part.write(line)
            part.replace(self.path)
        finally:
            part.discard()


def find_provenance(picture: Path) -> Provenance | None:
    """Return how a picture of a job was made, by the metadata beside it or in the folder above; `None` if none tells.

    Raises `ValueError` where what is told is damaged, `OSError` where it cannot be read.
    """
    place = picture.absolute()
    for folder in place.parents[:2]:
        path = folder / NAME
        if path.is_file() and (text := _look_up(path, place.relative_to(folder).as_posix())) is not None:
            return Provenance.from_json(text)
    return None


def _look_up(path: Path, file_name: str) -> str | None:
    """Return the provenance in the last row about a picture; memory does not grow with the file."""
    found = None
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(LONGEST_LINE), b""):
            values = _read(line) if file_name.encode() in line else {}
            found = values.get("provenance") if values.get("file_name") == file_name else found
    return found if isinstance(found, str) else None


def _read(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
