"""A sink that keeps one picture under each key, whoever else stores into it."""

from __future__ import annotations

import logging

from attrs import frozen

from nebula_async.sinks.sink import SearchableSink, Stored, Writer

logger = logging.getLogger(__name__)


@frozen
class KeptOnce:
    """Stores into another sink what is not there yet: a picture that meets one under its key is let go of.

    Two that run at once may still publish in the same moment: then the second one gets the next free name.
    """

    sink: SearchableSink

    async def open(self, key: str) -> Writer:
        """Return a writer whose `publish` returns where the picture of that key is, this one or the one before."""
        return _Writer(self.sink, key, await self.sink.open(key))


@frozen
class _Writer:
    _sink: SearchableSink
    _key: str
    _writer: Writer

    async def write(self, data: bytes) -> None:
        await self._writer.write(data)

    async def publish(self, media_type: str, extension: str) -> str:
        if found := await self._found():
            await self._writer.discard()
            return found.place
        return await self._writer.publish(media_type, extension)

    async def _found(self) -> Stored | None:
        """Return the picture that was there before; none where it cannot be told: this one is paid for, and kept."""
        try:
            return await self._sink.find(self._key)
        except Exception:
            logger.warning("whether there is a picture cannot be told, and another is stored", exc_info=True)
            return None

    async def discard(self) -> None:
        await self._writer.discard()
