"""Pictures as objects of S3, Google Cloud Storage, Azure Blob Storage and what speaks like them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from tempfile import TemporaryFile
from threading import Lock
from typing import IO, TYPE_CHECKING, Any

import anyio.to_thread
from anyio.lowlevel import RunVar
from attrs import define, field, frozen

from nebula_async.images.media import EXTENSIONS
from nebula_async.offload import on_disk
from nebula_async.sinks.names import check_key, copies
from nebula_async.sinks.object_shelf import ObjectShelf, open_shelf
from nebula_async.sinks.sink import Stored

if TYPE_CHECKING:
    from obstore.store import ObjectStore

UPLOADS = 8
"""At once on each loop, each in a thread: that costs no more than obstore's own coroutines, and trio can do it too."""

_uploads: RunVar[anyio.CapacityLimiter] = RunVar("nebula_async_uploads")


@frozen
class ObjectStoreSink:
    """Stores pictures below a URL: `s3://bucket/prefix`, `gs://…`, `az://container/…`, `file:///dir`, `memory://`.

    Needs the extra `s3`. A picture is collected in an unnamed temporary file and stored by one put, with its media type
    and its sha256 as metadata; of one larger than 8 MiB parts of 5 MiB are sent, two at a time. Eight uploads run at
    once, each in about 20 MiB of memory at most. A put is retried three times, and given up after about a minute.

    Nothing is ever replaced where the store knows conditional puts (`If-None-Match`), as those of the three clouds do.
    Where it does not, or a picture is larger than 8 MiB, a name is only looked up before: another process that stores
    under the same name in the same moment may replace the picture, or be replaced. For a store that refuses conditional
    puts set `AWS_CONDITIONAL_PUT=disabled`. A rule of the bucket should remove uploads that were never completed.

    Credentials, region and endpoint come from the environment, as obstore reads it (`AWS_ACCESS_KEY_ID`,
    `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`, …; not from `~/.aws`), or from
    `store_options`, which are those of `obstore.store.from_url`; they are never shown, and are pickled with the sink.
    `file://` follows links and has no metadata: for a folder rather use `DirectorySink`. Each sink at `memory://` has a
    store of its own. Raises `ConfigurationError` for a URL that is none of these, and for options obstore has not.
    """

    url: str
    store_options: Mapping[str, Any] = field(factory=dict, kw_only=True, repr=False, hash=False)

    def __attrs_post_init__(self) -> None:
        _ = self._shelf  # what is wrong with it is told before a picture is paid for

    @property
    def store(self) -> ObjectStore:
        """The obstore store, to list, read or sign what is in it; its names are those below the URL."""
        return self._shelf.store

    async def open(self, key: str) -> _ObjectWriter:
        """Return a writer whose `publish` returns the object's URL. Raises `ValueError` for an unsafe key."""
        check_key(key)
        return _ObjectWriter(self._shelf, key)

    async def find(self, key: str) -> Stored | None:
        """Return the picture that is stored under `key`, if there is one: an object is there whole, or not at all.

        Asks once for each type of picture, PNG first. Raises `ValueError` for an unsafe key, and an `OSError`
        of one sentence where it cannot be told, as for credentials that may write and not read.
        """
        check_key(key)
        return await anyio.to_thread.run_sync(_find, self._shelf, key, limiter=_limiter())

    @cached_property
    def _shelf(self) -> ObjectShelf:
        return open_shelf(self.url, self.store_options)


@define(eq=False)
class _ObjectWriter:
    """Collects a picture in a file without a name, which is gone with the process however that ends.

    A native cancellation leaves a thread working: the lock makes `discard` wait for it.
    """

    _shelf: ObjectShelf
    _key: str
    _file: IO[bytes] | None = field(default=None, init=False)
    _digest: Any = field(factory=sha256, init=False)
    _is_over: bool = field(default=False, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    async def write(self, data: bytes) -> None:
        await on_disk(self._write, data, abandon_on_cancel=True)

    async def publish(self, media_type: str, extension: str) -> str:
        return await anyio.to_thread.run_sync(self._publish, media_type, extension, limiter=_limiter())

    async def discard(self) -> None:
        await on_disk(self._discard, abandon_on_cancel=True)

    def _write(self, data: bytes) -> None:
        with self._lock:
            self._begun().write(data)
            self._digest.update(data)

    def _publish(self, media_type: str, extension: str) -> str:
        with self._lock:
            file, names = self._begun(), copies(self._key, extension)
            file.flush()
            url = self._shelf.put_new(file, names, media_type, self._digest.hexdigest())
            self._is_over = True
            file.close()
        return url

    def _discard(self) -> None:
        with self._lock:
            self._is_over = True
            if self._file is not None:
                self._file.close()

    def _begun(self) -> IO[bytes]:
        if self._is_over:
            raise ValueError(f"the writer of {self._key!r} has published or discarded its picture: open another one")
        if self._file is None:
            self._file = TemporaryFile()  # noqa: SIM115 - discard closes it
        return self._file


def _find(shelf: ObjectShelf, key: str) -> Stored | None:
    for media_type, (extension, *_) in EXTENSIONS.items():
        name = f"{key}{extension}"
        found = shelf.head(name)
        if found is not None and found.bytes:
            return Stored(shelf.url_of(name), media_type)
    return None


def _limiter() -> anyio.CapacityLimiter:
    try:
        return _uploads.get()
    except LookupError:
        _uploads.set(limiter := anyio.CapacityLimiter(UPLOADS))
        return limiter
