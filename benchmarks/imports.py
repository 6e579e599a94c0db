"""How long importing the client takes beside importing openai's, in an environment with core dependencies alone.

Prints a table and exits 1 when the target is missed. Needs the package index, for openai. The second row makes a client
as well: what the first leaves for then is in it.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

ROOT = Path(__file__).parent.parent
RUNS = 15
TARGET = 0.3

STEPS = {
    "import": ("from nebula_async import AsyncNebula", "from openai import AsyncOpenAI"),
    "import, and a client": (
        "from nebula_async import AsyncNebula; AsyncNebula('sk-test')",
        "from openai import AsyncOpenAI; AsyncOpenAI(api_key='sk-test')",
    ),
}
"""What is timed, of this package and of openai; the target is for the first."""

TIMED = """
import time
begun, used = time.perf_counter(), time.process_time()
{code}
print(time.perf_counter() - begun, time.process_time() - used)
"""


@frozen
class Run:
    """The seconds that one process took, by the clock and of the processor."""

    wall: float
    cpu: float


Pair: TypeAlias = tuple[Run, Run]


def main() -> int:
    """Measure, print, and say whether the target was reached."""
    with tempfile.TemporaryDirectory() as folder:
        python = install(Path(folder))
        steps = {name: measure(python, codes) for name, codes in STEPS.items()}
        versions = {found.metadata["Name"]: found.version for found in distributions(path=[str(site_packages(python))])}
    print(f"Python {platform.python_version()}, openai {versions['openai']}, {RUNS} runs each, in turn\n")
    print("| | nebula_async ms (lowest), CPU | openai ms (lowest), CPU | ratio, median of pairs | of CPU |")
    print("|---|---|---|---|---|")
    for name, pairs in steps.items():
        ours, theirs = zip(*pairs, strict=True)
        print(f"| {name} | {figures(ours)} | {figures(theirs)} | {ratio(pairs, wall):.2f} | {ratio(pairs, cpu):.2f} |")
    reached = ratio(steps["import"], wall)
    print(f"\nimport: {reached:.3f} of openai's (target: at most {TARGET})")
    return 0 if reached <= TARGET else 1


def install(folder: Path) -> Path:
    """Make an environment with this package, its core dependencies, and openai; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(ROOT), "openai"], check=True)
    return python


def site_packages(python: Path) -> Path:
    """Return where an environment's packages lie."""
    return next((python.parent.parent / "lib").glob("python3*/site-packages"))


def measure(python: Path, codes: tuple[str, str]) -> list[Pair]:
    """Return the runs of both codes, every one in a process of its own, in turn; a first round warms the cache."""
    pairs = [(timed(python, codes[0]), timed(python, codes[1])) for _ in range(1 + RUNS)]
    return pairs[1:]


def timed(python: Path, code: str) -> Run:
    """Run code in a new process and return what it took."""
    time.sleep(0.02)
    done = subprocess.run([python, "-I", "-c", TIMED.format(code=code)], check=True, capture_output=True, text=True)
    return Run(*map(float, done.stdout.split()))


def wall(run: Run) -> float:
    """Return the seconds by the clock."""
    return run.wall


def cpu(run: Run) -> float:
    """Return the seconds of the processor."""
    return run.cpu


def figures(runs: Sequence[Run]) -> str:
    """Return the medians in milliseconds, and the lowest by the clock."""
    median, lowest, used = statistics.median(map(wall, runs)), min(map(wall, runs)), statistics.median(map(cpu, runs))
    return f"{1000 * median:.0f} ({1000 * lowest:.0f}), {1000 * used:.0f}"


def ratio(pairs: Sequence[Pair], of: Callable[[Run], float]) -> float:
    """Return the median over the pairs."""
    return statistics.median(of(ours) / of(theirs) for ours, theirs in pairs)


if __name__ == "__main__":
    sys.exit(main())
