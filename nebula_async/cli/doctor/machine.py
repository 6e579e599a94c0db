"""The machine: open files and disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nebula_async.bulk.descriptors import FOR_ITEM, RESERVED, most_under_way
from nebula_async.cli.doctor.finding import Finding, fine, note, problem
from nebula_async.config import Config
from nebula_async.engine.gate import workers_for
from nebula_async.quantities import counted, size

PICTURE_BYTES = 1_500_000
"""About a picture of 1024 x 1024 as PNG."""

LEAST_BYTES, FEW_BYTES = 100_000_000, 2_000_000_000


def look_at_open_files(config: Config) -> Finding:
    """Return whether as many items can be under way as the limit is worth."""
    wanted, most = workers_for(config), most_under_way()
    facts = {"concurrency": wanted, "most_under_way": most}
    if most < wanted:
        text = f"enough for {counted(most, 'item')} at a time, and the limit is worth {wanted}"
        return note("open files", text, f"ulimit -n {RESERVED + FOR_ITEM * wanted}", **facts)
    return fine("open files", f"enough for the {wanted} requests that are made at a time", **facts)


def look_at_disk(folder: Path) -> Finding:
    """Return how many pictures find room in a folder. Raises `OSError`."""
    free = shutil.disk_usage(folder).free
    facts = {"folder": str(folder), "free_bytes": free}
    text = f"{size(free)} free in {folder}, room for about {counted(free // PICTURE_BYTES, 'picture')}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return note("disk", f"{folder} cannot be written to", "name another folder with --output or --out", **facts)
    if free < LEAST_BYTES:
        return problem("disk", text, "make room, or name another folder with --output or --out", **facts)
    if free < FEW_BYTES:
        return note("disk", text, "make room before a larger job, or name another folder with --out", **facts)
    return fine("disk", text, **facts)
