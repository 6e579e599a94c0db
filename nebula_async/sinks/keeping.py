"""Where the pictures of one reply are kept while it arrives: in memory, or in a sink."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import anyio
from attrs import define, evolve, field

from nebula_async.api.replies import Picture
from nebula_async.errors import SinkError
from nebula_async.images.arriving import ArrivingPicture
from nebula_async.images.image import Image, describe_image
from nebula_async.images.media import MediaReader
from nebula_async.sinks.sink import Sink, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_PIECE, SMALLEST_PIECE = 256 * 1024, 16 * 1024
STREAMED_BYTES = 2**20
"""What the pieces of all pictures on their way into sinks may have: with many of them, pieces are smaller. In memory a
piece takes no room of its own. Over TLS on asyncio pieces are as large as they come.
"""

MOST_SECONDS, DISCARD_SECONDS = 60.0, 10.0
"""How long a sink may take for a piece, for the last of a reply that is here, and to forget one."""

logger = logging.getLogger(__name__)


class Keeping(Protocol):
    """Keeps the pictures of one reply."""

    def begin(self) -> None:
        """Take note that the reply begins to arrive."""
        ...

    def open(self, room: int) -> Picture:
        """Return what takes one more picture, of about so many bytes, 0 where that is not known."""
        ...

    @property
    def piece_bytes(self) -> int:
        """How much of a reply should come at once."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be written until `drain` has returned."""
        ...

    async def drain(self) -> None:
        """Make room. Raises `SinkError`."""
        ...

    async def publish(self, images: tuple[Image, ...]) -> tuple[Image, ...]:
        """Return the images that are to be kept, each with where it is. Raises `SinkError`."""
        ...

    async def discard(self, said: bytes = b"") -> None:
        """Let go of what was not published; `said` is what came beside it."""
        ...


class InMemory:
    """Keeps pictures as the bytes of their images."""

    piece_bytes = LARGEST_PIECE
    is_full = False

    def begin(self) -> None:
        """Begin."""

    def open(self, room: int) -> Picture:
        """Return a picture in memory."""
        return ArrivingPicture(room)

    async def drain(self) -> None:
        """Go on."""

    async def publish(self, images: tuple[Image, ...]) -> tuple[Image, ...]:
        """Return them: they are where they belong."""
        return images

    async def discard(self, said: bytes = b"") -> None:
        """Let go of nothing: who asked holds it."""


def in_memory(_number: int = 0) -> Keeping:
    """Keep picture number so and so of a reply in memory."""
    return InMemory()


@define
class Streaming:
    """How many replies are on their way into sinks now."""

    replies: int = 0

    @property
    def piece_bytes(self) -> int:
        """How large the pieces of each may be."""
        return min(max(STREAMED_BYTES // max(self.replies, 1), SMALLEST_PIECE), LARGEST_PIECE)


@define(eq=False)
class IntoSink:
    """Streams pictures into a sink, the first one under `key`, those after it under names like it."""

    sink: Sink
    key: str
    streaming: Streaming
    _pictures: dict[str, _StreamedPicture] = field(factory=dict, init=False)
    _is_counted: bool = field(default=False, init=False)

    def begin(self) -> None:
        """Count the reply among those that share the room for pieces."""
        self.streaming.replies += 1
        self._is_counted = True

    def open(self, room: int) -> Picture:  # noqa: ARG002 - nothing is kept here
        """Return a picture whose pieces the sink takes one by one."""
        key = f"{self.key}-{len(self._pictures)}" if self._pictures else self.key
        picture = self._pictures[key] = _StreamedPicture(key)
        return picture

    @property
    def piece_bytes(self) -> int:
        """How much should come at once."""
        return self.streaming.piece_bytes

    @property
    def is_full(self) -> bool:
        """Whether a piece waits for the sink."""
        return any(picture.pieces for picture in self._pictures.values())

    async def drain(self) -> None:
        """Let the sink take what waits for it."""
        for picture in list(self._pictures.values()):  # the next one may begin to arrive meanwhile
            if picture.pieces:
                with _as_sink_error(), anyio.fail_after(MOST_SECONDS):
                    await picture.drain(self.sink)

    async def publish(self, images: tuple[Image, ...]) -> tuple[Image, ...]:
        """Publish the pictures of these images; those at URLs stay as they are."""
        with anyio.move_on_after(MOST_SECONDS, shield=True):  # no deadline of the call comes between: it is paid for
            await self.drain()
            return tuple([await self._published(image) for image in images])
        raise SinkError(f"the sink did not take the picture within {MOST_SECONDS:g} s")

    async def discard(self, said: bytes = b"") -> None:  # noqa: ARG002 - a sink takes pictures
        """Let the sink forget what was not published; that it fails to is no news to a call."""
        self.streaming.replies -= self._is_counted
        self._is_counted = False
        with anyio.move_on_after(DISCARD_SECONDS, shield=True):
            for picture in self._pictures.values():
                await _discard(picture)

    async def _published(self, image: Image) -> Image:
        picture = self._pictures.get(image.stored or "")
        if picture is None:
            return image
        with _as_sink_error():
            return await picture.publish(image)


async def _discard(picture: _StreamedPicture) -> None:
    try:
        await picture.discard()
    except Exception:
        logger.exception("a sink failed to discard")


@contextmanager
def _as_sink_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        text = f"the sink did not keep the picture: {type(error).__name__}: {error}"
        raise SinkError(text) from error


@define(eq=False)
class _StreamedPicture:
    key: str
    pieces: list[bytes] = field(factory=list, init=False)
    _media: MediaReader = field(factory=MediaReader, init=False)
    _writer: Writer | None = field(default=None, init=False)

    def write(self, data: bytes | memoryview, /) -> None:
        try:
            self._media.feed(data)
        except ValueError:
            self.pieces.clear()
        else:
            self.pieces.append(bytes(data))

    def image(self) -> Image:
        return describe_image(self._media.finish(), stored=self.key)

    async def drain(self, sink: Sink) -> None:
        if self._writer is None:
            self._writer = await sink.open(self.key)
        count = len(self.pieces)
        await self._writer.write(self.pieces[0] if count == 1 else b"".join(self.pieces))
        del self.pieces[:count]  # only now: a call that ends meanwhile ends because of the sink

    async def publish(self, image: Image) -> Image:
        if self._writer is None:
            raise RuntimeError("a picture is published once, after it was written")
        place = await self._writer.publish(image.media_type or "", image.extension or "")
        self._writer = None
        return evolve(image, stored=place)

    async def discard(self) -> None:
        self.pieces.clear()
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.discard()
