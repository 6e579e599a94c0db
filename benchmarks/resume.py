"""How long `nebula-async bulk` takes to see that a job of 100,000 items is done, and to begin with the one that is not.

The command runs in a fresh process against a server that counts its requests. A finished job: until it ends, by which
time it has sent nothing. A job with one item left: until the server is asked for the first time. Both are made by the
job's own code for a few items, and in their likeness for the others (`finished_job.py`). Prints a table, and exits 1
when the target is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attrs import frozen
from calls import answer_at_once
from canned import MODEL
from finished_job import REALLY_RUN, make_nearly_finished
from servers import Server, serving

ITEMS, ROUNDS = 100_000, 3
TARGET_SECONDS = 3.0
COMMAND = Path(sys.executable).with_name("nebula-async")
GLANCE_SECONDS = 0.002


@frozen
class Resumed:
    """A run of a job: its exit code, seconds until its first request and until its end, CPU, and how many it sent."""

    exit_code: int
    first: float | None
    seconds: float
    cpu_seconds: float
    requests: int

    @property
    def decision(self) -> float:
        """Seconds until it was known what to do: to send, or that nothing is left."""
        return self.seconds if self.first is None else self.first


def main() -> int:
    """Measure, print, and say whether the target was reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=ITEMS)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--keep", type=Path, help="a new folder, where the jobs are left")
    given = options.parse_args()
    print("| items | left | exit | first decision, s | end, s | CPU, s | requests |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="nebula-resume-") as scratch, serving(answer_at_once) as server:
        folder = given.keep or Path(scratch)
        are_reached = [show(folder / str(left), left, given, server) for left in (0, 1)]
    print(f"\ntarget: at most {TARGET_SECONDS:g} s, and nothing sent for a finished job")
    return 0 if all(are_reached) else 1


def show(folder: Path, left: int, given: argparse.Namespace, server: Server) -> bool:
    """Measure a job with so many items left, print each run, and say whether the target was reached."""

    def begin(manifest: Path, out: Path) -> int:
        return start(manifest, out, server, "--max-images", str(REALLY_RUN), "--durability", "process").wait()

    manifest = make_nearly_finished(folder, given.items, begin, left=left)
    if not left:
        start(manifest, folder / "out", server).wait()  # a finished job has its gallery
    runs = [resume(manifest, folder / "out", server) for _ in range(1 if left else given.rounds)]
    for run in runs:
        figures = f"{run.decision:.2f} | {run.seconds:.2f} | {run.cpu_seconds:.2f} | {run.requests}"
        print(f"| {given.items} | {left} | {run.exit_code} | {figures} |", flush=True)
    is_soon = statistics.median(run.decision for run in runs) <= TARGET_SECONDS
    return is_soon and all(run.exit_code == 0 and (left > 0 or not run.requests) for run in runs)


def start(manifest: Path, out: Path, server: Server, *options: str) -> subprocess.Popen[bytes]:
    """Start the command on a job."""
    return subprocess.Popen(
        [COMMAND, "bulk", manifest, "--out", out, "--model", MODEL, "--base-url", f"{server.url}/api/v1", *options],
        env=os.environ | {"NEBULA_API_KEY": "sk-emulator"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def resume(manifest: Path, out: Path, server: Server) -> Resumed:
    """Run a job again."""
    asked, cpu, started = server.tally.requests.value, children_cpu(), time.perf_counter()
    process = start(manifest, out, server)
    first = None
    while process.poll() is None:
        time.sleep(GLANCE_SECONDS)
        if first is None and server.tally.requests.value > asked:
            first = time.perf_counter() - started
    seconds = time.perf_counter() - started
    requests = server.tally.requests.value - asked
    return Resumed(process.returncode, first, seconds, children_cpu() - cpu, requests)


def children_cpu() -> float:
    """Return the CPU seconds of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
