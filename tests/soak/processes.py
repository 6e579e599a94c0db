"""The runs of a seed's job, each in a process of its own: started under what a round says, and watched to its end."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from attrs import define, field, frozen
from nemesis import Round, Workload
from places import announced
from small_job import Ended, watched
from system_calls import STRACE, missing
from test_clock_jumps import LIBRARIES, clock
from test_lost_folders import POWERLESS, can
from world import World

SCRIPT = Path(__file__).with_name("soak_job.py")
LONGEST_SECONDS = 90.0
"""No run takes longer, whatever is done to it, and a drain of a minute among that: else it hangs."""

GLANCE_SECONDS = 0.002
HUNG = f"it had not ended after {LONGEST_SECONDS:g} s"


@frozen
class Job:
    """A job of a seed: its manifest, its folder, and where each process says what it has to say."""

    world: World
    workload: Workload

    @classmethod
    def begun(cls, world: World, workload: Workload) -> Job:
        """Write the manifest; nothing runs yet."""
        job = cls(world, workload)
        job.manifest.write_text("".join(f"{line}\n" for line in workload.lines))
        return job

    @property
    def manifest(self) -> Path:
        """The job's input."""
        return self.world.disk / "prompts.jsonl"

    @property
    def out(self) -> Path:
        """The job's folder."""
        return self.world.disk / "out"

    @property
    def is_locked(self) -> bool:
        """Whether a process has the job."""
        with suppress(FileNotFoundError), (self.out / ".nebula" / "job.lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def command(self, given: Round) -> list[str]:
        """Return the command of a run."""
        words = (SCRIPT, self.manifest, self.out, *self.workload.options, *given.options)
        return [*self._under(given), sys.executable, *map(str, words)]

    @contextmanager
    def running(self, given: Round) -> Iterator[Running]:
        """Start a run, and let it begin; nothing of it is left when the block is left."""
        with ExitStack() as stack:
            said = stack.enter_context((self.world.beside / f"said-{time.monotonic_ns()}").open("w+"))
            process = stack.enter_context(self._start(given, said))
            stack.callback(process.kill)
            if not (strace := self._strace(given)):
                process.stdout.readline()
            stack.enter_context(watched(process, strace))
            stack.callback(process.kill)  # before its tracer is waited for
            yield Running(process, said)

    def _start(self, given: Round, said: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(given),
            env=os.environ | announced(self.world.door) | self._environment(given),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )

    def _under(self, given: Round) -> Sequence[str]:
        if given.frame == "few descriptors" and self._is_possible(can("prlimit", "--nofile=64", "true"), "prlimit"):
            return ("prlimit", f"--nofile={given.words[0]}")
        if given.frame == "folder that is locked" and self._is_possible(can(*POWERLESS, "true"), "setpriv"):
            return POWERLESS
        return ()

    def _strace(self, given: Round) -> Sequence[str]:
        if given.frame != "disk that fails" or not self._is_possible(can_trace(), "strace"):
            return ()
        error, call, when = given.words
        inject = f"inject={call}:error={error}:when={when}"
        return (*STRACE, "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)

    def _environment(self, given: Round) -> dict[str, str]:
        if given.frame == "other clock" and self._is_possible(bool(LIBRARIES), "libfaketime"):
            setting = clock(self.world.beside, given.words[0])
            return setting | {"FAKETIME_NO_CACHE": "0", "FAKETIME_CACHE_DURATION": "1"}  # as it is read often
        return {}

    def _is_possible(self, is_possible: bool, tool: str) -> bool:
        if not is_possible:
            self.world.skipped.append(f"{tool} is not on this machine, or not allowed")
        return is_possible


@cache
def can_trace() -> bool:
    """Whether calls of processes can be made to fail here."""
    return missing() is None


@define(eq=False)
class Running:
    """A process that has loaded its code."""

    process: subprocess.Popen[str]
    _said: object
    _until: float = field(factory=lambda: time.monotonic() + LONGEST_SECONDS, init=False)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def go(self) -> None:
        """Let it begin."""
        with suppress(BrokenPipeError):
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def until(self, happened: Callable[[], bool], seconds: float = LONGEST_SECONDS) -> bool:
        """Wait for something, at most so long; return whether the process is there still."""
        until = min(self._until, time.monotonic() + seconds)
        while self.is_alive and time.monotonic() < until and not happened():
            time.sleep(GLANCE_SECONDS)
        return self.is_alive

    def send(self, *signals: signal.Signals) -> None:
        """Send signals, one shortly after the other."""
        for number in signals:
            self.process.send_signal(number)
            time.sleep(GLANCE_SECONDS)

    def hold(self) -> None:
        """Stop it, and return once it stands still, or has ended."""
        self.send(signal.SIGSTOP)
        status = Path(f"/proc/{self.process.pid}/status")
        self.until(lambda: "\nState:\tT" in status.read_text() or "\nState:\tt" in status.read_text())

    def end(self, seconds: float = LONGEST_SECONDS) -> Ended:
        """Wait for its end; it is drained after so many seconds, and killed where that takes too long."""
        if self.until(lambda: False, seconds):
            self.send(signal.SIGTERM)
            self.until(lambda: False)
        hung = HUNG if self.is_alive else ""
        self.process.kill()
        code = self.process.wait()
        self._said.seek(0)
        return Ended(code, self._said.read() + hung)

    def leftovers(self) -> list[int]:
        """Return the processes of its session that are still there."""
        return [number for number in _numbers() if number != self.process.pid and _session(number) == self.process.pid]


def _numbers() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _session(number: int) -> int | None:
    with suppress(OSError):
        return os.getsid(number)
    return None
