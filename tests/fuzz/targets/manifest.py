"""Manifests of each kind, packed or not: items and bad lines, or one error; beside `csv` and `json`."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os

from nebula_async.bulk.manifest.items import BadLine, Item
from nebula_async.bulk.manifest.source import Source
from nebula_async.errors import JobError
from targets import same, scratch

REFERENCE = "csv, json, gzip"

KINDS = ("txt", "csv", "tsv", "jsonl")
FOLDER = scratch()

WORDS = [
    b"prompt", b"prompt,width\n", b"prompt\twidth\n", b'{"prompt":"', b'"id":"', b'"seed":', b'"extra":{"',
    b'"image":"', b'"dialect":"inference"', b'"size":"1024x1024"', b"\n", b"\r\n", b"\r", b",", b"\t", b'"', b'""',
    b"}", b"*2", b"#1", b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\xff", b"\xe2\x80\xa8", b"\x1f\x8b", b"1e5", b"NaN",
    b"1" * 101, b"[[[[", b"text", b"data:image/png;base64,", b"/" + b"a" * 300, b"\\ud800",
]  # fmt: skip

SEEDS = [
    b"\0a cat\r\n\r\nanother, with a comma\n", b'\1prompt,width,seed\na cat,512,5\n"two\nlines",,\n',
    b"\2prompt\tid\na cat\tx\n",
    b'\3{"prompt": "a cat", "width": 512, "id": "x"}\n"a dog"\n{"prompt": "b", "extra": {"a": [1]}}\n',
    b"\4" + b"packed\n", b"\x0d" + gzip.compress(b"prompt\npacked\n"),
]  # fmt: skip


def check(data: bytes) -> None:
    """Read a file of the kind that the first byte says, packed by us, or said to be."""
    flags, text = data[0] if data else 0, data[1:]
    kind, is_packed, is_named = KINDS[flags % 4], bool(flags & 4), bool(flags & 8)
    path = FOLDER / f"{os.getpid()}.{kind}{'.gz' if is_named else ''}"
    path.write_bytes(gzip.compress(text, 1) if is_packed and not is_named else text)
    columns = {"text": "prompt"} if flags & 16 and kind != "txt" else {}
    source = Source(
        path=path, name="m", kind=kind, base=FOLDER, defaults={"model": "m"}, columns=columns, repeat=1 + (flags >> 7)
    )
    try:
        found = list(source.entries())
    except JobError:
        return
    assert all(isinstance(entry, Item | BadLine) for entry in found), data
    assert all("\n" not in str(entry) for entry in found if isinstance(entry, BadLine)), data
    if found and not columns and not is_named and flags < 16 and all(isinstance(entry, Item) for entry in found):
        same(prompts_of(kind, text), [entry.request.prompt for entry in found], data)


def prompts_of(kind: str, data: bytes) -> list[str]:
    """Return the prompts of a file without a mistake, as others read it."""
    text = data.decode("utf-8-sig")
    lines = io.StringIO(text, newline="")
    if kind == "txt":
        return [line.strip() for line in io.StringIO(text, newline=None) if is_visible(line)]
    if kind == "jsonl":
        values = [json.loads(line) for line in io.StringIO(text, newline=None) if is_visible(line)]
        return [value if isinstance(value, str) else value["prompt"] for value in values]
    rows = csv.reader(lines, delimiter="," if kind == "csv" else "\t")
    header, *cells = (row for row in rows if any(is_visible(cell) for cell in row))
    return [row[[name.strip() for name in header].index("prompt")] for row in cells]


def is_visible(text: str) -> bool:
    """Whether a line, or a cell, holds anything that can be seen."""
    from nebula_async.checks import is_blank

    return not is_blank(text)
