"""Data as script files: a page that is opened from a disk may load these, and nothing else.

Whatever the texts hold, each stays inside of its string: JSON is JavaScript, once what ends a line there or could be
taken for markup is escaped. https://tc39.es/ecma262/#sec-json.parse
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nebula_async.images.part_file import PartFile

CALL = re.compile(r"nebulaGallery\.\w+\((.*)\);\n", re.DOTALL)

UNSAFE = str.maketrans({"<": r"\u003c", "\u2028": r"\u2028", "\u2029": r"\u2029", "\ufeff": r"\ufeff"})

MOST_EXACT = 2**53 - 1
"""The largest whole number of JavaScript; larger ones go as text."""

LARGEST_READ = 2**24
"""Bytes of a script that is read back: anyone may have written it."""


def script(name: str, *values: Any) -> bytes:
    """Return a script that calls `nebulaGallery.<name>` with JSON values. A lone surrogate becomes an escape."""
    texts = (json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for value in values)
    call = f"nebulaGallery.{name}({','.join(texts)});\n"
    return call.translate(UNSAFE).encode("utf-8", "backslashreplace")


def read_back(path: Path) -> Mapping[str, Any] | None:
    """Return the only value of a script that `script` made; `None` where there is none, or another file."""
    try:
        with path.open("rb") as file:
            found = CALL.fullmatch(file.read(LARGEST_READ).decode())
        values = json.loads(found[1]) if found else None
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in its place, whole or not at all. Raises `OSError`."""
    part = PartFile.beside(path)
    try:
        part.write(data)
        part.replace(path)
    finally:
        part.discard()


def exact(value: Any) -> Any:
    """Return plain values with the whole numbers that JavaScript would round as text."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MOST_EXACT:
        return str(value)
    if isinstance(value, dict):
        return {name: exact(each) for name, each in value.items()}
    return [exact(each) for each in value] if isinstance(value, list) else value
