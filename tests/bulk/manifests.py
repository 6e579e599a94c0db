"""Manifests in files, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import anyio

from nebula_async.bulk.manifest.items import BadLine, Item
from nebula_async.bulk.manifest.source import Source, open_source
from nebula_async.requests import ImageRequest

MODEL = {"model": "m"}


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a manifest as it is, without translating line ends."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*rows: object) -> str:
    """Return rows as JSON lines."""
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return [path.name for path in folder.iterdir()]


async def spooled(manifest: object, folder: Path, **given: object) -> Source:
    """Open a manifest with a spool in a folder that is not there yet."""
    given = {"defaults": MODEL, "columns": {}, "repeat": 1, **given}
    return await open_source(manifest, spool=folder / "job" / "input", **given)


def source_of(path: Path | str, *, defaults: Mapping[str, object] = MODEL, **given: object) -> Source:
    """Open a manifest that is a file."""
    given = {"columns": {}, "repeat": 1, **given}
    return anyio.run(partial(open_source, path, spool=Path(path).with_name("spool"), defaults=defaults, **given))


def read(path: Path, **given: object) -> list[Item | BadLine]:
    """Return all entries of a manifest whose model is "m"."""
    return list(source_of(path, **given).entries())


def item(number: int, line: int, prompt: str, **given: object) -> Item:
    """Return an item whose model is "m"."""
    return Item(str(given.get("id", f"#{number}")), number, line, ImageRequest(prompt, model="m", **given))
