"""What picture bytes are: type, size in pixels, and whether they are complete. Headers are read, nothing is decoded."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from nebula_async.images.avif import read_avif
from nebula_async.images.gif import read_gif
from nebula_async.images.jpeg import read_jpeg
from nebula_async.images.pieces import Pieces
from nebula_async.images.png import read_png
from nebula_async.images.webp import read_webp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nebula_async.images.limits import Size
    from nebula_async.images.pieces import Steps

EXTENSIONS: Mapping[str, tuple[str, ...]] = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/webp": (".webp",),
    "image/gif": (".gif",),
    "image/avif": (".avif",),
}
"""The file name extensions of each media type; the first is the preferred one."""

SUFFIXES = tuple(suffix for suffixes in EXTENSIONS.values() for suffix in suffixes)

_HEAD_BYTES = 1024
"""So much is kept of what has not been recognised, to say what it is. The longest magic is shorter."""


@frozen
class Media:
    """What picture bytes are: media type, preferred extension (with its dot), width and height in pixels."""

    media_type: str
    extension: str
    width: int
    height: int


def read_media(data: bytes | memoryview) -> Media:
    """Return the type and size of a complete PNG, JPEG, WebP, GIF or AVIF: what `MediaReader` says of it in one piece.

    Raises `ValueError` with one short reason ("it is a PNG cut short"), and nothing else, whatever the bytes are.
    Takes some milliseconds for 30 MB, mostly for checksums.
    """
    reader = MediaReader()
    reader.feed(data)
    return reader.finish()


@define(eq=False)
class MediaReader:
    """Reads one picture while it arrives, in pieces of any size; the answer does not depend on them.

    It keeps a kilobyte at most, and no piece: the memory of a piece can be used again when `feed` has returned. What
    follows the end of a picture is ignored, as by decoders. Once refused, a picture is refused by every further call.
    """

    _head: bytes = field(default=b"", init=False)
    _pieces: Pieces = field(factory=Pieces, init=False)
    _steps: Steps[Media] | None = field(default=None, init=False)
    _media: Media | None = field(default=None, init=False)
    _problem: str | None = field(default=None, init=False)

    def feed(self, data: bytes | memoryview) -> None:
        """Read the next piece. Raises `ValueError` as soon as it is known to be no picture, damaged, or too large."""
        if self._problem is not None:
            raise ValueError(self._problem)
        if self._media is None:
            self._read(data)

    def finish(self) -> Media:
        """Return what the picture is. Raises `ValueError` if it was refused, is no picture, or is cut short."""
        self._pieces.ended = True
        self.feed(b"")
        if self._media is None:  # another error went through `feed`: memory was short, a key was pressed
            raise ValueError("it is only partly read, for an error broke off the reading")
        return self._media

    def _read(self, data: bytes | memoryview) -> None:
        try:
            if self._steps is None:
                data = self._recognise(data)
            if self._steps is not None:
                self._pieces.show(data, self._steps)
        except StopIteration as end:
            self._media = end.value
        except ValueError as refusal:
            self._problem = str(refusal)
            raise

    def _recognise(self, data: bytes | memoryview) -> bytes | memoryview:
        """Read the head as soon as its magic is there; return what of the data is behind the head."""
        room = _HEAD_BYTES - len(self._head)
        self._head += bytes(data[:room])
        form = next((form for form in _FORMS if form.magic.match(self._head)), None)
        if form is not None:
            self._steps = _read(form, self._pieces)
            self._pieces.show(self._head, self._steps)
        elif self._pieces.ended or len(self._head) == _HEAD_BYTES:
            raise ValueError(f"it is no picture ({_describe(self._head)})")
        return memoryview(data)[room:]


def _describe(head: bytes) -> str:
    text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if not text:
        return "only white space" if head else "empty"
    if b"<svg" in text:
        return "SVG"
    if b"<html" in text or text.startswith(b"<!doctype html"):
        return "HTML"
    return "text" if _is_text(head) else f"unknown bytes beginning {head[:4].hex(' ')}…"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut in two
    except UnicodeDecodeError:
        return False
    return "".join(text.split()).isprintable()


@frozen
class _Form:
    name: str
    media_type: str
    magic: re.Pattern[bytes]
    read: Callable[[Pieces], Steps[Size]]


_FORMS = (
    _Form("a PNG", "image/png", re.compile(rb"\x89PNG\r\n\x1a\n"), read_png),
    _Form("a JPEG", "image/jpeg", re.compile(rb"\xff\xd8\xff"), read_jpeg),
    _Form("a WebP", "image/webp", re.compile(rb"(?s)RIFF....WEBP"), read_webp),
    _Form("a GIF", "image/gif", re.compile(rb"GIF8[79]a"), read_gif),
    _Form("an AVIF", "image/avif", re.compile(rb"(?s)....ftyp(?:....){0,16}?avi[fs]"), read_avif),  # any of its brands
)


def _read(form: _Form, pieces: Pieces) -> Steps[Media]:
    try:
        width, height = yield from form.read(pieces)
    except EOFError:  # something was to follow, and the bytes are over
        raise ValueError(f"it is {form.name} cut short") from None
    return Media(form.media_type, EXTENSIONS[form.media_type][0], width, height)
