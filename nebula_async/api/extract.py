"""A reply's body: its JSON, and the picture bytes in its base64."""

from __future__ import annotations

import json
from typing import Any

import pybase64

URL_SAFE = bytes.maketrans(b"-_", b"+/")
WHITE_SPACE = b" \t\r\n"

MAX_DEPTH = 20


def parse_json(body: bytes) -> Any:
    """Return the JSON of a body: UTF-8 whatever the headers say, with or without a BOM. Raises `ValueError`."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def decode_base64(text: str) -> bytes:
    """Return the bytes of a `b64_json` value. Raises `ValueError` saying what is wrong with it.

    Accepted are a data URL, line breaks, the URL-safe alphabet and missing padding; anything else that strict base64
    does not allow is refused: a lax decoder drops junk, and turns what it does not know into nothing.
    """
    payload = text.partition(",")[2] if text.startswith("data:") else text
    letters = payload.encode("ascii", errors="replace").translate(URL_SAFE, WHITE_SPACE)
    if not letters:
        raise ValueError("the base64 is empty")
    padded = letters + b"=" * (-len(letters) % 4)
    try:
        data = pybase64.b64decode(padded, validate=True)
    except ValueError as error:
        raise ValueError("the base64 has characters or padding that do not belong there") from error
    if pybase64.b64encode(data[-(len(data) % 3 or 3) :]) != padded[-4:]:
        raise ValueError("the base64 ends in stray bits: it was cut or altered")
    return data


def flat_enough(value: Any) -> Any:
    """Return a JSON value that goes on to users, or `None` where it is nested too deeply to be pickled or printed."""
    return value if _fits(value, MAX_DEPTH) else None


def _fits(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_fits(each, depth - 1) for each in inner)
