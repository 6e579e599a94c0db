"""Workers that share one limit, some of which are killed and begun again: what is bought twice.

Each worker has a part of the prompts and a folder, and is a job, or does what a task of Ray does with its rows. What is
in a folder when its worker is killed may not be asked for again; what was under way may have been paid for, and is sent
again: by jobs because they say so (`resend_unknown`), by tasks because nobody knows of it.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path
from random import Random

import anyio
from attrs import define, field, frozen
from sharing import KEY, PICTURE, Crowd, OpenGate, serving

from nebula_async import AsyncNebula, BulkJob, Config, DirectorySink
from nebula_async.emulator import Emulator
from nebula_async.integrations.ray import NebulaImages

ITEMS, KILLS, SEED = 32, 4, 8
AT_ONCE = 8
SHORTEST, LONGEST = 1.5, 3.0
"""A worker is killed so many seconds after the kill before."""

PER_MINUTE = 1_200


@frozen
class Part:
    """What one worker does: its folder, its items by name, its settings and its gate."""

    folder: Path
    names: list[str]
    config: Config
    open_gate: OpenGate

    @property
    def stored(self) -> set[str]:
        """The items whose pictures are in the folder."""
        return {name for path in self.pictures for name in self.names if name in path.stem}

    @property
    def pictures(self) -> list[Path]:
        """All pictures in the folder."""
        paths = (path for path in self.folder.rglob("*.png") if not path.name.startswith("."))
        return [path for path in paths if ".nebula" not in path.parts]


@define(eq=False)
class Worker:
    """A process at its part, begun again after each kill. `again` counts requests for what was stored at a kill."""

    part: Part
    work: Callable[[Part], None]
    emulator: Emulator
    again: int = field(default=0, init=False)
    _stored: set[str] = field(factory=set, init=False)
    _killed_at: float = field(default=0.0, init=False)
    process: SpawnProcess = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin, or go on."""
        self.process = multiprocessing.get_context("spawn").Process(target=self.work, args=(self.part,), daemon=True)
        self.process.start()

    def kill(self) -> None:
        """Kill it, and see what it leaves."""
        self.process.kill()
        self.process.join()
        self.count_again()
        self._stored, self._killed_at = self.part.stored, time.time()

    def count_again(self) -> None:
        """Count what was asked for since the last kill although it was stored then."""
        records = self.emulator.journal.generations
        self.again += sum(record.at > self._killed_at and record.prompt in self._stored for record in records)


def work_as_job(part: Part) -> None:
    """Make the pictures of a part that are not there, as a job."""

    async def run() -> None:
        items = [{"id": name, "prompt": name} for name in part.names]
        async with (
            part.open_gate() as gate,
            AsyncNebula(KEY, config=part.config, gate=gate) as nebula,
            BulkJob(items, part.folder, nebula, defaults=PICTURE, resend_unknown=True, gallery=False) as job,
        ):
            await job.run()

    anyio.run(run)


def work_as_task(part: Part) -> None:
    """Make the pictures of a part that are not there, as a task of Ray does for its rows."""
    sink = DirectorySink(part.folder)
    images = NebulaImages(
        sink=sink, defaults=PICTURE, config=part.config, gate=part.open_gate, api_key=key, concurrency=AT_ONCE
    )
    anyio.run(images, {"id": part.names, "prompt": part.names})
    images.close()


def key() -> str:
    """Return the key of the account."""
    return KEY


WAYS: dict[str, Callable[[Part], None]] = {"jobs": work_as_job, "tasks": work_as_task}


def kill_workers(processes: int, open_gate: OpenGate) -> bool:
    """Kill workers again and again, print what was bought twice, and say whether nothing was that a folder held."""
    print(f"{processes} workers, {ITEMS} pictures and {AT_ONCE} at a time each; {KILLS} kills, each begun again\n")
    print("| workers | pictures | missing | stored twice | stored, and asked for again ", end="")
    print("| under way at a kill, and bought twice |\n|---|---|---|---|---|---|")
    is_right = [kill_some(Crowd(processes, PER_MINUTE), name, open_gate) for name in WAYS]
    print(f"| *targets* | | 0 | 0 | 0 | {AT_ONCE * KILLS} |\n", flush=True)
    return all(is_right)


def kill_some(crowd: Crowd, way: str, open_gate: OpenGate) -> bool:
    """Kill workers of one kind at moments drawn from a seed, begin them again, and see what came of it."""
    with tempfile.TemporaryDirectory() as folder, serving(crowd, window="sliding") as emulator:
        config = Config(base_url=emulator.base_url, rate_limit=PER_MINUTE, concurrency=AT_ONCE)
        names = {each: [f"{each.replace(' ', '')}item{number:04}" for number in range(ITEMS)] for each in crowd.names}
        parts = [Part(Path(folder) / each, names[each], config, open_gate) for each in crowd.names]
        workers = [Worker(part, WAYS[way], emulator) for part in parts]
        source = Random(SEED)  # noqa: S311 - the same moments in every run
        for _ in range(KILLS):
            time.sleep(source.uniform(SHORTEST, LONGEST))
            worker = source.choice(workers)
            worker.kill()
            worker.start()
        for worker in workers:
            worker.process.join()
            worker.count_again()
        return report(way, workers, emulator)


def report(way: str, workers: list[Worker], emulator: Emulator) -> bool:
    """Print what was bought and stored, and say whether it is right."""
    charged = Counter(record.prompt for record in emulator.journal.generations if record.images_charged)
    items = [name for worker in workers for name in worker.part.names]
    pictures = sum(len(worker.part.pictures) for worker in workers)
    missing = sum(len(set(worker.part.names) - worker.part.stored) for worker in workers)
    again, extra = sum(worker.again for worker in workers), charged.total() - len(items)
    twice = pictures - len(items) + missing
    print(f"| {way} | {pictures} | {missing} | {twice} | {again} | {extra} |", flush=True)
    return missing == twice == again == 0 and extra <= AT_ONCE * KILLS
