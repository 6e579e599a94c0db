"""The pictures of one reply, or one that is fetched, on their way into the spool."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress

import anyio
from attrs import define, field

from nebula_async.api.replies import Picture
from nebula_async.bulk.spool import PartWriter, Received, Spool
from nebula_async.errors import SinkError
from nebula_async.images.image import Image, describe_image
from nebula_async.images.media import MediaReader
from nebula_async.offload import on_disk
from nebula_async.sinks.keeping import MOST_SECONDS, SMALLEST_PIECE, Streaming

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}
SECONDS_BETWEEN_TRIES = 1.0


@define(eq=False)
class Receiving:
    """Keeps the pictures of a reply to attempt `n` for an item in the spool: a `Keeping`.

    A full disk is waited for as long as a sink may take; `on_full` is told, so that nothing more is bought. What was
    received is in `received`, by the path of its part. Nothing is removed here: that is for who knows how it ended.
    """

    spool: Spool
    seq: int
    n: int
    streaming: Streaming
    on_full: Callable[[], None]
    first: int | None = None
    """The number of the picture, where it is fetched alone: then there is no reply to be noted."""

    received: dict[str, Received] = field(factory=dict, init=False)
    _pictures: list[_SpooledPicture] = field(factory=list, init=False)
    _is_counted: bool = field(default=False, init=False)
    _said: bytes = field(default=b"", init=False)

    def begin(self) -> None:
        """Count the reply among those that share the room for pieces."""
        self.streaming.replies += 1
        self._is_counted = True

    def open(self, room: int) -> Picture:  # noqa: ARG002 - nothing is kept here
        """Return a picture whose pieces go into a part file."""
        path = self.spool.part(self.seq, self.n, (self.first or 0) + len(self._pictures))
        picture = _SpooledPicture(PartWriter(path, self.spool.is_synced))
        self._pictures.append(picture)
        return picture

    @property
    def piece_bytes(self) -> int:
        """How much should come at once."""
        return self.streaming.piece_bytes

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the disk that it should be written before more comes."""
        return any(picture.waiting >= SMALLEST_PIECE for picture in self._pictures)

    async def drain(self) -> None:
        """Write what waits. Raises `SinkError`."""
        await self._patiently(self._flush)

    async def publish(self, images: tuple[Image, ...]) -> tuple[Image, ...]:
        """Note that the reply is complete; return its images, each stored as the path of its part."""
        with anyio.move_on_after(MOST_SECONDS, shield=True):  # no deadline of the call comes between: it is paid for
            await self._patiently(lambda: self._finish(images))
            return images
        raise _too_late()

    async def discard(self, said: bytes = b"") -> None:
        """Let go of the files; whether they are removed is decided by how the attempt ended."""
        self._said = said
        self.streaming.replies -= self._is_counted
        self._is_counted = False
        for picture in self._pictures:
            picture.writer.close()

    def keep_evidence(self) -> None:
        """Keep what came and is of no use, for who paid for it to look at, if the disk takes it."""
        with suppress(OSError):
            self.spool.keep_said(self.seq, self.n, self._said)
            self._flush()
        for picture in self._pictures:
            picture.writer.close()

    def remove(self) -> None:
        """Remove what came. What cannot be removed is left."""
        self.spool.discard(self.seq, self.n)

    async def _patiently(self, work: Callable[[], None]) -> None:
        with anyio.move_on_after(MOST_SECONDS):
            while True:
                try:
                    return await on_disk(work)
                except OSError as error:
                    if error.errno not in NO_ROOM | NO_DESCRIPTOR:
                        reason = f"{error.strerror or error} ({error.filename or self.spool.folder})"
                        text = f"the disk did not keep the picture: {reason}"
                        raise SinkError(text) from error
                    if error.errno in NO_ROOM:
                        self.on_full()
                await anyio.sleep(SECONDS_BETWEEN_TRIES)
        raise _too_late()

    def _flush(self) -> None:
        for picture in self._pictures:
            picture.flush()

    def _finish(self, images: Sequence[Image]) -> None:
        self._flush()
        wanted = {image.stored for image in images}
        for picture in self._pictures:
            if picture.place in wanted and picture.place not in self.received:
                picture.digest = picture.digest or picture.writer.finish()
        received = [self._received(image) for image in images]
        if self.first is None:
            self.spool.write_reply(self.seq, self.n, received)
        self.received = {str(one.part): one for one in received if one.part is not None}

    def _received(self, image: Image) -> Received:
        picture = next((picture for picture in self._pictures if picture.place == image.stored), None)
        if picture is None:
            return Received.at_url(image)
        return Received(
            part=picture.writer.path, sha256=picture.digest, bytes=picture.writer.size,
            media_type=image.media_type or "", extension=image.extension or "", width=image.width, height=image.height,
        )  # fmt: skip


def _too_late() -> SinkError:
    return SinkError(f"the disk had no room for the picture within {MOST_SECONDS:g} s")


@define(eq=False)
class _SpooledPicture:
    writer: PartWriter
    pieces: list[bytes] = field(factory=list, init=False)
    waiting: int = field(default=0, init=False)
    digest: str | None = field(default=None, init=False)
    _media: MediaReader = field(factory=MediaReader, init=False)

    @property
    def place(self) -> str:
        return str(self.writer.path)

    def write(self, data: bytes | memoryview, /) -> None:
        try:
            self._media.feed(data)
        except ValueError:  # what it is said to be is decided at its end; it is kept, as evidence
            if self.waiting + self.writer.size > EVIDENCE_BYTES:
                return
        self.pieces.append(bytes(data))
        self.waiting += len(data)

    def image(self) -> Image:
        return describe_image(self._media.finish(), stored=self.place)

    def flush(self) -> None:
        if self.pieces:
            taken = self.pieces[:]
            self.writer.write(taken)
            del self.pieces[: len(taken)]
            self.waiting -= sum(map(len, taken))


EVIDENCE_BYTES = 64 * 1024
"""So much is kept of what came and is no picture."""
