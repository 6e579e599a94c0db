"""Server-sent events: the lines in which a browser's `EventSource` reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

LINE_BREAK = re.compile(r"\r\n|\r|\n")
UNSAFE = re.compile(r"[\r\n\x00]")

HEARTBEAT = b": still here\n\n"
"""A comment: readers skip it, and proxies see that the connection is used."""


def encode_event(data: str | Mapping[str, Any], *, event: str | None = None, number: int | str | None = None) -> bytes:
    """Return an event: its name, its id and its data, a text or what becomes JSON.

    A line break in a text begins another `data:` line, as readers put it together again. Raises `ValueError` for a name
    or an id that has one.
    """
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    named = {"id": number, "event": event}
    if wrong := [name for name, value in named.items() if value is not None and UNSAFE.search(str(value))]:
        raise ValueError(f"{' and '.join(wrong)} of a server-sent event must be one line")
    lines = [f"{name}: {value}" for name, value in named.items() if value is not None]
    lines += [f"data: {line}" for line in LINE_BREAK.split(text)]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")
