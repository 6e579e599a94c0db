"""A seed, carried out: round after round a run of its job is disturbed, then all is calm and the job is ended."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from attrs import define, field, frozen
from checker import Books, Checker, Seen
from nemesis import ENDS, Disturbance, Nemesis, Round
from processes import LONGEST_SECONDS, Job, Running
from small_job import Ended
from test_clock_jumps import set_clock
from world import world_of

REPLAYED_BY = Path(__file__).with_name("soak.py")

MOST_CALM_RUNS = 3
"""So many runs of a calm world end a job: one that was stopped by the world as it was may need another."""

ROUND_SECONDS = 5.0
"""So long a round waits for the exchanges that it wants; what is left is done then, and the run is drained at last."""

LOCKED, OPEN = 0o555, 0o755


@frozen
class Outcome:
    """What became of a seed: how its runs ended, what does not hold, what its job came to, and what was left out."""

    seed: int
    most_items: int
    codes: tuple[int, ...]
    problems: tuple[str, ...]
    books: Books
    skipped: tuple[str, ...]
    seconds: float

    @property
    def replay(self) -> str:
        """The command that carries it out once more, and tells it."""
        return f"{sys.executable} {REPLAYED_BY} --seed {self.seed} --items {self.most_items} --tell"

    def __str__(self) -> str:
        codes = " ".join(map(str, self.codes))
        told = f"{len(self.problems)} PROBLEMS" if self.problems else "held"
        return f"{self.seed:>6} | {self.seconds:4.1f} s | {self.books} | {codes} | {told}"


def suffer(nemesis: Nemesis, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Carry out a seed and return what became of it; `say` is told each round as it begins, and how it ended."""
    started = time.monotonic()
    workload = nemesis.workload()
    say(f"seed {nemesis.seed}: {workload}")
    with world_of(nemesis) as world:
        ordeal = Ordeal(Job.begun(world, workload), Checker(world, workload), say)
        for given in nemesis.rounds():
            ordeal.play(given)
        ordeal.end(nemesis)
        seconds = time.monotonic() - started
        problems, skipped = tuple(ordeal.checker.problems), tuple(dict.fromkeys(world.skipped))
        codes, books = tuple(ordeal.codes), ordeal.checker.books()
        return Outcome(nemesis.seed, nemesis.most_items, codes, problems, books, skipped, seconds)


@define(eq=False)
class Ordeal:
    """A job on its way through a seed."""

    job: Job
    checker: Checker
    say: Callable[[str], None]
    codes: list[int] = field(factory=list, init=False)

    def play(self, given: Round) -> Ended:
        """Carry out a round, and look at what it left."""
        self.say(f"  {given}")
        world, started = self.job.world, time.monotonic()
        world.refill()
        world.weather.share, world.weather.names = given.share, given.line
        with self.job.running(given) as running:
            ended, done = self._disturbed(running, given)
            leftovers = running.leftovers()
        self.say(f"    = {ended.code} in {time.monotonic() - started:.1f} s: {shown(ended.said)}")
        self.codes.append(ended.code)
        self.checker.look(Seen(given, ended, frozenset(done), tuple(leftovers)))
        return ended

    def end(self, nemesis: Nemesis) -> None:
        """Let the job end in a calm world: as it is, and then with all that is missing bought."""
        self.job.world.calm()
        for given in nemesis.calm():
            for _ in range(MOST_CALM_RUNS):
                if self.play(given).code in (0, 1):
                    break
            self.checker.look_at_end(given)

    def _disturbed(self, running: Running, given: Round) -> tuple[Ended, list[str]]:
        until = time.monotonic() + ROUND_SECONDS
        with self._one_at_least(running, given) as (working, refused):
            done = [*self._strikes(working, given, until)]
            is_drained = given.frame != "calm" and not {*ENDS} & {*done} and working.until(lambda: False, left(until))
            ended = working.end(0 if is_drained else LONGEST_SECONDS)
            for other in refused:
                self.checker.look_at_rival(other.end(), is_first_there=False)
        return ended, [*done, *(["SIGTERM"] if is_drained else [])]

    def _strikes(self, running: Running, given: Round, until: float) -> Iterator[str]:
        """Do to a run what a round has in store, as far as it gets, and yield what was done."""
        start = self.job.world.exchanges
        for disturbance in given.disturbances:
            wanted = start + disturbance.after
            if not running.until(lambda wanted=wanted: self.job.world.exchanges >= wanted, left(until)):
                return
            self._inflict(disturbance, running)
            yield disturbance.kind

    @contextmanager
    def _one_at_least(self, running: Running, given: Round) -> Iterator[tuple[Running, list[Running]]]:
        """Let a run begin, with a second one at once where that is wanted; give the one that works, and the others."""
        if given.frame != "two at once":
            running.go()
            yield running, []
            return
        with self.job.running(given) as rival:
            running.go()
            rival.go()
            running.until(lambda: not rival.is_alive, ROUND_SECONDS)
            yield (running, [rival]) if running.is_alive else (rival, [running])

    def _inflict(self, disturbance: Disturbance, running: Running) -> None:
        world = self.job.world
        acts: Mapping[str, Callable[[], object]] = {
            "SIGKILL": partial(running.send, signal.SIGKILL),
            "SIGTERM": partial(running.send, signal.SIGTERM),
            "SIGINT": partial(running.send, signal.SIGINT),
            "SIGINT twice": partial(running.send, signal.SIGINT, signal.SIGINT),
            "stopped": partial(self._stop, running, disturbance.amount),
            "second process": partial(self._second, running),
            "service says": lambda: world.emulator.script.next(*disturbance.words),
            "service restarts": lambda: world.restart(disturbance.amount),
            "limit changes": partial(self._limit, disturbance),
            "quota used up": partial(self._quota, disturbance),
            "credit used up": world.impoverish,
            "disk is full": partial(self._fill, disturbance.amount, running),
            "folder locked": partial(self._lock, disturbance.amount, running),
            "clock set": lambda: set_clock(world.beside, disturbance.words[0]),
        }
        acts[disturbance.kind]()

    def _stop(self, running: Running, seconds: float) -> None:
        running.hold()
        time.sleep(seconds)
        running.send(signal.SIGCONT)

    def _second(self, running: Running) -> None:
        """Start another process on the job while the first stands still, which may be at its very end."""
        running.hold()
        is_there = self.job.is_locked
        with self.job.running(Round(0, "second")) as second:
            second.go()
            ended = second.end()
        running.send(signal.SIGCONT)
        self.checker.look_at_rival(ended, is_first_there=is_there)

    def _limit(self, disturbance: Disturbance) -> None:
        form, burst = disturbance.words
        self.job.world.say_waits(form)
        self.job.world.limit(per_minute=int(disturbance.amount), burst=int(burst))

    def _quota(self, disturbance: Disturbance) -> None:
        self.job.world.say_waits(disturbance.words[0])
        self.job.world.limit(per_day=int(disturbance.amount))

    def _fill(self, seconds: float, running: Running) -> None:
        with self.job.world.full_disk():
            self._while_alive(running, seconds)

    def _lock(self, seconds: float, running: Running) -> None:
        images = self.job.out / "images"
        folders = [images, *(path for path in images.iterdir() if path.is_dir())]
        _let(folders, LOCKED)
        self._while_alive(running, seconds)
        _let(folders, OPEN)

    def _while_alive(self, running: Running, seconds: float) -> None:
        until = time.monotonic() + seconds
        running.until(lambda: time.monotonic() >= until)


def left(until: float) -> float:
    """Return the seconds until a moment."""
    return max(until - time.monotonic(), 0.0)


def _let(folders: list[Path], mode: int) -> None:
    for folder in folders:
        folder.chmod(mode)


def shown(said: str) -> str:
    """Return the last that a process said, on one line."""
    return " / ".join(said.strip().splitlines()[-2:])[-300:] or "nothing said"
