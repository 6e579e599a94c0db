"""JSON that broke off: what is left of it says nothing that the whole does not, and in the same places; by `json`."""

from __future__ import annotations

import json

from reference import is_begun

from nebula_async.api.cut_json import close_json
from targets import same

REFERENCE = "json"

DEEPEST = 200
WORDS = [
    b'"', b"\\", b'\\"', b"\\\\", b"{", b"}", b"[", b"]", b":", b",", b"1e5", b"-", b"true", b"null", b'"a":', b" ",
]  # fmt: skip
SEEDS = [
    b"\x80" + b'{"a": "whole", "b": [true, {"c": 12.5, "d": "\\""}], "e": {}}',
    b"\x40" + b'[{"a":[[],[{}],null]},"x\\\\", -1e5, "\\u00e9"]',
]  # fmt: skip


def check(data: bytes) -> None:
    """Close a body that is cut where the first byte says, and the whole."""
    whole = data[1:]
    if whole.count(b"[") + whole.count(b"{") > DEEPEST:
        return
    try:
        value = json.loads(whole, object_pairs_hook=unrepeated)
    except ValueError:
        close_json(whole)
        return
    cut = whole[: data[0] * len(whole) // 255]
    if isinstance(value, dict | list):
        same(value, json.loads(close_json(whole)), whole)
        begun = json.loads(close_json(cut)) if cut.strip() else type(value)()
        assert is_begun(begun, value), (cut, begun)


def unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object; one whose keys repeat is other things to others."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)
