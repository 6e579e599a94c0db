"""A job's pictures in an object store; all the rest of the job lies in its folder."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable, Mapping
from hashlib import file_digest
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from attrs import define, field, frozen

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.metadata import Metadata
from nebula_async.bulk.spool import Received
from nebula_async.checks import shown
from nebula_async.errors import ConfigurationError, JobError
from nebula_async.sinks.names import problem_of_name
from nebula_async.sinks.object_shelf import ObjectShelf, open_shelf
from nebula_async.sinks.object_urls import check_url

STORE, TOLD = "store", "store_metadata_bytes"
"""Under these the ledger notes where the pictures are, and how large the metadata were that lie beside them."""

UPLOADS = 16
"""At once, each in a thread: a put takes 50 to 500 ms, and holds in memory what it sends, usually 1 or 2 MiB."""

PATIENCE_SECONDS, LONGEST_PAUSE_SECONDS = 120.0, 10.0
"""How long a store is waited for that takes a picture of an item no more, and how long between two tries at most."""

SCHEME = re.compile(r"(s3|gs|az|file|memory):")

Value = TypeVar("Value")


def as_place(out: Path | str) -> Path | str:
    """Return the path of a folder, or a URL as it is. Raises `ConfigurationError` for what is neither."""
    is_place: bool = isinstance(out, str | os.PathLike)  # whatever the type says: it is a user's
    if not is_place or not str(out).strip() or "\0" in str(out):
        raise ConfigurationError(f"out must be the path of a folder, or the URL of an object store; got {shown(out)}")
    if isinstance(out, str) and "://" in out:
        return out
    if problem := problem_of_name(Path(out)):
        raise ConfigurationError(f"out {str(out)!a} cannot be the folder of a job: {problem}")
    return Path(out)


def is_store(path: Path) -> bool:
    """Whether a path is the URL of an object store, as a command line hands it over where it wants a folder."""
    return SCHEME.fullmatch("".join(path.parts[:1])) is not None


def _check_lasting(url: str) -> None:
    check_url(url)
    if url.startswith("memory:"):
        raise ConfigurationError(f"{url} is gone with the process, and a job is not: give another URL, or a folder")
    if url.startswith("file:"):
        raise ConfigurationError(f"{url} is a folder of this machine: give its path, {url.removeprefix('file://')}")


@frozen
class Bucket:
    """Puts whole pictures below a URL, as a `Shelf` does into a folder; it blocks, and may be called from many threads.

    The name of an object is made of its item's place in the ledger alone: a put that is repeated, by a run after a kill
    too, is a put of the same object. What the ledger says is stored is not looked for: to ask for each of a hundred
    thousand objects takes minutes. A store that cannot be used is an `OSError` of one sentence.
    """

    shelf: ObjectShelf

    @property
    def url(self) -> str:
        """Where the names begin."""
        return self.shelf.url

    def begin(self, secret: bytes) -> None:
        """Try the store, and make it the place of the job that has this secret. Raises `JobError`."""
        self.shelf.check()
        self.shelf.claim(hmac.digest(secret, b"store", "sha256").hex())

    def place(self, picture: Received, name: str) -> str:
        """Store a picture and return its name, which is its path in the ledger. Raises `OSError`."""
        if picture.part is None:
            raise ValueError("a picture without bytes has no place")
        path = f"{name}{picture.extension}"
        self.shelf.put_file(picture.part, path, picture.media_type, picture.sha256 or "")
        return path

    def sync(self) -> None:
        """Do nothing: what a store has said is stored stays."""

    def holds(self, _path: str, _size: int) -> bool:
        """Believe the ledger."""
        return True

    def address(self, path: str) -> str:
        """Return the URL of a picture."""
        return self.shelf.url_of(path)

    def tell(self, ledger: Ledger, metadata: Metadata) -> None:
        """Put the metadata beside the pictures, unless these are there: then they load as an image folder. Raises
        `OSError`.
        """
        size = str(metadata.size)
        if not metadata.size or ledger.fact(TOLD) == size:
            return
        with metadata.path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        name = f"{metadata.folder.name}/{metadata.path.name}"
        self.shelf.put_file(metadata.path, name, "application/jsonl", digest)
        ledger.note(TOLD, size)


def check_here(store: str | None, folder: JobFolder) -> None:
    """Raise `JobError` where the pictures of a job are in a store, and were not brought into its folder."""
    if store is not None and not folder.holds_pictures():
        raise JobError(
            f"the pictures of {folder.path} are in {store}; bring them here first, such as with"
            f" aws s3 sync {store}/images {folder.images}"
        )


def open_places(
    out: Path | str, job: Path | str | None, options: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Path, Bucket | None]:
    """Return the folder of a job, and the store of its pictures where these are not in it; nothing is sent.

    Raises `ConfigurationError` for what cannot be meant, and where obstore is missing.
    """
    if isinstance(out, str):
        _check_lasting(out)
        if job is None:
            raise ConfigurationError(f"pictures go to {out}, and all else about the job into a folder: give it as job")
        return Path(job), Bucket(open_shelf(out, options))
    if is_store(out):
        raise ConfigurationError(f"{out} is no URL: give text with two slashes, such as s3://bucket/prefix")
    if job is not None:
        raise ConfigurationError(
            f"a job whose pictures go to the folder {out} keeps all else there too: leave out job ({job})"
        )
    return out, None


def check_store(ledger: Ledger, folder: Path, bucket: Bucket | None) -> None:
    """Raise `JobError` where the pictures of a job that was begun are elsewhere."""
    known, wanted = ledger.fact(STORE), None if bucket is None else bucket.url
    if known != wanted and not ledger.is_empty():
        raise JobError(
            f"{folder} was begun with its pictures in {known or 'that folder'}, and now they are to go to"
            f" {wanted or 'that folder'}; give the first, or use another folder for this job"
        )


@define(eq=False)
class Uploads:
    """Places the pictures of many items at a time, before the ledger's turn, and waits for a store that is away.

    One that refuses, and one that stays away for two minutes, is a `JobError`, for all from then on: what was paid for
    is in the spool, and the next run stores it.
    """

    spool: Path
    failure: JobError | None = field(default=None, init=False)
    _limiter: anyio.CapacityLimiter = field(factory=lambda: anyio.CapacityLimiter(UPLOADS), init=False)

    async def ahead(self, place: Callable[[], Value]) -> Callable[[], Value]:
        """Call `place`, and return what returns its value. Raises `JobError`; a caller who is cancelled leaves."""
        began, pause = anyio.current_time(), 0.5
        while True:
            try:
                placed = await anyio.to_thread.run_sync(
                    self._place, place, limiter=self._limiter, abandon_on_cancel=True
                )
            except OSError as error:
                self._judge(error, anyio.current_time() - began)
            else:
                return lambda: placed
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _place(self, place: Callable[[], Value]) -> Value:
        if self.failure is not None:
            raise self.failure
        return place()

    def _judge(self, error: OSError, seconds: float) -> None:
        is_of_disk = error.errno is not None  # the store's have words alone
        if is_of_disk or isinstance(error, PermissionError | FileNotFoundError) or seconds >= PATIENCE_SECONDS:
            place = f" ({error.filename})" if error.filename else ""
            self.failure = self.failure or JobError(
                f"pictures cannot be stored: {error.strerror or error}{place}; those that were paid for are kept in"
                f" {self.spool}, and the next run stores them"
            )
            raise self.failure from error
