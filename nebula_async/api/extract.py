"""A reply's body: its JSON, and the picture bytes in its base64."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Generic
from uuid import uuid4

from attrs import define, field, frozen

from nebula_async.api.base64_stream import WHITE_SPACE, Base64Stream, W
from nebula_async.api.cut_json import close_json
from nebula_async.json_bounds import has_more_lists, is_flat

MAX_DEPTH = 20

MAX_JSON_BYTES = 2**20
MAX_KEYS = 10_000
MAX_LOOKS = 5_000
MAX_LISTS = 100_000
"""What there may be beside the pictures: read, JSON takes many times its size, empty lists and objects the most."""

MAX_SALVAGED = 2**17
"""So much JSON may be beside the pictures of a body that broke off: it is looked at token by token."""

MOST_PICTURES = 1_000
"""Of a reply; a hundred times as many as may be asked for."""

JSON_STEP = 4 * 1024
PICTURE_STEP = 256 * 1024
"""How much of a piece is looked at in one go: a picture may begin or end within it."""

BACKSLASH = ord("\\")
KEY_END = re.compile(rb'"[ \t\r\n]*:')

PICTURE_KEYS = {"b64_json", "image_b64", "image_file"}
MAYBE_KEY = re.compile(
    rb"(?:b64_json|image_b64|image_file)|(?=[a-z0-9_]{0,9}\\)(?:[a-z0-9_]|\\u00[0-9A-Fa-f]{2}){8,10}"
)
OTHER_STRINGS = re.compile(rb'(?:[^"]*+"(?:"|(?!(?:%b)")[^"\\]*+(?:\\.[^"\\]*+)*+"))*+' % MAYBE_KEY.pattern, re.DOTALL)
"""Whole strings and what lies between them, up to one that is open, or may be the key of a picture."""


@frozen
class Cut(Generic[W]):
    """A picture of a body: what its bytes were written to, if it has any, and why its base64 is refused, if it is."""

    writer: W | None
    problem: str | None


@frozen
class Extracted(Generic[W]):
    """The JSON of a body, a mark in place of each picture's base64, and the pictures by their marks."""

    value: Any
    pictures: Mapping[str, Cut[W]]


@define(eq=False)
class Extractor(Generic[W]):
    """Reads a body that arrives in pieces: decodes its pictures into writers, and keeps the JSON beside them.

    A picture is each string under the key `b64_json`, `image_b64` or `image_file`, wherever that is. One whose base64
    is refused does not spoil the others. Of equal keys the last wins, and the others' marks are nowhere in the value.
    """

    _open_writer: Callable[[], W]
    problem: str | None = field(default=None, init=False)
    _json: bytearray = field(factory=bytearray, init=False)
    _done: int = field(default=0, init=False)  # how much of it was looked at
    _string: int | None = field(default=None, init=False)  # where the text of an open string starts
    _is_escaped: bool = field(default=False, init=False)  # what comes next in it
    _key_end: int | None = field(default=None, init=False)  # behind the last string, if that may be a picture's key
    _looked_at: int = field(default=0, init=False)  # strings that might have been one, or were cut by a step
    _picture: Base64Stream[W] | None = field(default=None, init=False)  # an open string that is one
    _cuts: dict[str, Cut[W]] = field(factory=dict, init=False)
    _mark: str = field(factory=lambda: uuid4().hex, init=False)  # nobody who writes a reply can know it

    def feed(self, piece: bytes | memoryview) -> None:
        """Take the next piece, which may be overwritten afterwards.

        Never raises because of what the body holds; `problem` says why no more of it is taken. What a writer raises
        passes through, and nothing can be fed or finished then.
        """
        view = memoryview(piece)
        while len(view) and self.problem is None:
            taken = self._read_json(view) if self._picture is None else self._read_picture(view, self._picture)
            view = view[taken:]

    @property
    def json_bytes(self) -> int:
        """How much JSON there is beside the pictures so far."""
        return len(self._json)

    def said(self, most: int) -> bytes:
        """Return so many bytes of that as they came, the number of each picture in its place."""
        return bytes(self._json[:most]).replace(self._mark.encode(), b"picture ")

    def finish(self) -> Extracted[W]:
        """Return what was in the body. Raises `ValueError` where it is no JSON, or there is more than belongs in it."""
        if self.problem is not None:
            raise ValueError(self.problem)
        return Extracted(parse_json(self._json), MappingProxyType(self._cuts))

    def salvage(self) -> Extracted[W]:
        """Return what there is of a body that broke off: its JSON up to the last whole value, and the pictures whose
        base64 was read to its closing quote. Raises as `finish` does.
        """
        if self.problem is not None:
            raise ValueError(self.problem)
        if len(self._json) > MAX_SALVAGED:
            raise ValueError(f"it broke off, and there are more than {MAX_SALVAGED} bytes beside its pictures")
        return Extracted(parse_json(close_json(self._json)), MappingProxyType(self._cuts))

    def _read_json(self, view: memoryview) -> int:
        known = len(self._json)
        self._json += view[:JSON_STEP]
        while self._done < len(self._json) and self._picture is None and self.problem is None:
            if self._string is None:
                self._find_string()
            else:
                self._find_end(self._string)
        taken = self._done - known
        if self._picture is not None:
            self._json[self._done :] = self._name().encode()
            self._done = len(self._json)
        if len(self._json) > MAX_JSON_BYTES:
            self.problem = f"there are more than {MAX_JSON_BYTES} bytes beside its pictures"
        return taken

    def _find_string(self) -> None:
        if self._key_end is None and (others := OTHER_STRINGS.match(self._json, self._done)):
            self._done = others.end()
        quote = self._json.find(b'"', self._done)
        self._done = quote + 1 or len(self._json)
        if quote < 0:
            return
        if self._key_end is not None and self._json[self._key_end : quote].strip(WHITE_SPACE) == b":":
            self._open_picture()
        else:
            self._string = self._done
        self._key_end = None

    def _find_end(self, start: int) -> None:
        quote = self._closing_quote(self._json[self._done :])
        if quote < 0:
            self._done = len(self._json)
            return
        end = self._done + quote
        self._string, self._done = None, end + 1
        self._looked_at += 1
        if self._looked_at > MAX_LOOKS:
            self.problem = f"there are more than {MAX_LOOKS} texts in it that may be keys of pictures"
        is_key = MAYBE_KEY.fullmatch(self._json, start, end) and _unescaped(self._json[start:end]) in PICTURE_KEYS
        self._key_end = self._done if is_key else None

    def _closing_quote(self, text: memoryview | bytearray) -> int:
        """Return where the open string ends in what comes next, or -1 where it goes on.

        What follows a string that ends early is not looked at: there may be a thousand of them in one piece.
        """
        starts = range(0, len(text), JSON_STEP)
        found = ((start, self._quote_in(bytes(text[start : start + JSON_STEP]))) for start in starts)
        return next((start + quote for start, quote in found if quote >= 0), -1)

    def _quote_in(self, text: bytes) -> int:
        quote = text.find(b'"')
        if self._is_escaped or (quote and text[max(quote, 0) - 1] == BACKSLASH):
            text = b"_" + text[1:] if self._is_escaped else text
            text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
            quote = text.find(b'"')
            self._is_escaped = quote < 0 and text.endswith(b"\\")
        return quote

    def _open_picture(self) -> None:
        if len(self._cuts) == MOST_PICTURES:
            self.problem = f"there are more than {MOST_PICTURES} pictures in it"
        self._picture = Base64Stream(self._open_writer)

    def _read_picture(self, view: memoryview, picture: Base64Stream[W]) -> int:
        step = view[:PICTURE_STEP]
        if picture.feed_plain(step):
            return len(step)
        quote = self._closing_quote(step)
        picture.feed(step if quote < 0 else step[:quote])
        if quote < 0:
            return len(step)
        self._close_picture(picture)
        return quote + 1

    def _close_picture(self, picture: Base64Stream[W]) -> None:
        picture.finish()
        self._cuts[self._name()] = Cut(picture.writer, picture.problem)
        self._json += b'"'
        self._done, self._picture = len(self._json), None

    def _name(self) -> str:
        return f"{self._mark}{len(self._cuts)}"


def _unescaped(key: bytearray) -> str:
    text = key.decode("ascii")
    return json.loads(f'"{text}"') if "\\" in text else text


def parse_json(body: bytes | bytearray) -> Any:
    """Return the JSON of a body: UTF-8 whatever the headers say, with or without a BOM.

    Raises `ValueError`, also where there is more of it than belongs beside pictures.
    """
    if len(body) > MAX_JSON_BYTES:
        raise ValueError(f"there are more than {MAX_JSON_BYTES} bytes of it")
    if sum(1 for _ in islice(KEY_END.finditer(body), MAX_KEYS + 1)) > MAX_KEYS:
        raise ValueError(f"there are more than {MAX_KEYS} keys in it")
    if has_more_lists(body, MAX_LISTS):
        raise ValueError(f"there are more than {MAX_LISTS} lists and objects in it")
    try:
        return json.loads(body.decode("utf-8-sig"))
    except RecursionError:
        problem = "the JSON is nested too deeply"
    except ValueError as error:
        problem = str(error)
    raise ValueError(problem)  # not from the decoder's own error, which holds the whole text and maybe a picture


def flat_enough(value: Any) -> Any:
    """Return a JSON value that goes on to users, or `None` where it is nested too deeply to be pickled or printed."""
    return value if is_flat(value, MAX_DEPTH) else None
