"""How much there may be in JSON that anyone may have written: read, it takes many times its size."""

from __future__ import annotations

import re
from itertools import islice

BRACKET = re.compile(rb'(?:[^"\[{]*+"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z))*+[^"\[{]*+(?:([\[{])|\Z)', re.DOTALL)
"""What lies before a bracket that is in no string, and that bracket; or all that is left, so that nothing is looked at
twice. A string may never end.
"""


def is_flat(value: object, levels: int) -> bool:
    """Whether a JSON value has at most so many levels; far deeper ones can neither be pickled nor be shown."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(is_flat(each, levels - 1) for each in inner)


def has_more_lists(text: bytes | bytearray, most: int) -> bool:
    """Whether there are more lists and objects in a JSON text: empty ones take fifty times the size of their text."""
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    found = (match.lastindex is not None for match in BRACKET.finditer(text))
    return sum(islice(found, most + 1)) > most
