"""One process that works for as long as it is let, in a world of its own that is disturbed all the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from attrs import define, field
from flatness import Sample
from nemesis import SERVICE, Nemesis
from places import announced
from weather import LINE
from world import World, world_of

SCRIPT = Path(__file__).with_name("soak_worker.py")
PAUSE_SECONDS = 1.5
SHARE = 0.05
"""So much of what it exchanges is broken on the line."""

LONGEST_ROUND_SECONDS = 120.0


@define(eq=False)
class LongLife:
    """The process, the samples that it told, and who disturbs it."""

    world: World
    source: Random
    _process: subprocess.Popen[str]
    samples: list[Sample] = field(factory=list, init=False)
    problems: list[str] = field(factory=list, init=False)
    _told: threading.Condition = field(factory=threading.Condition, init=False)
    _over: threading.Event = field(factory=threading.Event, init=False)
    _threads: list[threading.Thread] = field(factory=list, init=False)

    def begin(self) -> None:
        """Listen to it, and disturb it."""
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._listen, self._disturb)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, samples: int) -> bool:
        """Wait until it has told so many; return whether it has."""
        with self._told:
            return self._told.wait_for(lambda: len(self.samples) >= samples, LONGEST_ROUND_SECONDS)

    def end(self) -> list[str]:
        """Let it end, and return what did not hold."""
        self._over.set()
        self._threads[1].join()
        self.world.calm()
        self._process.stdin.close()
        try:
            code = self._process.wait(LONGEST_ROUND_SECONDS)
        except subprocess.TimeoutExpired:
            code = "no end"
        self._threads[0].join(1)
        return [*([f"the long-lived process ended with {code}"] if code else []), *self.problems, *self._of_charges()]

    def _listen(self) -> None:
        for line in self._process.stdout:
            told = json.loads(line)
            with self._told:
                self.problems = told.pop("problems")
                self.samples.append(Sample(**told))
                self._told.notify_all()

    def _disturb(self) -> None:
        while not self._over.wait(PAUSE_SECONDS):
            self._acts[self.source.choice(sorted(self._acts))]()
            self.world.weather.share = SHARE
            self.world.weather.names = tuple(self.source.sample(sorted(LINE), 6))

    @property
    def _acts(self) -> dict[str, Callable[[], object]]:
        world, source = self.world, self.source
        return {
            "service says": lambda: world.emulator.script.next(*source.choices(SERVICE, k=source.randint(1, 12))),
            "service restarts": lambda: world.restart(source.uniform(0, 0.5)),
            "limit changes": lambda: world.limit(per_minute=source.choice((3_000, 12_000)), burst=20),
            "credit used up": world.impoverish,
            "all is well": world.calm,
            "all is well again": world.calm,
        }

    def _of_charges(self) -> Iterator[str]:
        """What all its calls together say that they may have cost is true."""
        if not self.samples:
            yield "the long-lived process told nothing"
            return
        last, billed = self.samples[-1], self.world.emulator.journal.charged
        if not last.at_least <= billed <= last.at_most:
            yield f"the long-lived process was billed {billed} pictures, and says {last.at_least} to {last.at_most}"


@contextmanager
def living_long(seed: int) -> Iterator[LongLife]:
    """Give a process that lives while the block does."""
    with ExitStack() as stack:
        world = stack.enter_context(world_of(Nemesis(seed)))
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(world.disk), str(seed)],
                env=os.environ | announced(world.door),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(process.kill)
        life = LongLife(world, Random(f"{seed}/long"), process)  # noqa: S311 - the same at each run
        life.begin()
        yield life
