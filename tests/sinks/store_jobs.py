"""Jobs whose pictures go to an object store, and what they leave there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from s3_servers import KEYS

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.report import Report
from nebula_async.bulk.states import Output
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.emulator import Emulator
from nebula_async.images.media import read_media
from nebula_async.sinks.object_shelf import ObjectShelf

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
CATS = ("a cat", "two cats", "three cats", "four cats")
NAMES = [
    "images/00000/000000000-a-cat.png",
    "images/00000/000000001-two-cats.png",
    "images/00000/000000002-three-cats.png",
    "images/00000/000000003-four-cats.png",
]
MARK, METADATA = ".nebula-job", "images/metadata.jsonl"
COMMAND = Path(sys.executable).with_name("nebula-async")


def write(folder: Path, *prompts: str) -> Path:
    """Write a manifest of prompts."""
    path = folder / "prompts.txt"
    path.write_text("\n".join(prompts))
    return path


@asynccontextmanager
async def opened(
    manifest: Path, emulator: Emulator, url: str, store: dict[str, Any], *, concurrency: int = 2, **options: Any
) -> AsyncIterator[BulkJob]:
    """Open the job of a manifest, its folder `job` beside it."""
    config = Config(
        base_url=emulator.base_url, inference_url=emulator.inference_url, retry=RetryPolicy(backoff=0),
        concurrency=concurrency, allowed_image_hosts=(emulator.storage_host,),
    )  # fmt: skip
    options = {"defaults": SMALL, "job": manifest.parent / "job"} | options
    async with (
        AsyncNebula(emulator.key, config=config) as nebula,
        BulkJob(manifest, url, nebula, store_options=store, **options) as job,
    ):
        yield job


async def run(manifest: Path, emulator: Emulator, url: str, store: dict[str, Any], **options: Any) -> Report:
    """Run the job of a manifest."""
    async with opened(manifest, emulator, url, store, **options) as job:
        return await job.run()


def objects(shelf: ObjectShelf) -> dict[str, bytes]:
    """Return all objects."""
    return {name: bytes(shelf.store.get(name).bytes()) for name in names(shelf)}


def names(shelf: ObjectShelf) -> list[str]:
    """Return the names of all objects."""
    return sorted(found["path"] for page in shelf.store.list() for found in page)


def outputs(folder: Path) -> list[Output]:
    """Return what the ledger says of the pictures."""
    with closing(Ledger.read(folder / ".nebula" / "ledger.db")) as ledger:
        return list(ledger.outputs())


def assert_stored(folder: Path, shelf: ObjectShelf, expected: list[str] = NAMES) -> None:
    """Each picture is one object, as the ledger and the metadata say; there is none besides, and none in the folder."""
    found = objects(shelf)
    assert sorted([MARK, METADATA, *expected]) == sorted(found)
    assert expected == [output.path for output in outputs(folder)]
    for output in outputs(folder):
        data = found[output.path]
        assert (output.sha256, output.bytes) == (sha256(data).hexdigest(), len(data))
        read_media(data)
    rows = [json.loads(line) for line in found[METADATA].splitlines()]
    assert sorted(expected) == sorted(f"images/{row['file_name']}" for row in rows)
    assert not JobFolder(folder).holds_pictures()
    assert [] == list((folder / ".nebula" / "spool").iterdir())


def start_command(manifest: Path, emulator: Emulator, url: str, address: str, *options: str) -> subprocess.Popen[str]:
    """Start the command on a job, its folder beside the manifest."""
    settings = {
        "NEBULA_API_KEY": emulator.key,
        "NEBULA_BASE_URL": emulator.base_url,
        "AWS_ACCESS_KEY_ID": KEYS["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": KEYS["secret_access_key"],
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
    }
    parameters = ["--model", SMALL["model"], "--width", "64", "--height", "64"]
    return subprocess.Popen(
        [COMMAND, "bulk", manifest.name, "--out", url, *parameters, *options],
        cwd=manifest.parent, env=os.environ | settings, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
