"""`make coverage`: which branches of the package the suite takes; exit code 1 where one of `WHOLE` is left out.

Arguments choose tests, and then only `WHOLE` is judged. Tests of full disks and slow starts may fail here, where each
process writes what it took: `make test` judges tests.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SETTINGS = f"--rcfile={HERE / 'settings.toml'}"
DATA = ROOT / ".venv" / "branches"
LEAST_OF_ALL = 95.0

WHOLE = (
    "api/envelope.py", "api/extract.py", "bulk/ledger.py", "bulk/recovery.py", "engine/pace.py", "engine/retry.py",
    "engine/verdict.py",
)  # fmt: skip
"""What decides about money: every line and every branch of these is taken by a test."""


def watch(*tests: str) -> None:
    """Run tests, and note which lines and branches they take, in all processes that they start."""
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    spread = ("--numprocesses", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
    python = (sys.executable, "-m", "coverage")
    subprocess.run([*python, "run", SETTINGS, "-m", "pytest", "-q", *spread, *tests], cwd=ROOT, check=False)
    subprocess.run([*python, "combine", "--quiet", SETTINGS], cwd=ROOT, check=True)


def shares() -> tuple[dict[str, float], float]:
    """Return the percentage of each module, and that of all together."""
    command = [sys.executable, "-m", "coverage", "json", "--quiet", SETTINGS, "-o", str(DATA / "report.json")]
    subprocess.run(command, cwd=ROOT, check=True)
    report = json.loads((DATA / "report.json").read_text())
    files = {name.partition("nebula_async/")[2]: facts for name, facts in report["files"].items()}
    return {name: facts["summary"]["percent_covered"] for name, facts in files.items()}, report["totals"][
        "percent_covered"
    ]


def main(*tests: str) -> int:
    """Watch tests, print what they leave out, and judge it."""
    watch(*tests)
    modules, together = shares()
    subprocess.run([sys.executable, "-m", "coverage", "report", "--show-missing", SETTINGS], cwd=ROOT, check=True)
    missed = [name for name in WHOLE if modules.get(name, 0.0) < 100]
    for name in missed:
        sys.stdout.write(f"{name}: {modules.get(name, 0.0):.1f} %, and all of it has to be taken\n")
    sys.stdout.write(f"all together: {together:.1f} %, at least {LEAST_OF_ALL:g} % are wanted\n")
    return int(bool(missed) or (not tests and together < LEAST_OF_ALL))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
