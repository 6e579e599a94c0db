"""A job of a few tiny pictures in processes of its own, one after the other, against an emulator in this one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen
from places import announced

from nebula_async.emulator import Emulator

SCRIPT = Path(__file__).with_name("job_under_test.py")
LONGEST_SECONDS = 60.0
MEMORY, ROOM = Path("/dev/shm"), 2**30  # noqa: S108 - folders with names of their own are made in it


def quick_folder() -> TemporaryDirectory[str]:
    """Make a folder for jobs, in memory if there is room: there syncs take no time, and are the same system calls."""
    is_memory = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM
    return TemporaryDirectory(prefix="nebula-", dir=MEMORY if is_memory else None)


@frozen
class Ended:
    """How a process ended: its exit code, negative after a signal, and what it said."""

    code: int
    said: str

    @property
    def was_killed(self) -> bool:
        """Whether it met SIGKILL."""
        return self.code == -signal.SIGKILL

    @property
    def has_crashed(self) -> bool:
        """Whether it ended by an exception that nobody foresaw."""
        return "Traceback" in self.said


@frozen
class SmallJob:
    """A manifest of `items` pictures in `folder`, their output folder beside it, and the options of every run."""

    folder: Path
    emulator: Emulator
    items: int = 4
    options: tuple[str, ...] = ()

    @classmethod
    def begun(cls, folder: Path, emulator: Emulator, *, items: int = 4, options: Sequence[str] = ()) -> SmallJob:
        """Write the manifest."""
        job = cls(folder, emulator, items, tuple(options))
        folder.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({"id": key, "prompt": prompt}) for key, prompt in job.prompts.items())
        job.manifest.write_text("".join(f"{line}\n" for line in lines))
        return job

    @property
    def manifest(self) -> Path:
        """The job's input."""
        return self.folder / "prompts.jsonl"

    @property
    def out(self) -> Path:
        """The job's folder."""
        return self.folder / "out"

    @property
    def prompts(self) -> dict[str, str]:
        """Each item's key and prompt, by which the server's journal knows it."""
        return {f"cat-{number}": f"a small cat, number {number}" for number in range(self.items)}

    def start(self, *options: str, under: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
        """Start the job in a process of its own, by another command if need be; it waits for a line of its input."""
        command = [*under, sys.executable, str(SCRIPT), str(self.manifest), str(self.out), *self.options, *options]
        return subprocess.Popen(
            command,
            env=os.environ | announced(self.emulator) | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str, strace: Sequence[str] = (), under: Sequence[str] = (), **environment: str) -> Ended:
        """Run the job to its end, or to that of its process, under the eyes of strace if that is given."""
        with self.start(*options, under=under, **environment) as process, watched(process, strace):
            try:
                _, said = process.communicate(timeout=LONGEST_SECONDS)
            except BaseException:
                process.kill()
                raise
        return Ended(process.returncode, said)


@contextmanager
def watched(process: subprocess.Popen[str], strace: Sequence[str]) -> Iterator[None]:
    """Attach strace to a process that has loaded its code and waits; it leaves with the process."""
    if not strace:
        yield
        return
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with subprocess.Popen([*strace, "-p", str(process.pid)]) as tracer:
        while not _is_traced(process.pid):
            assert tracer.poll() is None, "strace could not attach"
            time.sleep(0.002)
        yield


def _is_traced(process: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{process}/status").read_text()
