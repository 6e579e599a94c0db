"""Kills a small job before each of its system calls, lets it recover, and holds the rest against the invariants.

`python kill_points.py` does so at every call, and once more at every call of recoveries; a table is printed, and the
exit code is 1 where anything does not hold. `--every 7` takes a part of the points.
"""

from __future__ import annotations

import shutil
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from attrs import field, frozen
from disk_errors import FAILING, FULL, SOME_FAILED, fail, places_to_fail, witness
from job_invariants import violations
from small_job import Ended, SmallJob, quick_folder
from system_calls import Call, Place, is_request, killing, missing, places_to_die, read_calls, recording

from nebula_async.emulator import Emulator

LANES = 2

Given = TypeVar("Given")
Result = TypeVar("Result")


@frozen
class Outcome:
    """What became of a job that was killed at these points in turn: one in its first run, one in its recovery."""

    points: tuple[Place, ...]
    kills: int
    extra: int
    problems: tuple[str, ...]


@frozen
class Bench:
    """Emulators, each for one job at a time, and a folder for them all."""

    folder: Path
    options: tuple[str, ...] = ()
    items: int = 4
    _free: SimpleQueue[Emulator] = field(factory=SimpleQueue, init=False)
    _numbers: Iterator[int] = field(factory=count, init=False)

    @classmethod
    @contextmanager
    def open(cls, folder: Path, options: Sequence[str] = (), *, replays: bool = False) -> Iterator[Bench]:
        """Start the emulators; they stop when the block is left."""
        bench = cls(folder, tuple(options))
        with Emulator(credit="1000000", replays=replays) as one, Emulator(credit="1000000", replays=replays) as two:
            for emulator in (one, two):
                bench._free.put(emulator)
            yield bench

    @contextmanager
    def job(self) -> Iterator[SmallJob]:
        """Begin a job; its folder is removed in the end."""
        emulator = self._free.get()
        emulator.reset()
        job = SmallJob.begun(
            self.folder / f"job-{next(self._numbers)}", emulator, items=self.items, options=self.options
        )
        try:
            yield job
        finally:
            shutil.rmtree(job.folder)
            self._free.put(emulator)

    def map(self, points: Iterable[tuple[Place, ...]]) -> list[Outcome]:
        """Return what becomes of a job at each of the points."""
        return self.spread(self.meet, points)

    def spread(self, work: Callable[[Given], Result], each: Iterable[Given]) -> list[Result]:
        """Do something with each, two at a time."""
        with ThreadPoolExecutor(LANES) as pool:
            return list(pool.map(work, each))

    def meet(self, points: tuple[Place, ...]) -> Outcome:
        """Kill a job at each of the points in turn, let it recover, and look at it."""
        with self.job() as job:
            kills = sum(job.run(strace=killing(point)).was_killed for point in points)
            problems = [*_at_rest(job), *_recovered(job)]
            extra = 0 if problems else witness(job).extra
            return Outcome(points, kills, extra, tuple(problems))

    def clean_calls(self, *killed_at: Place) -> tuple[Call, ...]:
        """Return the system calls of a run that nothing happens to, after one that was killed, if one was."""
        with self.job() as job:
            for point in killed_at:
                job.run(strace=killing(point))
            record = job.folder / "record"
            ended = job.run(strace=recording(record))
            assert (ended.code, ended.has_crashed) == (0, False), ended.said
            return tuple(read_calls(record))

    def points(self, *killed_at: Place) -> list[Place]:
        """Return where such a run can be killed."""
        calls = self.clean_calls(*killed_at)
        return places_to_die(calls, self.folder)


def _at_rest(job: SmallJob) -> list[str]:
    """Return what does not hold of a job that was killed; one killed before its first request may have no ledger."""
    if not job.emulator.journal.generations:
        return []
    return violations(witness(job), is_over=False)


def _recovered(job: SmallJob) -> list[str]:
    """Let the next run recover; where it may not pay twice by itself, tell it to."""
    ended, problems = job.run(), []
    if ended.code == SOME_FAILED and not ended.has_crashed:
        problems = violations(witness(job))
        ended = job.run("--resend-unknown")
    return [*problems, *(_not_done(ended) if ended.code or ended.has_crashed else violations(witness(job)))]


def _not_done(ended: Ended) -> list[str]:
    return [f"I10: the recovery ended with {ended.code}: {ended.said[-300:]}"]


def chosen(points: Sequence[Place], every: int, *, always: Sequence[str] = ()) -> list[tuple[Place, ...]]:
    """Return every n-th of the points, and all of some calls."""
    return [(point,) for number, point in enumerate(points) if number % every == 0 or point.call in always]


def second_level(bench: Bench, every: int) -> Iterator[tuple[Place, ...]]:
    """Yield pairs: a first kill at each stage of one item, and each place in the recovery after it."""
    for first in _stages(bench.clean_calls(), bench.folder)[:: min(every, 5)]:
        recovery = [*takewhile(lambda call: not is_request(call), bench.clean_calls(first))]
        yield from ((first, again) for again in places_to_die(recovery, bench.folder)[::every])


def _stages(calls: Sequence[Call], folder: Path) -> list[Place]:
    """Return the first and the last call of each name while the second item is on its way."""
    second, third = [number for number, call in enumerate(calls) if is_request(call)][1:3]
    found: dict[str, list[Place]] = {}
    for call in calls[second:third]:
        found.setdefault(call.name, []).extend(places_to_die(calls, folder, among=[call]))
    return [place for places in found.values() for place in (places[:1] + places[1:][-1:])]


def table(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield the lines of a table: call, points, kills, violations, extra charges."""
    sums: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        row = sums.setdefault(outcome.points[-1].call, Counter())
        row += Counter(points=1, kills=outcome.kills, violations=bool(outcome.problems), extra=outcome.extra)
    columns = ("points", "kills", "violations", "extra")
    yield f"{'call':<12}" + "".join(f"{name:>12}" for name in columns)
    for call, row in [*sums.items(), ("all", sum(sums.values(), Counter()))]:
        yield f"{call:<12}" + "".join(f"{row[name]:>12}" for name in columns)


def say(*lines: str) -> None:
    """Print lines at once."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def show(title: str, outcomes: Sequence[Outcome], started: float) -> bool:
    """Print the table and what does not hold; return whether all does."""
    say("", f"{title} ({time.monotonic() - started:.0f} s)", *table(outcomes))
    for outcome in outcomes:
        for problem in outcome.problems:
            say(f"  {', '.join(map(str, outcome.points))}: {problem}")
    return not any(outcome.problems for outcome in outcomes)


def main(arguments: Sequence[str]) -> int:
    """Kill at all points; return the exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take every n-th point")
    parser.add_argument("--only", choices=("off", "replay", "urls", "second", "errors"), help="do one of the tables")
    asked = parser.parse_args(arguments)
    if reason := missing():
        say(f"kill points are skipped: {reason}")
        return 0
    with quick_folder() as folder:
        tables: dict[str, Callable[[], bool]] = {
            "off": lambda: _first(Path(folder), asked.every, "off"),
            "replay": lambda: _first(Path(folder), asked.every, "replay"),
            "urls": lambda: _first(Path(folder), asked.every, "off", "--two-at-urls"),
            "second": lambda: _second(Path(folder), asked.every),
            "errors": lambda: _errors(Path(folder), asked.every),
        }
        held = [show() for name, show in tables.items() if asked.only in (None, name)]
        return 0 if all(held) else 1


def _first(folder: Path, every: int, idempotency: str, *options: str) -> bool:
    started = time.monotonic()
    is_replayed = idempotency == "replay"
    with Bench.open(folder, ("--idempotency", idempotency, *options), replays=is_replayed) as bench:
        outcomes = bench.map(chosen(bench.points(), every))
    is_free = not (is_replayed and sum(outcome.extra for outcome in outcomes))
    return show(f"killed once, idempotency={idempotency} {' '.join(options)}", outcomes, started) and is_free


def _second(folder: Path, every: int) -> bool:
    started = time.monotonic()
    with Bench.open(folder) as bench:
        outcomes = bench.map(second_level(bench, every))
    return show("killed, and killed again while it recovers", outcomes, started)


def _errors(folder: Path, every: int) -> bool:
    started = time.monotonic()
    with Bench.open(folder) as bench:
        places = bench.points()

        def meet(given: tuple[Place, str]) -> Outcome:
            with bench.job() as job:
                failed = fail(job, *given)
                return Outcome((failed.place,), int(failed.ended.code != 0), failed.extra, failed.problems)

        met = [(place, error) for error, calls in (FULL, FAILING) for place in places_to_fail(places, calls)[::every]]
        outcomes = bench.spread(meet, met)
    return show("no room at a write, an error at a sync; `kills` are runs that ended early", outcomes, started)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
