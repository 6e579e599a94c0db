"""Pythons that are on this machine, and environments of the matrix with what a cell wants installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cells import ROOT, Cell

FOLDER = ROOT / ".venv" / ".matrix"
EXTRAS = "cli,images,emulator,s3,parquet,fastapi,redis,otel"
TOOLS = (
    "httpx2", "hypothesis", "opentelemetry-sdk", "pytest", "pytest-asyncio", "pytest-xdist", "respx", "trio", "trustme",
    "uvloop",
)  # fmt: skip
"""What the tests of the matrix need besides."""

LOWEST = ROOT / "tests" / "matrix" / "lowest.txt"


def find_python(version: str) -> str | None:
    """Return the path of a Python of this version, looked for by its name and where pyenv and uv keep theirs."""
    named = [sys.executable, shutil.which(f"python{version}"), shutil.which("python3")]
    kept = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions",
            Path.home() / ".local" / "share" / "uv" / "python"]  # fmt: skip
    found = sorted(path for folder in kept for path in folder.glob(f"*{version}*/bin/python3"))
    return next((str(path) for path in (*named, *found) if path and _is(str(path), version)), None)


def _is(python: str, version: str) -> bool:
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


def prepare(cell: Cell, python: str) -> Path:
    """Return the interpreter of the environment of a cell, made where it is not there as it should be."""
    folder = FOLDER / f"{cell.python}-{cell.installed}"
    wanted = "\n".join(_wanted(cell.installed)) + "".join(path.read_text() for path in _depends_on())
    stamp, inside = folder / "installed.txt", folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted or cell.installed == "wheel":
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
        for arguments in _steps(cell.installed, folder):
            _install(python, inside, *arguments)
        stamp.write_text(wanted)
    return inside


def _depends_on() -> tuple[Path, ...]:
    return ROOT / "pyproject.toml", ROOT / "constraints.txt", LOWEST


def _wanted(installed: str) -> tuple[str, ...]:
    return str(ROOT), installed, EXTRAS, *TOOLS


def _steps(installed: str, folder: Path) -> list[tuple[str, ...]]:
    """Return what is installed one after the other; the tools with their usual versions, also beside the lowest."""
    pinned = ("-c", str(ROOT / "constraints.txt"))
    match installed:
        case "lowest":
            tools = [line for line in TOOLS if line != "opentelemetry-sdk"]  # which wants an API of its own version
            return [("-c", str(LOWEST), "-e", f"{ROOT}[{EXTRAS}]", *tools)]
        case "wheel":
            wheel = folder / "wheels"
            return [("--wheel", str(wheel)), (*pinned, f"{wheel}[{EXTRAS}]", *TOOLS)]
        case _:
            return [(*pinned, "-e", f"{ROOT}[{EXTRAS}]", *TOOLS)]


def _install(python: str, inside: Path, *arguments: str) -> None:
    pip = [python, "-m", "pip", "--python", str(inside)]
    quiet = ("--quiet", "--disable-pip-version-check")
    if arguments[0] == "--wheel":
        subprocess.run([*pip, "wheel", *quiet, "--no-deps", "--wheel-dir", arguments[1], str(ROOT)], check=True)
        return
    subprocess.run([*pip, "install", *quiet, *map(_built, arguments)], check=True)


def _built(argument: str) -> str:
    """Return a requirement with the wheel in a folder in place of the folder."""
    folder, bracket, extras = argument.partition("[")
    wheels = sorted(Path(folder).glob("nebula_async-*.whl")) if folder.endswith("/wheels") else []
    return f"{wheels[0]}{bracket}{extras}" if wheels else argument
