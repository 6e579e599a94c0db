"""The base64 of one picture, as it stands in a JSON string that arrives in pieces, to its bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import pybase64
from attrs import define, field

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
URL_SAFE = bytes.maketrans(b"-_", b"+/")
WHITE_SPACE = b" \t\r\n"

SCHEME = "data:"
DATA_URL = re.compile(r"data:[ -+\--\[\]-~]{0,100},")  # printable ASCII up to the comma; a backslash is never right
MOST_PREFIX = 106
FIRST_BYTES = 128
"""Where a data URL's prefix is looked for, so that what follows it can be decoded where it lies."""

OPEN_ESCAPE = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
MOST_OPEN = 5

JUNK = "the base64 has characters or padding that do not belong there"


class PictureWriter(Protocol):
    """Where the bytes of a picture go, in order; an `io.BytesIO` is one."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


W = TypeVar("W", bound=PictureWriter)


@define(eq=False)
class Base64Stream(Generic[W]):
    """Decodes what stands between the quotes of a JSON string, and writes it as soon as it is known.

    Accepted are JSON's escapes, a data URL, line breaks, the URL-safe alphabet and missing padding; anything else that
    strict base64 does not allow is refused: a lax decoder drops junk, and turns what it does not know into nothing.
    Only the last few letters are kept. The writer is opened when there is something to write.
    """

    _open_writer: Callable[[], W]
    writer: W | None = field(default=None, init=False)
    problem: str | None = field(default=None, init=False)
    _prefix: str | None = field(default="", init=False)  # what may be a data URL's, until that is known
    _escape: bytes = field(default=b"", init=False)  # begun in what came last
    _letters: bytes = field(default=b"", init=False)  # up to four: the last ones may be padded, and no others
    _is_plain: bool = field(default=True, init=False)

    def feed_plain(self, text: memoryview) -> bool:
        """Decode text that is nothing but base64, where it lies; return `False`, with nothing taken, if it is not.

        What is taken holds no quote, so that nobody has to look for one.
        """
        if not self._is_plain or self._prefix is not None or self._escape or _is_other(text[-4:]):
            return False
        lead = -len(self._letters) % 4
        if len(text) <= lead:
            self._letters += text
            return True
        end = lead + (len(text) - lead - 1) // 4 * 4
        try:
            first, rest = _decode(self._letters + text[:lead]), _decode(text[lead:end])
        except ValueError:
            return False
        self._letters = bytes(text[end:])
        self._write(first + rest)  # a copy costs less than a second write
        return True

    def feed(self, text: memoryview) -> None:
        """Take what comes next in the string. What is wrong with it is the `problem`, after which nothing is taken."""
        while len(text) and self.problem is None:
            step = text if self._prefix is None else text[:FIRST_BYTES]
            text = text[len(step) :]
            if not self.feed_plain(step):
                self._feed_other(bytes(step))

    def finish(self) -> None:
        """Decode what was held back: the string has ended."""
        if self.problem is not None:
            return
        try:
            data = self._last()
        except ValueError as error:
            self.problem = str(error)
        else:
            self._write(data)

    def _feed_other(self, text: bytes) -> None:
        self._is_plain = self._prefix is not None  # with an escape or a line break there are others
        try:
            data = self._translated(text)
        except ValueError:
            self.problem, self._is_plain = JUNK, False
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if data:
            self.writer = self._open_writer() if self.writer is None else self.writer
            self.writer.write(data)

    def _translated(self, text: bytes) -> bytes:
        letters = self._letters + _letters(self._without_prefix(self._unescaped(text)))
        end = max(len(letters) - 1, 0) // 4 * 4
        self._letters = letters[end:]
        return _decode(letters[:end])

    def _unescaped(self, text: bytes) -> str:
        text = self._escape + text
        begun = OPEN_ESCAPE.search(text, max(len(text) - MOST_OPEN, 0))
        end = begun.start() if begun else len(text)
        self._escape = text[end:]
        unescaped: str = json.loads(f'"{str(text[:end], "ascii")}"')
        return unescaped

    def _without_prefix(self, text: str) -> str:
        """Return the text, or what follows a data URL's prefix in it; nothing as long as it may be part of one."""
        if self._prefix is None:
            return text
        text = self._prefix + text
        self._prefix = None
        if not text.startswith(SCHEME[: len(text)]):
            return text
        if found := DATA_URL.match(text):
            return text[found.end() :]
        if "," in text or len(text) > MOST_PREFIX:
            raise ValueError(JUNK)
        self._prefix = text
        return ""

    def _last(self) -> bytes:
        begun = self._prefix or ""
        letters = self._letters + _letters("" if begun.startswith(SCHEME) else begun)
        if not letters:
            raise ValueError("the base64 is empty")
        try:
            data = pybase64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
        except ValueError as error:
            raise ValueError(JUNK) from error
        if self._escape:
            raise ValueError(JUNK)
        if not pybase64.b64encode(data).startswith(letters):
            raise ValueError("the base64 ends in stray bits: it was cut or altered")
        return data


def _is_other(text: memoryview) -> bool:
    """Whether something else than base64 is in the text."""
    return bytes(text).translate(None, ALPHABET) != b""


def _letters(text: str) -> bytes:
    """Return the base64 of an unescaped text; whatever does not belong there stays in it."""
    return text.encode("ascii", errors="replace").translate(URL_SAFE, WHITE_SPACE)


def _decode(letters: bytes | memoryview) -> bytes:
    """Decode whole groups of four letters that are not the last ones, so that none may be padded."""
    data = pybase64.b64decode(letters, validate=True)
    if 4 * len(data) != 3 * len(letters):
        raise ValueError(JUNK)
    return data
