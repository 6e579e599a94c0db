"""What a reply's body means, read slowly and whole: what the extractor has to find in it, however it arrives."""

from __future__ import annotations

import base64
import json
import re
from io import BytesIO

from nebula_async.api.extract import Extracted, Extractor

PICTURE_KEYS = {"b64_json", "image_b64", "image_file"}
REFUSED = ("refused",)
"""Stands in a body's value where a picture's base64 is refused; its bytes stand where it is not."""

STRING = re.compile(rb'"((?:[^"\\]|\\.)*)("?)', re.DOTALL)
MARK = "a3f8c9 picture "


def read_whole(body: bytes) -> object:
    """Return the value of a body, its pictures decoded in their places. Raises `ValueError` if it is no JSON.

    A picture that is no JSON string, by an escape or a control character that JSON does not know, is refused alone.
    """
    pictures, pieces, done, key = {}, [], 0, None
    for found in STRING.finditer(body):
        text = string_value(found[1])
        if key and body[key.end() : found.start()].strip(b" \t\r\n") == b":":
            name = f"{MARK}{len(pictures)}"
            pictures[name] = REFUSED if text is None else decoded(text)
            pieces += [body[done : found.start() + 1], name.encode(), found[2]]
            done, key = found.end(), None
        else:
            key = found if text in PICTURE_KEYS else None
    return replaced(loads(b"".join([*pieces, body[done:]])), pictures)


def read_parsed(body: bytes) -> object:
    """Do the same by parsing the body first, as any client does. Raises `ValueError` if anything in it is no JSON."""
    return walked(loads(body))


def walked(value: object, key: str = "") -> object:
    """Return a value with its pictures decoded."""
    if isinstance(value, dict):
        return {name: walked(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [walked(inner) for inner in value]
    return decoded(value) if isinstance(value, str) and key in PICTURE_KEYS else value


def loads(body: bytes) -> object:
    """Parse JSON in UTF-8, with or without a BOM."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError from None


def string_value(raw: bytes) -> str | None:
    """Return what stands between two quotes, or `None` if it is no JSON string."""
    try:
        return json.loads(f'"{raw.decode()}"')
    except ValueError:
        return None


def decoded(text: str) -> bytes | tuple[str]:
    """Return the bytes of a picture's value."""
    if text.startswith("data:"):
        text = re.sub(r"^data:[\x20-\x2b\x2d-\x5b\x5d-\x7e]{0,100},", "", text)
    letters = re.sub(r"[ \t\r\n]", "", text).replace("-", "+").replace("_", "/")
    found = re.fullmatch(r"([A-Za-z0-9+/]+)(=*)", letters)
    if not found or len(found[1]) % 4 == 1 or len(found[2]) > -len(found[1]) % 4:
        return REFUSED
    data = base64.b64decode(found[1] + "=" * (-len(found[1]) % 4), validate=True)
    return data if base64.b64encode(data).decode().rstrip("=") == found[1] else REFUSED


def replaced(value: object, pictures: dict[str, object]) -> object:
    """Return a value with its pictures in place of their marks."""
    if isinstance(value, dict):
        return {name: replaced(inner, pictures) for name, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner, pictures) for inner in value]
    return pictures.get(value, value) if isinstance(value, str) else value


def extract(pieces: list[bytes]) -> Extracted[BytesIO]:
    """Feed an extractor from one buffer, which each piece overwrites."""
    extractor, buffer = Extractor(BytesIO), bytearray(max(map(len, pieces), default=0))
    for piece in pieces:
        buffer[: len(piece)] = piece
        extractor.feed(memoryview(buffer)[: len(piece)])
    buffer[:] = b"!" * len(buffer)
    return extractor.finish()


def read_pieces(pieces: list[bytes]) -> object:
    """Return what the extractor finds in a body, in the form of `read_whole`."""
    found = extract(pieces)
    pictures = {mark: REFUSED if cut.problem else cut.writer.getvalue() for mark, cut in found.pictures.items()}
    return replaced(found.value, pictures)


def result(read: object, *args: object) -> str:
    """Return what a reader returns, comparable also where it is not a number, or that it refuses."""
    try:
        return repr(read(*args))
    except ValueError:
        return "refused"


def split(body: bytes, places: list[int]) -> list[bytes]:
    """Split a body at some places of it."""
    ends = sorted({place % (len(body) + 1) for place in places})
    return [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]


def in_pieces_of(size: int, body: bytes) -> list[bytes]:
    """Split a body into pieces of a size."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def is_begun(part: object, whole: object) -> bool:
    """Whether a value is the beginning of another one."""
    if isinstance(part, dict) and isinstance(whole, dict):
        pairs = zip(part.items(), whole.items(), strict=False)
        return len(part) <= len(whole) and all(a == b and is_begun(x, y) for (a, x), (b, y) in pairs)
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(is_begun(x, y) for x, y in zip(part, whole, strict=False))
    return type(part) is type(whole) and part == whole
