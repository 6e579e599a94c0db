"""A reply's body: its JSON, and the picture bytes in its base64."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from itertools import islice
from types import MappingProxyType
from typing import Any, Generic
from uuid import uuid4

import pybase64
from attrs import define, field, frozen

from nebula_async.api.base64_stream import JUNK, URL_SAFE, WHITE_SPACE, Base64Stream, W

MAX_DEPTH = 20

MAX_JSON_BYTES = 2**20
MAX_KEYS = 10_000
"""What there may be beside the pictures: read, JSON takes many times its size."""

MOST_PICTURES = 1_000
"""Of a reply; a hundred times as many as may be asked for."""

JSON_STEP = 4 * 1024
PICTURE_STEP = 64 * 1024
"""How much of a piece is looked at in one go: a picture may begin or end within it."""

BACKSLASH = ord("\\")
KEY_END = re.compile(rb'"[ \t\r\n]*:')

PICTURE_KEYS = {"b64_json", "image_b64", "image_file"}
MAYBE_KEY = re.compile(rb"(?:[a-z0-9_]|\\u00[0-9A-Fa-f]{2}){8,10}")
OTHER_STRINGS = re.compile(rb'(?:[^"]*"(?!%b")[^"\\]*(?:\\.[^"\\]*)*")*' % MAYBE_KEY.pattern, re.DOTALL)
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

    def finish(self) -> Extracted[W]:
        """Return what was in the body. Raises `ValueError` where it is no JSON, or there is more than belongs in it."""
        if self.problem is not None:
            raise ValueError(self.problem)
        return Extracted(parse_json(self._json), MappingProxyType(self._cuts))

    def _read_json(self, view: memoryview) -> int:
        known = len(self._json)
        self._json += view[:JSON_STEP]
        while self._done < len(self._json) and self._picture is None:
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
        is_key = MAYBE_KEY.fullmatch(self._json, start, end) and _unescaped(self._json[start:end]) in PICTURE_KEYS
        self._key_end = self._done if is_key else None

    def _closing_quote(self, text: bytes | bytearray) -> int:
        """Return where the open string ends in what comes next, or -1 where it goes on."""
        quote = text.find(b'"')
        if self._is_escaped or text[max(quote, 0) - 1] == BACKSLASH:
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
        quote = self._closing_quote(bytes(step))
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
    try:
        return json.loads(body.decode("utf-8-sig"))
    except RecursionError:
        problem = "the JSON is nested too deeply"
    except ValueError as error:
        problem = str(error)
    raise ValueError(problem)  # not from the decoder's own error, which holds the whole text and maybe a picture


def flat_enough(value: Any) -> Any:
    """Return a JSON value that goes on to users, or `None` where it is nested too deeply to be pickled or printed."""
    return value if _fits(value, MAX_DEPTH) else None


def _fits(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_fits(each, depth - 1) for each in inner)


# What follows serves `cut_pictures` and `decode_base64`, and goes with them.

PICTURE_KEY_BEFORE = re.compile(rb'"(?:b64_json|image_b64|image_file)"[ \t\r\n]{0,20}:[ \t\r\n]{0,20}"\Z')
MOST_KEY_BYTES = 60

LONG_BYTES = 16 * 1024
STEP_BYTES = 128 * 1024

DATA_URL = re.compile(rb"data:[A-Za-z0-9/+.;=-]{0,100},")


@frozen
class CutBody:
    """A body without its long base64, which `pictures` holds as it came, by the text that stands for it in `json`."""

    json: bytes
    pictures: Mapping[str, memoryview]


def cut_pictures(body: bytes) -> CutBody:
    """Take the long base64 out of a body, so that it is decoded where it lies and is never a text of its own.

    Raises `ValueError` where more is left than belongs beside pictures.
    """
    spans = [span for span in _long_spans(body) if _is_picture(body, *span)]
    if len(body) - sum(end - start for start, end in spans) > MAX_JSON_BYTES:
        raise ValueError(f"there are more than {MAX_JSON_BYTES} bytes beside its pictures")
    view, mark = memoryview(body), uuid4().hex  # nobody who writes a reply can know it
    pieces, pictures, done = [], {}, 0
    for start, end in spans:
        name = f"{mark}{start}"
        pieces += [body[done:start], name.encode()]
        pictures[name] = view[start:end]
        done = end
    return CutBody(b"".join([*pieces, body[done:]]), pictures)


def decode_base64(text: str | memoryview) -> bytes:
    """Return the bytes of a `b64_json` value: a text that was read, or a view of it in the JSON.

    Raises `ValueError` saying what is wrong with it. Accepted are a data URL, line breaks, the URL-safe alphabet and
    missing padding; anything else that strict base64 does not allow is refused: a lax decoder drops junk, and turns
    what it does not know into nothing.
    """
    if isinstance(text, str):
        return _decode_pieces([text])
    prefix = DATA_URL.match(text)
    try:
        return _decode_strictly(text[prefix.end() :] if prefix else text)
    except ValueError:  # it is wrong, or in one of the other forms
        return _decode_pieces(_pieces(text))


def _long_spans(body: bytes) -> Iterator[tuple[int, int]]:
    """Find where much lies between two quotes; looking back from as far as that, many quotes take no time."""
    quote = body.find(b'"')
    while quote >= 0:
        far = quote + 1 + LONG_BYTES
        following = body.rfind(b'"', quote + 1, far)
        if following < 0:
            following = body.find(b'"', far)
            if following >= 0:
                yield quote + 1, following
        quote = following


def _is_picture(body: bytes, start: int, end: int) -> bool:
    """Whether what lies between two quotes is the whole value of a picture's key."""
    before = body[max(start - MOST_KEY_BYTES, 0) : start]
    return body[end - 1] != ord("\\") and PICTURE_KEY_BEFORE.search(before) is not None


def _pieces(text: memoryview) -> Iterator[str]:
    """Read a JSON string piece by piece, none of which ends within an escape: that has at most six characters."""
    start = 0
    while start < len(text):
        end = start + STEP_BYTES
        escape = bytes(text[end - 6 : end]).find(b"\\") if end < len(text) else -1
        end -= 6 - escape if escape >= 0 else 0
        try:
            yield json.loads('"' + str(text[start:end], "ascii") + '"')
        except ValueError as error:
            raise ValueError(JUNK) from error
        start = end


def _decode_pieces(texts: Iterable[str]) -> bytes:
    data, rest, is_first = BytesIO(), b"", True
    for text in texts:
        payload = text.partition(",")[2] if is_first and text.startswith("data:") else text
        letters = rest + payload.encode("ascii", errors="replace").translate(URL_SAFE, WHITE_SPACE)
        ready = max(len(letters) - 1, 0) // 4 * 4  # the last four may be padded, and no others
        if b"=" in letters[:ready]:
            raise ValueError(JUNK)
        data.write(_decode_strictly(letters[:ready]) if ready else b"")
        rest, is_first = letters[ready:], False
    data.write(_decode_strictly(rest + b"=" * (-len(rest) % 4)))
    return data.getvalue()


def _decode_strictly(letters: bytes | memoryview) -> bytes:
    if not letters:
        raise ValueError("the base64 is empty")
    try:
        data = pybase64.b64decode(letters, validate=True)
    except ValueError as error:
        raise ValueError(JUNK) from error
    if pybase64.b64encode(data[-(len(data) % 3 or 3) :]) != bytes(letters[-4:]):
        raise ValueError("the base64 ends in stray bits: it was cut or altered")
    return data
