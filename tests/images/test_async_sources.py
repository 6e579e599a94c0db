"""Pictures that arrive from an async iterator: they are collected once, within bounds of size and time."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import anyio
import pytest
from PIL import Image as Pillow

from nebula_async.errors import InvalidRequestError
from nebula_async.images.sources import MAX_BYTES, read_sources
from nebula_async.images.uploads import Held
from nebula_async.requests import ImageRequest

pytestmark = pytest.mark.anyio


def picture() -> bytes:
    """Return a small picture."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 16), "red").save(buffer, "PNG")
    return buffer.getvalue()


PNG = picture()


class Pieces:
    """An async iterator of these pieces; an exception among them is raised. Knows whether it was closed."""

    def __init__(self, *pieces: object) -> None:
        self.pieces = iter(pieces)
        self.is_closed = False

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> object:
        """Return the next piece."""
        piece = next(self.pieces, StopAsyncIteration())
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def aclose(self) -> None:
        """Take note."""
        self.is_closed = True


class Chunked:
    """Something like the body of a request in a web framework: async iterable, and read by a coroutine."""

    async def read(self) -> bytes:
        """Return the picture."""
        return PNG

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the picture in three pieces, one of them empty."""
        for piece in (PNG[:10], b"", PNG[10:]):
            yield piece


async def generated() -> AsyncIterator[bytes]:
    """Yield a picture byte by byte."""
    for value in PNG:
        yield bytes([value])


async def read(source: object, mask: object = None) -> list[bytes]:
    """Read a picture, and its mask, from sources that a request takes."""
    request = ImageRequest("a cat", model="m", image=source, mask=mask)
    contents = [each.content for each in await read_sources(request.image, request.mask)]
    return [content.data for content in contents if isinstance(content, Held)]


@pytest.mark.parametrize("make", [generated, Chunked, lambda: Pieces(PNG)], ids=["generator", "iterable", "iterator"])
async def test_async_iterators_are_pictures(make):
    """Whatever can be iterated in async code and gives bytes is a picture, and a mask, in pieces of any size."""
    assert [PNG, PNG] == await read(make(), make())


@pytest.mark.parametrize(
    ("pieces", "problem"),
    [
        ([], "it has nothing left to give; give its bytes to use them more than once"),
        ([PNG, "text"], "reading it gives str instead of bytes"),
        ([bytearray(PNG)], "reading it gives bytearray instead of bytes"),
        ([None], "reading it gives NoneType instead of bytes"),
        ([PNG[:9], RuntimeError("lost")], "lost"),
        ([PNG[:9], OSError(5, "Input/output error")], "Input/output error"),
        ([PNG[:-20]], "it is a PNG cut short"),
        ([b"no picture"], "it is no picture (text)"),
        ([PNG, *[bytes(2**20)] * 48], f"it is larger than {MAX_BYTES >> 20} MiB"),
    ],
    ids=["empty", "text", "bytearray", "None", "raises", "system", "cut", "no picture", "large"],
)
async def test_what_is_wrong_with_an_iterator_is_one_clear_error(pieces, problem):
    """An iterator that raises, gives something else than bytes or is too large is refused by name, and is closed."""
    source = Pieces(*pieces)
    with pytest.raises(InvalidRequestError) as caught:
        await read(source)

    assert str(caught.value).startswith(f"image cannot be used: {problem}")
    assert source.is_closed


async def test_an_iterator_is_used_once():
    """The second use of one generator says why there is nothing in it."""
    source = generated()
    await read(source)
    with pytest.raises(InvalidRequestError, match="give its bytes to use them more than once"):
        await read(source)


async def test_an_iterator_that_never_waits_can_be_stopped():
    """One that has no end and gives nothing cannot hold the event loop."""
    turns = 0

    async def nothing() -> AsyncIterator[bytes]:
        nonlocal turns
        while True:
            turns += 1
            if turns == 100:
                scope.cancel()
            yield b""

    with anyio.CancelScope() as scope:
        await read(nothing())

    assert (True, 100) == (scope.cancelled_caught, turns)


async def test_a_cancelled_iterator_is_closed():
    """Cancellation comes out of the iterator's own wait, and its clean-up is run."""
    is_closed = False

    async def waiting() -> AsyncIterator[bytes]:
        nonlocal is_closed
        try:
            scope.cancel()
            await anyio.sleep_forever()
            yield PNG
        finally:
            is_closed = True

    with anyio.CancelScope() as scope:
        await read(waiting())

    assert is_closed


async def test_a_wrong_image_is_said_before_its_mask_is_asked_for():
    """Nothing is taken from the iterator of a mask whose image cannot be used."""
    mask = Pieces(PNG)
    with pytest.raises(InvalidRequestError, match="image cannot be used"):
        await read(Pieces(b"no picture"), mask)

    assert PNG == await anext(mask)
