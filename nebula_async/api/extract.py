"""A reply's body: its JSON, and the picture bytes in its base64."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from itertools import islice
from typing import Any
from uuid import uuid4

import pybase64
from attrs import frozen

URL_SAFE = bytes.maketrans(b"-_", b"+/")
WHITE_SPACE = b" \t\r\n"

MAX_DEPTH = 20

MAX_JSON_BYTES = 2**20
MAX_KEYS = 10_000
"""What there may be beside the pictures: read, JSON takes many times its size."""

KEY_END = re.compile(rb'"[ \t\r\n]*:')
PICTURE_KEY = re.compile(rb'"(?:b64_json|image_b64|image_file)"[ \t\r\n]{0,20}:[ \t\r\n]{0,20}"\Z')
MOST_KEY_BYTES = 60

LONG_BYTES = 16 * 1024
STEP_BYTES = 128 * 1024

JUNK = "the base64 has characters or padding that do not belong there"

DATA_URL = re.compile(rb"data:[A-Za-z0-9/+.;=-]{0,100},")


@frozen
class Cut:
    """A body without its long base64, which `pictures` holds as it came, by the text that stands for it in `json`."""

    json: bytes
    pictures: Mapping[str, memoryview]


def cut_pictures(body: bytes) -> Cut:
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
    return Cut(b"".join([*pieces, body[done:]]), pictures)


def parse_json(body: bytes) -> Any:
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


def flat_enough(value: Any) -> Any:
    """Return a JSON value that goes on to users, or `None` where it is nested too deeply to be pickled or printed."""
    return value if _fits(value, MAX_DEPTH) else None


def _fits(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_fits(each, depth - 1) for each in inner)


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
    return body[end - 1] != ord("\\") and PICTURE_KEY.search(before) is not None


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
