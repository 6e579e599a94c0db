"""Parsers, each with what it has to hold for any bytes whatever, and what is compared with what others read there.

A target is a module of this folder: `check(data)` raises where the bytes are read wrongly, `SEEDS` are a few that are
read well, `WORDS` what such bytes are made of. Atheris searches on from there (`search.py`), and so does hypothesis,
for a moment, in the suite (`test_targets.py`).
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).parents[2]
NAMES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py")))

MOST_BYTES = 2048

SCRATCH = "NEBULA_FUZZ_SCRATCH"
"""Where those folders are made: who searches removes it, as a search does not end as other processes do."""

sys.path += [str(TESTS / folder) for folder in ("api", "images")]  # what lies beside the parsers' own tests


def load(name: str) -> ModuleType:
    """Return a target by its name."""
    return import_module(f"{__name__}.{name}")


def scratch() -> Path:
    """Return a folder for as long as this process lives."""
    folder = Path(tempfile.mkdtemp(dir=os.environ.get(SCRATCH), prefix="nebula-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def most_bytes(target: ModuleType) -> int:
    """Return how long the inputs of a target may be."""
    size: int = getattr(target, "MOST_BYTES", MOST_BYTES)
    return size


def same(expected: object, found: object, given: object) -> None:
    """Raise an error that shows the input, unless two values are the same."""
    if expected != found:
        raise AssertionError(f"{given!r}\nread as {found!r}\ninstead of {expected!r}")
