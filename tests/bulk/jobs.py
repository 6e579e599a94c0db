"""Jobs against an emulator, as tests run, stop and look at them."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
from attrs import evolve

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.report import Report
from nebula_async.bulk.spool import Received, Spool
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.emulator import Emulator
from nebula_async.images.media import read_media

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
CATS = ("a cat", "two cats", "three cats", "four cats")
PROMPT = Config(retry=RetryPolicy(backoff=0), concurrency=2)
"""Two requests in flight, and no waits between attempts."""

CAREFUL = Config(retry=RetryPolicy(backoff=0, resend_unknown=0), concurrency=2)


def write(folder: Path, *prompts: str) -> Path:
    """Write a manifest of prompts."""
    folder.mkdir(exist_ok=True)
    path = folder / "prompts.txt"
    path.write_text("\n".join(prompts))
    return path


def write_rows(folder: Path, *rows: dict[str, Any]) -> Path:
    """Write a manifest of JSON lines."""
    path = folder / "prompts.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@asynccontextmanager
async def opened(manifest: Any, emulator: Emulator, *, config: Config = PROMPT, observer=None, key=None, **options):
    """Open the job of a manifest, into `out` beside it; a test does not wait for a disk to sync."""
    config = evolve(
        config,
        base_url=emulator.base_url,
        inference_url=emulator.inference_url,
        allowed_image_hosts=options.pop("hosts", (emulator.storage_host,)),
    )
    out = options.pop("out", None) or manifest.parent / "out"
    defaults = {name: value for name, value in (SMALL | options.pop("defaults", {})).items() if value is not None}
    options = {"durability": "process", "gallery": False, **options, "defaults": defaults}
    async with (
        AsyncNebula(key or emulator.key, config=config, observer=observer) as nebula,
        BulkJob(manifest, out, nebula, **options) as job,
    ):
        yield job


async def run(manifest: Any, emulator: Emulator, **options) -> Report:
    """Run the job of a manifest."""
    async with opened(manifest, emulator, **options) as job:
        return await job.run()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in the emulator's thread."""
    with anyio.fail_after(40):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread without our events
            await anyio.sleep(0.005)


async def run_until(job: BulkJob, condition: Callable[[], bool]) -> None:
    """Run a job and stop it at once when a condition holds, as a kill would, but in order."""
    async with anyio.create_task_group() as group:
        group.start_soon(job.run)
        await until(condition)
        job.stop()


def pictures(out: Path) -> list[str]:
    """Return the names of all files among the pictures but their metadata; each that is named like one is whole."""
    files = sorted(path for path in (out / "images").rglob("*") if path.is_file() and path.name != "metadata.jsonl")
    for path in files:
        if path.suffix in {".png", ".webp", ".jpg"}:
            read_media(path.read_bytes())
    return [path.relative_to(out / "images").as_posix() for path in files]


def spooled(out: Path) -> list[str]:
    """Return the names of what is left in the spool."""
    return sorted(path.name for path in (out / ".nebula/spool").iterdir())


def asked(emulator: Emulator) -> list[str]:
    """Return the prompts that were asked for, sorted."""
    return sorted(record.prompt for record in emulator.journal.generations)


def assert_within(charged: int, charges: Charges) -> None:
    """What the emulator charged is what the report says, or between its bounds."""
    assert charges.at_least <= charged <= charges.at_most


def query(out: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask a job's ledger, or change it as no job does."""
    with closing(sqlite3.connect(out / ".nebula/ledger.db")) as ledger, ledger:
        return ledger.execute(statement, values).fetchall()


def cut_off(out: Path, seq: int, *, received: int = 0) -> None:
    """Leave an item that is done as a run does that is killed while it is under way, or when so many of its pictures
    were received, and perhaps stored already, and not noted.
    """
    spool = Spool(out / ".nebula/spool", is_synced=False)
    ((n,),) = query(out, "SELECT sends FROM item WHERE seq = ?", seq)
    stored = query(out, "SELECT idx, path, sha256, bytes, media_type FROM output WHERE seq = ? ORDER BY idx", seq)
    parts = [_received(out, spool.part(seq, n, idx), *rest) for idx, *rest in stored[:received]]
    if parts:
        spool.write_reply(seq, n, parts)
    query(out, "DELETE FROM output WHERE seq = ?", seq)
    query(out, "UPDATE item SET state = 'sent', at_stake = asked, at_least = 0, at_most = 0 WHERE seq = ?", seq)
    change = "UPDATE attempt SET ended_at = NULL, verdict = NULL, at_least = 0, at_most = 0 WHERE seq = ? AND n = ?"
    query(out, change, seq, n)


def _received(out: Path, part: Path, path: str, sha256: str, size: int, media_type: str) -> Received:
    os.link(out / path, part)
    media = read_media(part.read_bytes())
    return Received(
        part=part, sha256=sha256, bytes=size, media_type=media_type, extension=media.extension,
        width=media.width, height=media.height,
    )  # fmt: skip


def fail_folder_syncs(monkeypatch) -> None:
    """Let no folder of pictures be synced."""
    real = os.fsync

    def fsync(file: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink().name == "00000":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
