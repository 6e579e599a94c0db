"""How many items a second a job's ledger and its publishing of files allow, on one core, by durability.

A job of tiny pictures runs in a process of its own, pinned to one core, against a transport that answers at once. The
same requests go through the same client without a job: what the job takes longer for an item is what its ledger and
its files cost, and that is what the targets are about. Without fsyncs nothing is waited for, and CPU time counts, which
at rest is the time that passes; with them, the time that passes. Rounds in turn, the lowest of each, as what else a
machine does only adds. Beside it, what the disk takes for an fsync of a file and of a folder. Prints a table and exits
1 when a target is missed. Needs Linux, for the pinning.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import anyio
from attrs import asdict, field, frozen
from canned import MODEL, PER_MINUTE, PICTURE_BYTES, CannedTransport, prompts, write_prompts

from nebula_async import AsyncNebula, BulkJob

ITEMS, ROUNDS, WARM_UP = 2_000, 5, 200
AT_ONCE = 64
TARGETS = {"process": 1_000, "power": 200}
"""Items a second."""

SYNCS = 100
BLOCK = bytes(4096)
Kind = Literal["client", "process", "power"]


@frozen
class Took:
    """Seconds that passed, and of CPU, for an item."""

    wall: float
    cpu: float


@frozen
class Watch:
    """A moment, from which on time is taken."""

    wall: float = field(factory=time.perf_counter)
    cpu: float = field(factory=time.process_time)

    def took(self, items: int) -> Took:
        """Return what has passed since, for each item."""
        return Took((time.perf_counter() - self.wall) / items, (time.process_time() - self.cpu) / items)


@frozen
class Syncs:
    """Milliseconds that the disk takes, as medians: for a file of 4 KiB, for the folder that it was linked into."""

    file: float
    folder: float


def main() -> int:
    """Measure, print, and say whether the targets were reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=ITEMS)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--folder", type=Path, help="where the jobs are made; else where temporary files lie")
    options.add_argument("--run", choices=["client", *TARGETS], help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.run:
        print(json.dumps(asdict(anyio.run(measure, given.run, given.items, given.folder))))
        return 0
    with tempfile.TemporaryDirectory(prefix="nebula-ledger-", dir=given.folder) as scratch:
        syncs = measure_syncs(Path(scratch))
        print(f"{given.items} items, pictures of {PICTURE_BYTES} bytes, {AT_ONCE} at once, one core")
        print(f"fsync: a file of 4 KiB {syncs.file:.2f} ms, a folder {syncs.folder:.2f} ms (medians of {SYNCS})\n")
        rounds = [measure_round(given.items, Path(scratch) / str(number)) for number in range(given.rounds)]
    return show({kind: lowest([each[kind] for each in rounds]) for kind in rounds[0]})


def lowest(rounds: Sequence[Took]) -> Took:
    """Return the lowest of each."""
    return Took(min(took.wall for took in rounds), min(took.cpu for took in rounds))


def show(took: dict[Kind, Took]) -> int:
    """Print what an item took of each kind, and return whether a target was missed."""
    print("us an item, and of CPU\n")
    print("| durability | end to end | client alone | items a second, end to end | ledger and files, a second |")
    print("|---|---|---|---|---|")
    rates = {
        "process": 1 / (took["process"].cpu - took["client"].cpu),
        "power": 1 / (took["power"].wall - took["client"].wall),
    }
    for kind, target in TARGETS.items():
        whole, alone = took[cast("Kind", kind)], took["client"]
        times = " | ".join(f"{each.wall * 1e6:.0f}, {each.cpu * 1e6:.0f}" for each in (whole, alone))
        print(f"| {kind} | {times} | {1 / whole.wall:.0f} | {rates[kind]:.0f} (target: {target}) |")
    return 0 if all(rates[kind] >= target for kind, target in TARGETS.items()) else 1


def measure_round(items: int, folder: Path) -> dict[Kind, Took]:
    """Return what an item takes of each kind, each in a process of its own."""
    folder.mkdir()
    kinds: tuple[Kind, ...] = ("client", "process", "power")
    return {kind: measure_apart(kind, items, folder / kind) for kind in kinds}


def measure_apart(kind: Kind, items: int, folder: Path) -> Took:
    """Measure one kind in a process of its own."""
    command = [sys.executable, __file__, "--run", kind, "--items", str(items), "--folder", str(folder)]
    return Took(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


async def measure(kind: Kind, items: int, folder: Path) -> Took:
    """Return what an item takes, after a warm-up."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    async with AsyncNebula(
        "sk-emulator", transport=CannedTransport(), rate_limit=PER_MINUTE, concurrency=AT_ONCE
    ) as nebula:
        await run_client(nebula, WARM_UP)
        if kind == "client":
            return await run_client(nebula, items)
        await run_job(nebula, WARM_UP, folder / "warm-up", kind)
        return await run_job(nebula, items, folder / "job", kind)


async def run_client(nebula: AsyncNebula, items: int) -> Took:
    """Return what the client takes for a picture, kept in memory and dropped."""
    watch = Watch()
    async with nebula.generate_many(prompts(items), model=MODEL) as results:
        async for _ in results:
            pass
    return watch.took(items)


async def run_job(nebula: AsyncNebula, items: int, folder: Path, durability: Literal["process", "power"]) -> Took:
    """Return what an item takes in a job that has been opened."""
    manifest = write_prompts(folder, items)
    async with BulkJob(
        manifest,
        folder / "out",
        nebula,
        defaults={"model": MODEL},
        concurrency=AT_ONCE,
        durability=durability,
        gallery=False,
    ) as job:
        watch = Watch()
        report = await job.run()
        took = watch.took(items)
    if report.exit_code:
        raise SystemExit(f"the job did not end well: {report}")
    return took


def measure_syncs(folder: Path) -> Syncs:
    """Return how long the disk takes."""
    files, folders = zip(*(measure_sync(folder, number) for number in range(SYNCS)), strict=True)
    return Syncs(statistics.median(files) * 1e3, statistics.median(folders) * 1e3)


def measure_sync(folder: Path, number: int) -> tuple[float, float]:
    """Return the seconds of one fsync of a file, and of its folder after it was linked there."""
    path = folder / f"{number}.part"
    with path.open("wb") as file:
        file.write(BLOCK)
        file.flush()
        in_file = time_sync(file.fileno())
    (folder / f"{number}.bin").hardlink_to(path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return in_file, time_sync(descriptor)
    finally:
        os.close(descriptor)


def time_sync(descriptor: int) -> float:
    """Return the seconds of one fsync."""
    started = time.perf_counter()
    os.fsync(descriptor)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
