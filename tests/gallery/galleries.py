"""Galleries as tests make and read them: of jobs that ran against an emulator, and of ledgers made by hand."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from PIL import Image as Pillow

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.gallery.gallery import Gallery
from nebula_async.bulk.gallery.writing import Written
from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.report_values import values_of
from nebula_async.bulk.standing import read_standing
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
SCRIPT = re.compile(r"nebulaGallery\.(?P<name>\w+)\((?:(?P<number>\d+),)?(?P<values>\{.*\})\);\n", re.DOTALL)

COLUMNS = (
    "number", "index", "state", "prompt", "model", "seed", "width", "height", "file", "thumbnail", "bytes", "cost",
    "seconds", "created", "requests", "charges_at_least", "charges_at_most", "request_id", "sha256", "id",
    "negative_prompt", "parameters", "cause", "error", "next_step", "is_cut",
)  # fmt: skip
SHARED = {"state", "model", "cost", "parameters", "cause", "error", "next_step"}


@frozen
class Page:
    """What a page would show: its summary, and its entries by the names of their columns."""

    summary: Mapping[str, Any]
    entries: list[dict[str, Any]]

    @classmethod
    def read(cls, out: Path) -> Page:
        """Read the data as a browser does, from the summary on."""
        folder = out / "gallery"
        summary = values(folder / "data" / "summary.js")
        chunks = [values(folder / summary["data"] / f"{number:05}.js") for number in range(summary["chunks"])]
        return cls(summary, [entry(row, chunk["texts"]) for chunk in chunks for row in chunk["rows"]])

    def column(self, name: str) -> list[Any]:
        """Return a column of all entries."""
        return [entry[name] for entry in self.entries]


def values(path: Path) -> dict[str, Any]:
    """Return what a script is called with."""
    found = SCRIPT.fullmatch(path.read_bytes().decode())
    assert found, f"{path} is no script of a gallery"
    return json.loads(found["values"])


def entry(row: list[Any], texts: list[str]) -> dict[str, Any]:
    """Return a row by its columns' names, with its texts."""
    named = dict(zip(COLUMNS, [*row, *[None] * (len(COLUMNS) - len(row))], strict=True))
    return {name: texts[value] if name in SHARED and value is not None else value for name, value in named.items()}


@asynccontextmanager
async def opened(manifest: Any, out: Path, emulator, *, config: Config | None = None, **options):
    """Open a job of small pictures."""
    config = evolve(
        config or Config(retry=RetryPolicy(backoff=0), concurrency=2),
        base_url=emulator.base_url,
        inference_url=emulator.inference_url,
        allowed_image_hosts=(emulator.storage_host,),
    )
    options = {"durability": "process", "defaults": SMALL, "server": "emulator", **options}
    async with AsyncNebula(emulator.key, config=config) as nebula, BulkJob(manifest, out, nebula, **options) as job:
        yield job


def write(out: Path, **options) -> Written:
    """Write the gallery of a job's folder, without thumbnails beyond those that are there."""
    with closing(Ledger.read(JobFolder(out).ledger)) as ledger, closing(made(ledger, out, **options)) as gallery:
        return gallery.write(ledger, values_of(read_standing(out).summary))


def made(ledger: Ledger, out: Path, **options) -> Gallery:
    """Return the gallery of a job's folder."""
    return Gallery.of(ledger, JobFolder(out), **options)


def fill(out: Path) -> None:
    """Make all thumbnails of a job's folder."""
    with closing(Ledger.read(JobFolder(out).ledger)) as ledger, closing(made(ledger, out)) as gallery:
        gallery.fill(ledger)


def photograph(width: int = 640, height: int = 400, kind: str = "PNG", **options) -> bytes:
    """Return a picture that is neither flat nor noise."""
    file = io.BytesIO()
    Pillow.radial_gradient("L").resize((width, height)).convert(options.pop("mode", "RGB")).save(file, kind, **options)
    return file.getvalue()
