"""`make matrix`: a core of the suite in each cell of `cells.py`: one row for each, and exit code 1 if one fails.

Names of cells choose some. A cell that this machine cannot run is skipped, and says why.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cells import CELLS, HERE, ROOT, Cell
from environments import find_python, prepare

LAST_LINE = re.compile(r"^(?:=+ )?((?:\d+ \w+(?:, )?)+) in ", flags=re.MULTILINE)
LONGEST_SECONDS = 600
SHOWN = 40


def command_of(cell: Cell, python: Path, folder: Path) -> list[str]:
    """Return the command line of a cell's tests."""
    pytest = [*cell.options, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'tests'}"]
    plugin = ["-p", cell.plugin] if cell.plugin else []
    spread = ["--numprocesses", str(cell.workers), "--dist", "loadfile"] if cell.workers else []
    before = [*cell.before, str(python), str(HERE / "loopback.py")] if cell.before else []
    left_out = ["-k", f"not ({' or '.join(cell.without)})"] if cell.without else []
    return [*before, str(python), *pytest, *plugin, *spread, *left_out, *cell.tests]


def environ_of(cell: Cell) -> dict[str, str]:
    """Return the environment of a cell: that of this process, without what is meant for other Pythons."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "NEBULA_"))}
    paths = [str(HERE), str(ROOT / "tests")] if cell.plugin else []
    return kept | {"PYTHONPATH": os.pathsep.join(paths)} | dict(cell.environ)


@contextmanager
def place_of(cell: Cell, folder: Path) -> Iterator[Path]:
    """Give the folder in which a cell's tests run: the checkout or, for the wheel, one that holds the tests alone."""
    if cell.installed != "wheel":
        yield ROOT
        return
    shutil.copytree(ROOT / "tests", folder / "alone" / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder / "alone")
    yield folder / "alone"


def run(cell: Cell) -> tuple[str, str]:
    """Run a cell; return "passed", "skipped" or "FAILED", and what is to be said of it."""
    python = find_python(cell.python)
    if python is None or cell.why_not:
        return "skipped", cell.why_not or f"there is no Python {cell.python}"
    try:
        inside = prepare(cell, python)
    except subprocess.CalledProcessError as error:
        return "FAILED", f"cannot be installed: exit code {error.returncode}"
    with tempfile.TemporaryDirectory(prefix="matrix-") as name, place_of(cell, Path(name)) as place:
        return _judged(cell, _run_tests(cell, command_of(cell, inside, Path(name)), place))


def _run_tests(cell: Cell, command: list[str], place: Path) -> tuple[int, str]:
    try:
        done = subprocess.run(
            command, cwd=place, env=environ_of(cell), umask=cell.umask, timeout=LONGEST_SECONDS, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return 1, f"{(error.stdout or b'').decode(errors='replace')}\nnot done after {LONGEST_SECONDS} s"
    return done.returncode, done.stdout


def _judged(cell: Cell, ended: tuple[int, str]) -> tuple[str, str]:
    code, output = ended
    counts = LAST_LINE.findall(output)
    if code == 0 and counts:
        return "passed", counts[-1]
    _say(f"\n--- {cell.name} ---", *output.splitlines()[-SHOWN:], "")
    return "FAILED", counts[-1] if counts else f"exit code {code}"


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def chosen(names: Iterable[str]) -> list[Cell]:
    """Return the cells of these names, or all. Ends the process for a name that none has."""
    wanted = set(names)
    if unknown := wanted - {cell.name for cell in CELLS}:
        sys.exit(f"no cell is called {', '.join(unknown)}; there are {', '.join(cell.name for cell in CELLS)}")
    return [cell for cell in CELLS if not wanted or cell.name in wanted]


def main(*names: str) -> int:
    """Run the cells, and print a row for each."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what it starts with `&`
    rows = []
    for cell in chosen(names):
        began = time.monotonic()
        result, told = run(cell)
        rows.append(result)
        _say(f"{cell.name:12} {cell.python:5} {cell.installed:9} {result:8} {time.monotonic() - began:5.0f} s  {told}")
    return int("FAILED" in rows)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
