"""What memory a job takes over 1,000 to 1,000,000 items, and whether it grows with them.

Each job runs in a fresh process against a transport that answers at once, and tells the highest resident memory of that
process from its start to its end. Jobs of up to 100,000 items are run whole; of a million, 800,000 are done when the
measured run begins (made by `finished_job.py`), and 200,000 are generated in it: the census, the recovery and the
ledger are those of a million. Prints a table and exits 1 when the target is missed. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
from attrs import asdict, frozen
from canned import MODEL, PER_MINUTE, CannedTransport, write_prompts
from finished_job import REALLY_RUN, make_nearly_finished
from footprint import resident

from nebula_async import AsyncNebula, BulkJob
from nebula_async.bulk.budget import Budget

SIZES = {1_000: 1_000, 10_000: 10_000, 100_000: 100_000, 1_000_000: 200_000}
"""How many items a job has, and how many of them are generated in the measured run."""

AT_ONCE = 64
TARGET_MB = 16.0
MB = 2**20
URL = "https://canned.invalid/api/v1"


@frozen
class Memory:
    """What a job took: MB at most, until it was open and over all, and seconds for both; how it ended."""

    opened: float
    highest: float
    opening: float
    seconds: float
    exit_code: int


def main() -> int:
    """Measure, print, and say whether memory was flat."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--most", type=int, default=max(SIZES), help="no job of more items, for a quick look")
    options.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--images", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.run:
        print(json.dumps(asdict(anyio.run(measure, given.run, given.images))))
        return 0
    print(f"{AT_ONCE} at once, durability process\n")
    print("| items | of these generated | MB once open | MB at most | s to open | s in all | us an item |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="nebula-memory-") as scratch:
        taken = [show(Path(scratch), items, new) for items, new in SIZES.items() if items <= given.most]
    rise = max(memory.highest for memory in taken) - taken[0].highest
    print(f"\nat most {rise:.1f} MB above the smallest (target: at most {TARGET_MB:g})")
    return 0 if rise <= TARGET_MB and not any(memory.exit_code for memory in taken) else 1


def show(scratch: Path, items: int, new: int) -> Memory:
    """Measure a job in a process of its own, and print the row."""
    folder = scratch / str(items)
    is_whole = items == new
    manifest = write_prompts(folder, items) if is_whole else make_nearly_finished(folder, items, begin, left=new)
    memory = run_apart(manifest)
    each = (memory.seconds - memory.opening) / new * 1e6
    print(
        f"| {items} | {new} | {memory.opened:.1f} | {memory.highest:.1f} | {memory.opening:.1f} | {memory.seconds:.0f}"
        f" | {each:.0f} |",
        flush=True,
    )
    shutil.rmtree(folder)
    return memory


def begin(manifest: Path, _out: Path) -> int:
    """Run the first items of a job."""
    return run_apart(manifest, "--images", str(REALLY_RUN)).exit_code


def run_apart(manifest: Path, *options: str) -> Memory:
    """Run a job in a process of its own."""
    command = [sys.executable, __file__, "--run", str(manifest), *options]
    return Memory(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


async def measure(manifest: Path, images: int | None) -> Memory:
    """Run a job, until so many pictures are bought, and return what it took."""
    started = time.perf_counter()
    async with (
        AsyncNebula("sk-emulator", base_url=URL, transport=CannedTransport(), rate_limit=PER_MINUTE) as nebula,
        BulkJob(
            manifest,
            manifest.with_name("out"),
            nebula,
            defaults={"model": MODEL},
            concurrency=AT_ONCE,
            durability="process",
            budget=Budget(max_images=images),
        ) as job,
    ):
        opened, opening = resident("VmHWM") / MB, time.perf_counter() - started
        report = await job.run()
    seconds = time.perf_counter() - started
    return Memory(opened, resident("VmHWM") / MB, opening, seconds, report.exit_code)


if __name__ == "__main__":
    sys.exit(main())
