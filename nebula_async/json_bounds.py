"""How much there may be in JSON that anyone may have written: read, it takes many times its size."""

from __future__ import annotations

import re

STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, or one that never ends: without that, each quote in it would be looked at to the end of the text."""


def is_flat(value: object, levels: int) -> bool:
    """Whether a JSON value has at most so many levels; far deeper ones can neither be pickled nor be shown."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(is_flat(each, levels - 1) for each in inner)


def has_more_lists(text: bytes | bytearray, most: int) -> bool:
    """Whether there are more lists and objects in a JSON text: empty ones take fifty times the size of their text."""
    return _brackets(text) > most and _brackets(STRING.sub(b"", text)) > most


def _brackets(text: bytes | bytearray) -> int:
    return text.count(b"[") + text.count(b"{")
