"""What is known of a picture file: what it says about itself, or else the metadata of the job that made it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from attrs import evolve, frozen

from nebula_async.bulk.metadata import find_provenance
from nebula_async.errors import JobError
from nebula_async.images.media import Media, read_media
from nebula_async.images.provenance import Provenance, read_provenance

MAX_FILE = 2**28
"""Bytes of a picture that is looked at."""


@frozen(kw_only=True)
class Known:
    """A picture file: what it is, and how it was made where `told_by` tells, the "file" or a job's "metadata".

    `digest` is the SHA-256 of the picture as it came, where that is known. `problem` says why nothing is told.
    """

    path: Path
    media: Media
    size: int
    provenance: Provenance | None = None
    told_by: str | None = None
    digest: str | None = None
    problem: str = "it says nothing of how it was made (pictures do that are saved with --provenance)"


def read_known(path: Path) -> Known:
    """Read a picture file and what is known of it. Raises `JobError` for what is no picture, `OSError`."""
    data = _read(path)
    try:
        media = read_media(data)
    except ValueError as error:
        raise JobError(f"{path} is no picture: {error}; give a PNG, a JPEG or a WebP") from None
    known = Known(path=path, media=media, size=len(data))
    try:
        return _told(known, data)
    except ValueError as error:
        return evolve(known, problem=str(error))


def _told(known: Known, data: bytes) -> Known:
    told = read_provenance(data)
    if told is not None:
        return evolve(known, provenance=told, told_by="file", digest=told.sha256)
    told = find_provenance(known.path)
    return (
        known if told is None else evolve(known, provenance=told, told_by="metadata", digest=sha256(data).hexdigest())
    )


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise JobError(f"{path} is {'no file' if path.exists() else 'not there'}; give the file of a picture")
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise JobError(f"{path} is larger than {MAX_FILE >> 20} MiB, which no picture of the API is")
    return data
