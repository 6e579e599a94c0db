"""A picture whose bytes are still arriving, kept in memory."""

from __future__ import annotations

from io import BytesIO

from attrs import define, field

from nebula_async.images.image import Image, describe_image
from nebula_async.images.media import MediaReader


@define(eq=False)
class ArrivingPicture:
    """Takes the bytes of one picture, checks them as they come, and keeps them, as long as they may be one.

    `room` is how many bytes are expected: with it, memory is asked for once, and grows with what arrives.
    """

    room: int = 0
    _media: MediaReader = field(factory=MediaReader, init=False)
    _memory: BytesIO | None = field(default=None, init=False)

    def write(self, data: bytes | memoryview, /) -> None:
        """Take the next piece. Never raises: `image` tells what is wrong."""
        try:
            self._media.feed(data)
        except ValueError:
            self._memory = None
            return
        if self._memory is None:
            self._memory = BytesIO(bytes(self.room))  # pages that were never written take no memory
        self._memory.write(data)

    def image(self) -> Image:
        """Return the picture. Raises `ValueError` for what is no whole picture."""
        media = self._media.finish()
        memory, self._memory = self._memory or BytesIO(), None
        memory.truncate()
        return describe_image(media, data=memory.getvalue())
