"""How long `import nebula_async` takes beside `import openai`, in a fresh environment with the core dependencies alone.

Prints a table and exits 1 when the target is missed. Needs the package index, for openai.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNS = 15
TARGET = 0.4
CODE = "import time; start = time.perf_counter(); import {name}; print(time.perf_counter() - start)"


def main() -> int:
    """Measure, print, and say whether the target was reached."""
    with tempfile.TemporaryDirectory() as folder:
        python = install(Path(folder))
        times = measure(python, ("nebula_async", "openai"))
        versions = {found.metadata["Name"]: found.version for found in distributions(path=[str(site_packages(python))])}
    print(f"Python {platform.python_version()}, openai {versions['openai']}, {RUNS} runs each, in turn\n")
    print("| import | median ms | lowest | highest |\n|---|---|---|---|")
    for name, seconds in times.items():
        figures = (statistics.median(seconds), min(seconds), max(seconds))
        print(f"| {name} | " + " | ".join(f"{1000 * figure:.0f}" for figure in figures) + " |")
    ratio = statistics.median(ours / theirs for ours, theirs in zip(*times.values(), strict=True))
    print(f"\nratio, median of pairs: {ratio:.2f} (target: at most {TARGET})")
    return 0 if ratio <= TARGET else 1


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


def measure(python: Path, names: tuple[str, ...]) -> dict[str, list[float]]:
    """Return seconds for each import, each in a process of its own, the names in turn; one round warms the cache."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for counted in range(-1, RUNS):
        for name in names:
            seconds = import_seconds(python, name)
            if counted >= 0:
                times[name].append(seconds)
        time.sleep(0.05)
    return times


def import_seconds(python: Path, name: str) -> float:
    """Import a package in a new process and return the seconds."""
    done = subprocess.run([python, "-I", "-c", CODE.format(name=name)], check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
