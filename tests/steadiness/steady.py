"""The whole suite so many times at one state of the code: `make steady TIMES=10`. A test that fails in any is a flake.

Each run is noted as it ends, with all that was said where a test failed; whoever stops the search, or changes the
machine, goes on with the same command. Prints a row for each run, and ends with 1 where a test failed, a run ended
otherwise, or took longer than eight minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from attrs import asdict, frozen

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 480

FAILED = re.compile(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", re.MULTILINE)
COUNT = re.compile(r"(\d+) ([a-z]+)")


@frozen
class Run:
    """How one run of the suite ended."""

    exit_code: int
    seconds: float
    passed: int
    skipped: int
    failed: list[str]

    @property
    def is_steady(self) -> bool:
        """Whether nothing failed, within the time that the suite has."""
        return not self.failed and self.exit_code == 0 and self.seconds <= MOST_SECONDS


def main() -> int:
    """Run the suite as often as is left, print what all runs came to, and say whether each was steady."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=10, help="so many in all, those that are noted included")
    options.add_argument("--folder", type=Path, required=True, help="where runs are noted")
    options.add_argument("suite", nargs="+", help="how Python runs it")
    given = options.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    notes = given.folder / f"{state_of_the_code()}.jsonl"
    return tell(all_runs(notes, given.runs, given.suite))


def tell(ended: Iterable[Run]) -> int:
    """Print a row for each run as it ends, and what they came to; return the exit code."""
    sys.stdout.write("| run | seconds | passed | skipped | failed |\n|---|---|---|---|---|\n")
    runs = []
    for number, run in enumerate(ended, 1):
        runs.append(run)
        names = ", ".join(run.failed) or ("" if run.exit_code == 0 else f"ended with {run.exit_code}")
        sys.stdout.write(f"| {number} | {run.seconds:.0f} | {run.passed} | {run.skipped} | {names} |\n")
        sys.stdout.flush()
    seconds, unsteady = statistics.median(run.seconds for run in runs), sum(not run.is_steady for run in runs)
    sys.stdout.write(f"\n{unsteady} of {len(runs)} runs were not steady; median {seconds:.0f} s of {MOST_SECONDS}\n")
    return 1 if unsteady else 0


def all_runs(notes: Path, count: int, suite: Sequence[str]) -> Iterator[Run]:
    """Return the runs that are noted, then those that are left, each noted as it ends."""
    noted = [Run(**json.loads(line)) for line in notes.read_text().splitlines()] if notes.exists() else []
    yield from noted[:count]
    for number in range(len(noted) + 1, count + 1):
        run = run_suite(suite, notes.with_name(f"{notes.stem}-{number}.log"))
        with notes.open("a") as file:
            file.write(json.dumps(asdict(run)) + "\n")
        yield run


def run_suite(suite: Sequence[str], log: Path) -> Run:
    """Run the suite once; where a test fails, keep what was said of it."""
    started = time.monotonic()
    ended = subprocess.run([sys.executable, *suite], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        log.write_text(ended.stdout)
    return run_of(ended.returncode, time.monotonic() - started, ended.stdout)


def run_of(exit_code: int, seconds: float, told: str) -> Run:
    """Return a run, from what pytest told of it."""
    counts = {kind: int(count) for count, kind in COUNT.findall(told.rstrip().rpartition("\n")[2])}
    return Run(exit_code, round(seconds, 1), counts.get("passed", 0), counts.get("skipped", 0), FAILED.findall(told))


def state_of_the_code() -> str:
    """Return what is different whenever the code is: runs of other code prove nothing about this one."""
    head = _git("rev-parse", "--short=12", "HEAD").strip()
    changes = _git("status", "--porcelain") + _git("diff", "HEAD")
    return f"{head}-{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
