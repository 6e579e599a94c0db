"""Whole files in an object store."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from attrs import define, field, frozen

from nebula_async.errors import ConfigurationError, JobError
from nebula_async.sinks.object_urls import check_url
from nebula_async.sinks.object_words import in_words, setting_in_words

if TYPE_CHECKING:
    from obstore.store import ObjectStore

RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
"""With obstore's 30 s for each request a put has an end after a minute; its own default is ten retries in three."""

ONE_PUT_BYTES = 8 * 2**20
"""A larger file goes up in parts: obstore holds in memory what it sends in one request."""

PART_BYTES, PARTS_AT_ONCE = 5 * 2**20, 2

PROBE = b"nebula_async was here"

MARK = ".nebula-job"
"""The object that says whose place it is."""

logger = logging.getLogger(__name__)


@frozen
class KeptObject:
    """An object that is there: its size, and the digest it was stored with, if the store keeps such things."""

    bytes: int
    sha256: str | None


@define(eq=False)
class ObjectShelf:
    """The objects below one URL. Every method blocks for up to about a minute, and may be called from any thread.

    Errors are `OSError`s of one sentence: `PermissionError` for credentials that are refused or missing,
    `FileNotFoundError` for a bucket that is not there. No credential is in them.

    How a job gets exactly one object for each item and index, whatever it is killed at: `name` is made of the item's
    place in the ledger alone, so a put that is repeated, by a retry or after a kill, is a put of the same object; the
    put is atomic; and an item is done once its ledger says so, after the put, whatever else lies in the store.
    Parts of a large file that a kill leaves are no object; a rule of the bucket should remove them.
    """

    url: str
    store: ObjectStore = field(repr=False)
    _under_way: set[str] = field(factory=set, init=False, repr=False)
    _lock: Lock = field(factory=Lock, init=False, repr=False)

    def url_of(self, name: str) -> str:
        """Return where the object of that name is, such as `"s3://bucket/prefix/cat.png"`."""
        return f"{self.url}/{quote(name) if self._is_folder else name}"

    def put_file(self, part: Path, name: str, media_type: str, sha256: str) -> str:
        """Store a file under `name`, in the place of what is there; return its URL. The same put twice is as once."""
        with part.open("rb") as file, in_words(self.url):
            self._put(file, name, self._attributes(media_type, sha256))
        return self.url_of(name)

    def put_new(self, file: IO[bytes], names: Iterator[str], media_type: str, sha256: str) -> str:
        """Store a file under the first of `names` that is free; return its URL. Never replaces an object but where
        `ObjectStoreSink` says so.
        """
        attributes = self._attributes(media_type, sha256)
        while True:
            name = next(names)
            with self._claim(name) as is_ours:
                if is_ours and self._look_up(name) is None and self._create(file, name, attributes):
                    return self.url_of(name)

    def head(self, name: str) -> KeptObject | None:
        """Return what is stored under `name`; `None` if nothing is. Who may not list a bucket is refused both."""
        with suppress(FileNotFoundError), in_words(self.url):
            found = self.store.get(name, options={"head": True})
            return KeptObject(found.meta["size"], found.attributes.get("sha256"))
        return None

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""
        with suppress(FileNotFoundError), in_words(self.url):
            self.store.delete(name)

    def check(self) -> None:
        """Write, read and delete a scratch object. Raises `JobError` saying why pictures could not be stored.

        That it may not be deleted is logged and no error: a job deletes nothing.
        """
        name = f".nebula-check-{uuid4().hex}"
        try:
            with in_words(self.url):
                self.store.put(name, PROBE, use_multipart=False)
                found = bytes(self.store.get(name).bytes())
        except OSError as error:
            raise JobError(f"pictures could not be stored, so nothing was sent: {error}") from None
        if found != PROBE:
            raise JobError(f"{self.url} gives back something else than was stored there, so nothing was sent")
        try:
            self.delete(name)
        except OSError as error:
            logger.warning("a scratch object stays", extra={"object": self.url_of(name), "reason": str(error)})

    def claim(self, owner: str) -> None:
        """Mark the place as that of the job `owner`, for good: another job has the same names, and would replace its
        pictures. Raises `JobError` where another has marked it, or where it cannot be told.

        `owner` is readable by who reads the store: no secret.
        """
        try:
            if self._look_up(MARK) is None:
                self._mark(owner.encode())
            with in_words(self.url):
                found = bytes(self.store.get(MARK).bytes())
        except OSError as error:
            raise JobError(f"it cannot be told whose pictures are there, so nothing was sent: {error}") from None
        if found != owner.encode():
            raise JobError(f"{self.url} holds the pictures of another job, which would be replaced: use another prefix")

    @property
    def _is_folder(self) -> bool:
        return self.url.startswith("file:")

    def _attributes(self, media_type: str, sha256: str) -> dict[str, str] | None:
        return None if self._is_folder else {"Content-Type": media_type, "sha256": sha256}  # files have none

    def _put(self, file: IO[bytes], name: str, attributes: dict[str, str] | None, *, replace: bool = True) -> None:
        file.seek(0)
        in_parts = os.fstat(file.fileno()).st_size > ONE_PUT_BYTES
        self.store.put(
            name,
            file,
            attributes=attributes,
            mode="overwrite" if replace or in_parts else "create",  # parts cannot be put on a condition
            use_multipart=in_parts,
            chunk_size=PART_BYTES,
            max_concurrency=PARTS_AT_ONCE,
        )

    def _create(self, file: IO[bytes], name: str, attributes: dict[str, str] | None) -> bool:
        """Put a file where nothing is; return whether it is there now."""
        from obstore.exceptions import AlreadyExistsError

        with in_words(self.url):
            try:
                self._put(file, name, attributes, replace=False)
            except AlreadyExistsError:
                return self._is_stored(name, attributes)
            except NotImplementedError:  # conditional puts are turned off, for a store that knows none
                self._put(file, name, attributes)
        return True

    def _mark(self, owner: bytes) -> None:
        from obstore.exceptions import AlreadyExistsError

        with in_words(self.url), suppress(AlreadyExistsError):
            try:
                self.store.put(MARK, owner, mode="create")
            except NotImplementedError:
                self.store.put(MARK, owner)

    def _is_stored(self, name: str, attributes: dict[str, str] | None) -> bool:
        """Whether the put itself took the name: its answer was lost, and the retry met what it had stored."""
        found = self._look_up(name)
        return found is not None and found.sha256 == (attributes or {}).get("sha256", "")

    def _look_up(self, name: str) -> KeptObject | None:
        with suppress(PermissionError):  # some may write and not read
            return self.head(name)
        return None

    @contextmanager
    def _claim(self, name: str) -> Iterator[bool]:
        """Keep other threads from a name meanwhile; give whether it was free of them."""
        with self._lock:
            is_ours = name not in self._under_way
            self._under_way.add(name)
        try:
            yield is_ours
        finally:
            if is_ours:
                self._under_way.discard(name)


def open_shelf(url: str, store_options: Mapping[str, Any] | None = None) -> ObjectShelf:
    """Return the shelf at a URL; nothing is sent. Raises `ConfigurationError` where it can be none, or without obstore.

    `store_options` are those of `obstore.store.from_url`: `region`, `endpoint`, `client_options`,
    `credential_provider`, …; what they leave out obstore takes from the environment.
    """
    check_url(url)
    try:
        from obstore.store import from_url
    except ImportError:
        raise ConfigurationError(
            "obstore is not installed; object stores need: pip install 'nebula_async[s3]'"
        ) from None
    scheme = url.partition(":")[0]
    preset: dict[str, Any] = {"file": {"mkdir": True}, "memory": {}}.get(scheme, {"retry_config": RETRIES})
    with setting_in_words(url):
        store = from_url(url, **{**preset, **(store_options or {})})
    return ObjectShelf(url.rstrip("/") if scheme != "memory" else "memory:/", store)
