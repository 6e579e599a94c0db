"""What each picture of a job was made from, beside them: `images/metadata.jsonl`, a line for each picture.

With it the folder loads as a Hugging Face image folder: `file_name` is relative to it, every row has a file that is
there, and all rows have the same keys. https://huggingface.co/docs/datasets/image_dataset

The ledger holds the same rows, and is the truth: the file is made anew of them where it is not whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from nebula_async.bulk.spool import Received
from nebula_async.charges import Charges
from nebula_async.images.part_file import replace_lines
from nebula_async.images.provenance import Provenance

NAME = "metadata.jsonl"

LONGEST_LINE = 2**25
"""Bytes of a row that is looked at when a picture is looked up: nobody knows who wrote the file."""

PARAMETERS = ("id", "prompt", "negative_prompt", "model", "seed", "num_steps", "size", "quality", "style")
FACTS = ("request_id", "inference_seconds", "created", "cost")


@frozen(kw_only=True)
class Making:
    """How the pictures of an item were made: `made` with the digests of what was handed in, and what the job says."""

    made: Provenance
    key: str
    number: int
    body_sha: str
    charges: Charges | None = None

    def draft(self) -> dict[str, Any]:
        """Return the row of a picture that is not here yet, as plain JSON values: `finish_row` makes the line of it."""
        asked: Mapping[str, Any] = self.made.request
        guidance, extra = asked.get("guidance_scale"), asked.get("extra")
        return {
            "file_name": None,
            "number": self.number,
            "key": self.key,
            "body_sha256": self.body_sha,
            "dialect": asked.get("dialect", "serverless"),
            **{name: asked.get(name) for name in PARAMETERS},
            "guidance_scale": None if guidance is None else float(guidance),  # one type in all rows
            "extra": None if extra is None else json.dumps(extra),
            "width": None,
            "height": None,
            **{name: getattr(self.made, name, None) for name in FACTS},
            "sha256": None,
            "charges_at_least": self.charges and self.charges.at_least,
            "charges_at_most": self.charges and self.charges.at_most,
            "provenance": json.loads(self.made.to_json()),
        }


def provenance_in(draft: Mapping[str, Any], sha256: str | None) -> str:
    """Return how a picture with this digest was made, by the draft of its row."""
    values = {**draft["provenance"], "sha256": sha256}
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def finish_row(draft: Mapping[str, Any], file_name: str, picture: Received) -> str:
    """Return the line of a picture, its name relative to the folder of all pictures."""
    known = {"file_name": file_name, "width": picture.width, "height": picture.height, "sha256": picture.sha256}
    return json.dumps({**draft, **known, "provenance": provenance_in(draft, picture.sha256)}, allow_nan=False)


@frozen
class Metadata:
    """The file of rows. Its methods block and are called one after the other, by one process; they raise `OSError`."""

    folder: Path

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.folder / NAME

    @property
    def size(self) -> int:
        """How many bytes it has, 0 where there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def add(self, rows: Iterable[str]) -> None:
        """Append rows, all or none of them."""
        lines = "".join(f"{row}\n" for row in rows).encode()
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

    def replace(self, rows: Iterable[str]) -> None:
        """Make the file anew of these rows; before that it is as it was."""
        replace_lines(self.path, rows)


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
