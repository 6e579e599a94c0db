"""What becomes of a reply, or of a download, while it arrives: pictures, in memory or in a sink."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
from attrs import define, evolve, field

from nebula_async.api.messages import Reply
from nebula_async.api.replies import Answer, AnswerReader, Picture
from nebula_async.images.image import Image
from nebula_async.offload import offload
from nebula_async.sinks.keeping import Keeping

Found = TypeVar("Found")

WORTH_A_THREAD = 16 * 1024
"""JSON of this size takes as long to read as handing it to a thread does."""

SAID_BYTES = 64 * 1024
LONGEST_SECRET = 8 * 1024
"""So much is kept of what a reply of no use said; where it is cut, a secret may be, too."""


@define(eq=False)
class AnswerArrival:
    """Reads the reply to a request for pictures; `conceal` takes what nobody may read out of what it said."""

    asked: int
    keeping: Keeping
    conceal: Callable[[bytes], bytes] = bytes
    feed: Callable[[bytes | memoryview], None] = field(init=False)
    """Decodes a piece where it lies: at a piece's size that takes less than handing it to a thread would."""

    _room: int = field(default=0, init=False)
    _reader: AnswerReader[Picture] = field(init=False)
    _is_published: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._reader = AnswerReader(lambda: self.keeping.open(self._room))
        self.feed = self._reader.feed

    def begin(self, size: int | None) -> None:
        """Expect so much for each picture: four letters of base64 are three bytes."""
        self._room = 0 if size is None else size // 4 * 3 // self.asked
        self.keeping.begin()

    @property
    def piece_bytes(self) -> int:
        """How much should come at once."""
        return self.keeping.piece_bytes

    @property
    def is_full(self) -> bool:
        """Whether the pictures have to be taken before more of them comes."""
        return self.keeping.is_full

    async def drain(self) -> None:
        """Let the pictures be taken. Raises `SinkError`."""
        await self.keeping.drain()

    async def finish(self, reply: Reply) -> Answer:
        """Return the answer, its pictures where they belong. Raises what `AnswerReader` does, and `SinkError`."""
        return await self._published(await self._read(partial(self._reader.finish, reply)))

    async def salvage(self, reply: Reply) -> Answer | None:
        """Return the answer of a reply that broke off behind its last picture, as `finish` does. Raises `SinkError`."""
        answer = await self._read(partial(self._reader.salvage, reply))
        return None if answer is None else await self._published(answer)

    async def discard(self) -> None:
        """Let go of what belongs to no answer; what was said without one may be kept for who paid for it."""
        await self.keeping.discard(b"" if self._is_published else self._said())

    def _said(self) -> bytes:
        most = SAID_BYTES + LONGEST_SECRET
        said = self.conceal(self._reader.said(most))
        is_cut = self._reader.json_bytes > most
        return said[: max(len(said) - LONGEST_SECRET, 0)] if is_cut else said[:SAID_BYTES]

    async def _read(self, read: Callable[..., Found]) -> Found:
        read = partial(read, asked=self.asked, now=time.time())
        if self._reader.json_bytes <= WORTH_A_THREAD:
            return read()
        with anyio.CancelScope(shield=True):
            found = await offload(read)
        return found  # noqa: RET504 - for all that mypy knows, a scope swallows exceptions

    async def _published(self, answer: Answer) -> Answer:
        images = await self.keeping.publish(answer.images)
        self._is_published = True
        return answer if images is answer.images else evolve(answer, images=images)


@define(eq=False)
class PictureArrival:
    """Reads the download of one picture."""

    keeping: Keeping
    _picture: Picture = field(init=False)

    def begin(self, size: int | None) -> None:
        """Expect so much."""
        self.keeping.begin()
        self._picture = self.keeping.open(size or 0)

    def feed(self, piece: bytes | memoryview, /) -> None:
        """Take a piece."""
        self._picture.write(piece)

    @property
    def piece_bytes(self) -> int:
        """How much should come at once."""
        return self.keeping.piece_bytes

    @property
    def is_full(self) -> bool:
        """Whether the picture has to be taken before more of it comes."""
        return self.keeping.is_full

    async def drain(self) -> None:
        """Let the picture be taken. Raises `SinkError`."""
        await self.keeping.drain()

    async def finish(self, reply: Reply) -> Image:  # noqa: ARG002 - its headers say nothing of a picture
        """Return the picture. Raises `ValueError` for what is no whole picture, and `SinkError`."""
        (image,) = await self.keeping.publish((self._picture.image(),))
        return image

    async def salvage(self, reply: Reply) -> Image | None:  # noqa: ARG002 - a download is repeated for nothing
        """Return nothing."""
        return None

    async def discard(self) -> None:
        """Let go of what is no picture."""
        await self.keeping.discard()
