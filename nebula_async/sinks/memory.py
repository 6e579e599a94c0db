"""Pictures kept in memory."""

from __future__ import annotations

from io import BytesIO

from attrs import define, field

from nebula_async.images.media import EXTENSIONS
from nebula_async.sinks.names import check_key, copies
from nebula_async.sinks.sink import Stored


@define(eq=False)
class MemorySink:
    """Keeps published pictures in `pictures`, their bytes by key and extension: for tests, and for a few."""

    pictures: dict[str, bytes] = field(factory=dict, init=False, repr=lambda pictures: f"<{len(pictures)} pictures>")

    async def open(self, key: str) -> _MemoryWriter:
        """Return a writer whose `publish` returns the name in `pictures`. Raises `ValueError` for an unsafe key."""
        check_key(key)
        return _MemoryWriter(self.pictures, key)

    async def find(self, key: str) -> Stored | None:
        """Return the picture that is kept under `key`, if there is one. Raises `ValueError` for an unsafe key."""
        check_key(key)
        names = ((f"{key}{extension}", media_type) for media_type, (extension, *_) in EXTENSIONS.items())
        return next((Stored(name, media_type) for name, media_type in names if name in self.pictures), None)


@define(eq=False)
class _MemoryWriter:
    _pictures: dict[str, bytes]
    _key: str
    _data: BytesIO = field(factory=BytesIO, init=False)

    async def write(self, data: bytes) -> None:
        self._data.write(data)

    async def publish(self, media_type: str, extension: str) -> str:  # noqa: ARG002 - the extension tells it
        data = self._data.getvalue()  # no copy: a BytesIO shares its bytes
        self._data.close()
        name = next(name for name in copies(self._key, extension) if name not in self._pictures)
        self._pictures[name] = data
        return name

    async def discard(self) -> None:
        self._data.close()
