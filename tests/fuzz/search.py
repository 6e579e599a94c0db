"""Coverage-guided searches for bytes that a parser reads wrongly: all targets for a while, or one for many executions.

`make fuzz TIME=60` searches for so many seconds in all, each target for its share; `make fuzz TARGET=headers
RUNS=1000000` calls one so often. What was worth keeping stays in the folder, and the next search goes on from there.
Prints a line for each; exits 1 where one raised an error, whose input lies in the folder then, and belongs into a test.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from targets import NAMES, SCRATCH, load, most_bytes

HANGS_SECONDS = 10
"""An input that takes as long is a finding; instrumented, a call takes ten times its time."""

EXECUTED = re.compile(r"stat::number_of_executed_units: *(\d+)")
TAIL = 3_000


def main() -> None:
    """Search in one process for each target, one after the other."""
    options = read_options()
    if options.inside:
        search(options.target[0], options.folder, options.limits)
    seconds = options.seconds / len(options.target)
    limits = [f"-runs={options.runs}"] if options.runs else [f"-max_total_time={max(round(seconds), 1)}"]
    tell("target", "reference", "executions", "seconds", "findings")
    failed = [name for name in options.target if not is_fine(name, options.folder / name, limits)]
    sys.exit(1 if failed else 0)


def read_options() -> argparse.Namespace:
    """Return what is wanted."""
    parser = argparse.ArgumentParser(description="search for bytes that a parser reads wrongly")
    parser.add_argument("target", nargs="*", default=list(NAMES), metavar="target", help=", ".join(NAMES))
    parser.add_argument("--folder", type=Path, required=True, help="where what is found is kept")
    parser.add_argument("--seconds", type=float, default=60, help="for all of them")
    parser.add_argument("--runs", type=int, default=0, help="so many executions of each, instead")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--limits", nargs="*", default=[], help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    options.limits += rest
    if unknown := [name for name in options.target if name not in NAMES]:
        parser.error(f"there is no target {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return options


def is_fine(name: str, folder: Path, limits: list[str]) -> bool:
    """Search one target, print its line, and return whether nothing was found."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, name, "--inside", "--folder", str(folder), *limits]
    started, log = time.monotonic(), folder / "log"
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the name in it is not fixed
    with log.open("wb") as file, tempfile.TemporaryDirectory(dir=shared, prefix="nebula-fuzz-") as scratch:
        surroundings = {**os.environ, SCRATCH: scratch}
        code = subprocess.run(command, stdout=file, stderr=file, check=False, env=surroundings).returncode
    said = log.read_text(errors="replace")
    executed = EXECUTED.findall(said)
    found = "none" if code == 0 else f"an error, see {log}"
    count = int(executed[-1]) if executed else 0
    seconds = time.monotonic() - started
    tell(name, load(name).REFERENCE, f"{count:,}", f"{seconds:.0f}", found)
    if code:
        sys.stderr.write(f"{said[-TAIL:]}\n")
    return code == 0


def tell(name: str, reference: str, executions: str, seconds: str, findings: str) -> None:
    """Print a row of the table, at once."""
    sys.stdout.write(f"{name:<12} {reference:<26} {executions:>10} {seconds:>8}  {findings}\n")
    sys.stdout.flush()


def search(name: str, folder: Path, limits: list[str]) -> None:
    """Search from a target's seeds and words; does not return."""
    import atheris

    with atheris.instrument_imports(include=["nebula_async", "reference", "targets"]):
        target = load(name)
    corpus, words = folder / "corpus", folder / "words"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.SEEDS):
        (corpus / str(number)).write_bytes(seed)
    words.write_text("".join(f'"{quoted(word)}"\n' for word in target.WORDS if len(word) <= 64))
    kept = [f"-dict={words}", f"-max_len={most_bytes(target)}", f"-artifact_prefix={folder}/"]
    bounds = [f"-timeout={HANGS_SECONDS}", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(corpus), *kept, *bounds, *limits], target.check)
    atheris.Fuzz()


def quoted(word: bytes) -> str:
    """Return a word as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{letter:02x}" for letter in word)


if __name__ == "__main__":
    main()
