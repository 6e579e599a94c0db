"""`nebula-async export`: a job's pictures as a dataset."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Literal

from nebula_async.bulk.export.exporter import Exported, export_job
from nebula_async.bulk.export.shards import Limits, Shard
from nebula_async.cli.connection import INTERRUPTED, ended
from nebula_async.cli.output import say, tell
from nebula_async.cli.signals import noted_signals
from nebula_async.errors import ConfigurationError
from nebula_async.quantities import counted

SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?) ?(B|[KMGT]i?B)?", re.ASCII | re.IGNORECASE)
UNITS = {"": 1, "b": 1} | {
    f"{letter}{infix}b": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("kmgt", 1)
}


def export(
    out: Path,
    /,
    *,
    format: Literal["webdataset", "parquet"],  # noqa: A002 - as the option is called
    to: Path | None = None,
    shard_size: str = "1GB",
    shard_items: int = 10_000,
) -> int:
    """Write the pictures of a bulk job, their prompts and how they were made, as a dataset in shards.

    The same command goes on where it was stopped, and keeps the shards that are complete. A job that is not finished,
    or is running, can be exported too: what is done then, and the rest by the same command later. Nothing is sent.
    Exit codes: 0 exported, 2 wrong use, no job, or a picture that is gone or changed, 130 interrupted.

    Parameters
    ----------
    out
        The folder of the job, as it was given to `bulk --out`.
    format
        webdataset: .tar files, each picture with its prompt (.txt) and its metadata (.json). parquet: .parquet files
        that `datasets` of Hugging Face reads, the pictures in the column `image`.
    to
        The folder for the shards; else `export/` and the format, in the folder of the job.
    shard_size
        The most bytes of pictures and metadata in a shard, as 1GB, 500MB or 64MiB.
    shard_items
        The most pictures in a shard.
    """
    return ended(_export, out, format, to, shard_size, shard_items)


def _export(out: Path, kind: str, to: Path | None, shard_size: str, shard_items: int) -> int:
    if shard_items < 1:
        raise ConfigurationError(f"--shard-items must be 1 or more; got {shard_items}")
    limits = Limits(size=read_size(shard_size), items=shard_items)
    try:
        with noted_signals() as came:
            check = partial(_end_if, came)
            exported = export_job(out, kind, to, limits=limits, on_written=_say_written, before_each=check)
    except KeyboardInterrupt:
        say("nebula-async: interrupted; the same command goes on")
        return INTERRUPTED
    _tell(exported)
    return 0


def _end_if(came: Sequence[int]) -> None:
    if came:
        raise KeyboardInterrupt


def read_size(text: str) -> int:
    """Return the bytes that a size such as "1GB", "1.5 GiB" or "800000" means. Raises `ConfigurationError`."""
    found = SIZE.fullmatch(text.strip())
    size = int(Decimal(found[1]) * UNITS[(found[2] or "").lower()]) if found else 0
    if size < 1:
        raise ConfigurationError(f"--shard-size must be a size such as 1GB, 500MB or 64MiB; got {text!r}")
    return size


def _say_written(shard: Shard) -> None:
    say(f"{shard.name}: {counted(shard.samples, 'picture')}")


def _tell(exported: Exported) -> None:
    kept = exported.shards - exported.written
    there = f" ({kept} kept)" if kept else ""
    tell(f"{exported.pictures} pictures are in {exported.folder}, in {counted(exported.shards, 'shard')}{there}")
    if exported.unfinished:
        say(
            f"not done yet: {counted(exported.unfinished, 'item')} of the job; the same command adds what is done later"
        )
