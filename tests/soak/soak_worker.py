"""A process that lives long: one client, asked in every way there is, while everything around it fails.

`python soak_worker.py FOLDER SEED`; the server and the key come from the environment. After each of its rounds it tells
what it takes, and what its calls may have cost in all, as a line of JSON; it ends with its input.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from select import select
from typing import Any

import anyio
from attrs import asdict, define, evolve, field
from flatness import Sample
from soak_job import BACKOFF, TIMEOUTS

from nebula_async import AsyncNebula, BulkJob, Charges, Config, InferenceRequest, NebulaError, RetryPolicy
from nebula_async.bulk.report import Report
from nebula_async.events import Abandoned, Event, Failed, Generated

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 32, "height": 32, "num_steps": 1}
AT_URLS = {"model": "dall-e-3", "size": "32x32", "n": 2, "response_format": "url"}
MANY, ITEMS = 24, 20


@define(eq=False)
class Ends:
    """How all calls of the process ended: how many, and what they may have cost."""

    calls: int = 0
    charges: Charges = field(factory=Charges)

    def __call__(self, event: Event) -> None:
        """Be told of an event."""
        if isinstance(event, Generated | Failed | Abandoned):
            self.calls += 1
            self.charges += event.charges


@define(eq=False)
class Worker:
    """Asks for pictures, round after round; `source` says what else it does."""

    nebula: AsyncNebula
    folder: Path
    source: Random
    ends: Ends
    names: Iterator[int] = field(factory=lambda: count(1))
    problems: list[str] = field(factory=list)

    async def round(self) -> None:
        """Use the client in every way once."""
        await self.many(leave_after=self.source.choice((MANY, MANY, 3)))
        await self.at_urls()
        for _ in range(4):
            with anyio.move_on_after(self.source.uniform(0, 0.1)):
                await self._tried(self.nebula.generate(self._name(), **SMALL))
        await self.bulk(drain_after=self.source.choice((ITEMS, ITEMS, 4)))

    async def many(self, *, leave_after: int) -> None:
        """Ask for many, and leave before all are there."""
        prompts = [self._name() for _ in range(MANY)]
        with suppress(NebulaError):  # the account is refused now: the next round finds another one
            async with self.nebula.generate_many(prompts, concurrency=8, **SMALL) as results:
                async for number in _numbered(results):
                    if number == leave_after:
                        break

    async def at_urls(self) -> None:
        """Ask for pictures that are fetched from elsewhere."""
        requests = [InferenceRequest(self._name(), **AT_URLS) for _ in range(4)]
        await self._tried(self.nebula.generate_all(requests))

    async def bulk(self, *, drain_after: int) -> None:
        """Run a job, that is interrupted perhaps, and go on with it; then throw it away."""
        out, prompts = self.folder / self._name(), [self._name() for _ in range(ITEMS)]
        await self._run(prompts, out, drain_after)
        report = await self._run(prompts, out, ITEMS)
        if report is not None and report.pictures != len([*out.glob("images/*/*")]):
            self.problems.append(f"a job says that it has {report.pictures} pictures, and has others")
        shutil.rmtree(out, ignore_errors=True)

    async def _run(self, prompts: list[str], out: Path, drain_after: int) -> Report | None:
        stored = count(1)
        options = {"defaults": SMALL, "when_exhausted": "stop", "durability": "process", "gallery": False}
        try:
            async with BulkJob(prompts, out, self.nebula, **options) as job:
                job.on_result = lambda _: next(stored) == drain_after and job.drain()
                return await job.run()
        except NebulaError:
            return None

    async def _tried(self, call: Any) -> None:
        with suppress(NebulaError):
            await call

    def _name(self) -> str:
        return f"round-{next(self.names)}"


async def _numbered(results: Any) -> Any:
    number = 0
    async for _ in results:
        number += 1
        yield number


def sample(worker: Worker) -> Sample:
    """Return what the process takes."""
    gc.collect()
    return Sample(
        resident_bytes=_resident(),
        descriptors=len([*Path("/proc/self/fd").iterdir()]),
        threads=threading.active_count(),
        tasks=len(anyio.get_running_tasks()),
        calls=worker.ends.calls,
        at_least=worker.ends.charges.at_least,
        at_most=worker.ends.charges.at_most,
    )


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def live(folder: Path, seed: int) -> None:
    """Work until the input ends."""
    ends, config = Ends(), evolve(Config.from_env(), retry=RetryPolicy(backoff=BACKOFF), timeouts=TIMEOUTS)
    async with AsyncNebula(config=config, observer=ends) as nebula:
        worker = Worker(nebula, folder, Random(seed), ends)  # noqa: S311 - the same at each run
        while not select([sys.stdin], [], [], 0)[0]:
            await worker.round()
            told = asdict(sample(worker)) | {"problems": worker.problems}
            sys.stdout.write(f"{json.dumps(told)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(live, Path(sys.argv[1]), int(sys.argv[2]))
