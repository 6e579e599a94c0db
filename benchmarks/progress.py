"""What showing how a run is going costs a job of 10,000 tiny pictures: on a terminal, in a log, as events for programs.

Each job runs in a process of its own on one core, against a transport that answers at once: without anybody being told
(`off`), with the line that changes on a real pseudo-terminal that is read (`live`), with lines into a pipe (`log`), and
with an event for each item into a pipe (`json`). Rounds in turn; of each kind the lowest CPU time (all threads of the
process) and the lowest time that passes count, as what else a machine does only adds; the spread stands beside them.
Prints a table and exits 1 when the target is missed. Needs Linux, for the pinning.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import anyio
from attrs import asdict, field, frozen
from canned import MODEL, PER_MINUTE, PICTURE_BYTES, CannedTransport, write_prompts

from nebula_async import AsyncNebula, BulkJob
from nebula_async.bulk.plan import make_plan
from nebula_async.cli.json_events import JsonView
from nebula_async.cli.running import run_job
from nebula_async.cli.views import PeopleView, RunView

ITEMS, ROUNDS, WARM_UP = 10_000, 3, 200
AT_ONCE = 64
COLUMNS = 120
TARGET = 0.02
KINDS = ("off", "live", "log", "json")


@frozen
class Took:
    """Seconds of CPU, and that passed; how many bytes were written meanwhile."""

    cpu: float
    wall: float
    written: int = 0


@frozen
class Watch:
    """A moment, from which on time is taken."""

    wall: float = field(factory=time.perf_counter)
    cpu: float = field(factory=time.process_time)

    def took(self) -> Took:
        """Return what has passed since."""
        return Took(time.process_time() - self.cpu, time.perf_counter() - self.wall)


@frozen
class Reader:
    """Reads what is written, counts it, and keeps the last of it."""

    descriptor: int
    counted: list[int] = field(factory=list)
    kept: deque[bytes] = field(factory=lambda: deque(maxlen=3))
    thread: threading.Thread = field(init=False)

    @thread.default
    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._read)
        thread.start()
        return thread

    def _read(self) -> None:
        try:
            while piece := os.read(self.descriptor, 1 << 16):
                self.counted.append(len(piece))
                self.kept.append(piece)
        except OSError:  # Linux says so when the last writer of a terminal has gone
            pass

    def count(self) -> int:
        """Return how many bytes there were, once the last writer has gone."""
        self.thread.join()
        os.close(self.descriptor)
        return sum(self.counted)


def main() -> int:
    """Measure, print, and say whether the target was reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=ITEMS)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--run", choices=KINDS, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.run:
        took = anyio.run(measure, given.run, given.items, given.folder)
        (given.folder / "took.json").write_text(json.dumps(asdict(took)))
        return 0
    print(
        f"{given.items} items, pictures of {PICTURE_BYTES} bytes, {AT_ONCE} at once, one core, {given.rounds} rounds\n"
    )
    with tempfile.TemporaryDirectory(prefix="nebula-progress-") as scratch:
        rounds = [measure_round(given.items, Path(scratch) / str(number), number) for number in range(given.rounds)]
    return show({kind: [each[kind] for each in rounds] for kind in KINDS})


def measure_round(items: int, folder: Path, number: int) -> dict[str, Took]:
    """Return what a job took of each kind; every other round goes through them the other way."""
    kinds = KINDS if number % 2 == 0 else KINDS[::-1]
    return {kind: measure_apart(kind, items, folder / kind) for kind in kinds}


def measure_apart(kind: str, items: int, folder: Path) -> Took:
    """Run a job in a process of its own whose streams are read; return what it took."""
    folder.mkdir(parents=True)
    command = [sys.executable, __file__, "--run", kind, "--items", str(items), "--folder", str(folder)]
    err_read, err_write = pty.openpty() if kind == "live" else os.pipe()
    out_read, out_write = os.pipe()
    if kind == "live":
        fcntl.ioctl(err_write, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=out_write, stderr=err_write, env=environment) as process:
        os.close(out_write)
        os.close(err_write)
        readers = Reader(out_read), Reader(err_read)
        code = process.wait()
    written = sum(reader.count() for reader in readers)
    if code:
        said = b"".join(piece for reader in readers for piece in reader.kept).decode(errors="replace")
        raise SystemExit(f"the run of kind {kind} ended with {code}:\n{said}")
    took = Took(**json.loads((folder / "took.json").read_text()))
    return Took(took.cpu, took.wall, written)


async def measure(kind: str, items: int, folder: Path) -> Took:
    """Return what a job takes, after a small one."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sys.stdout.flush()
    async with AsyncNebula(
        "sk-emulator", transport=CannedTransport(), rate_limit=PER_MINUTE, concurrency=AT_ONCE
    ) as nebula:
        await run_one("off", nebula, WARM_UP, folder / "warm-up")
        return await run_one(kind, nebula, items, folder / "job")


async def run_one(kind: str, nebula: AsyncNebula, items: int, folder: Path) -> Took:
    """Return what a job takes that has been opened, to the end of its reports and of what is told of it."""
    manifest = write_prompts(folder, items)
    async with BulkJob(
        manifest,
        folder / "out",
        nebula,
        defaults={"model": MODEL},
        concurrency=AT_ONCE,
        durability="process",
        gallery=False,
    ) as job:
        census, spent = await job.rest()
        plan = make_plan(census, nebula.config, name="prompts.txt", now=time.time(), spent=spent)
        watch = Watch()
        if kind == "off":
            code = (await job.run()).exit_code
            await job.summary()
            return checked(code, watch)
        view = view_of(kind)
        try:
            code = await run_job(job, nebula, view, plan)
        finally:
            view.close()
        return checked(code, watch)


def view_of(kind: str) -> RunView:
    """Return who is told; a summary would be another question, so it goes nowhere."""
    if kind == "json":
        return JsonView()
    sys.stdout = io.StringIO()
    return PeopleView()


def checked(code: int, watch: Watch) -> Took:
    """Return what was taken by a job that ended well."""
    took = watch.took()
    if code:
        raise SystemExit(f"the job ended with {code}")
    return took


def show(took: dict[str, list[Took]]) -> int:
    """Print what each kind took, and return whether the target was missed."""
    print("| | CPU s: lowest (all) | s that passed: lowest (all) | CPU above off | time above off | kB written |")
    print("|---|---|---|---|---|---|")
    above = {kind: row(kind, took[kind], took["off"]) for kind in KINDS}
    worst = max(max(costs) for kind, costs in above.items() if kind != "off")
    print(f"\nat most {worst:.2%} of a run (target: at most {TARGET:.0%})")
    return 0 if worst <= TARGET else 1


def row(kind: str, took: Sequence[Took], off: Sequence[Took]) -> tuple[float, float]:
    """Print a row, and return what is above the run of which nobody is told: CPU, and time."""
    cpu, wall = [each.cpu for each in took], [each.wall for each in took]
    costs = min(cpu) / min(each.cpu for each in off) - 1, min(wall) / min(each.wall for each in off) - 1
    lists = [" ".join(f"{seconds:.2f}" for seconds in sorted(each)) for each in (cpu, wall)]
    written = statistics.median(each.written for each in took) / 1000
    print(
        f"| {kind} | {min(cpu):.2f} ({lists[0]}) | {min(wall):.2f} ({lists[1]}) | {costs[0]:+.2%} | {costs[1]:+.2%}"
        f" | {written:,.0f} |",
        flush=True,
    )
    return costs


if __name__ == "__main__":
    sys.exit(main())
