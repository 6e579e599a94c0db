"""What the tests of jobs begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from jobs import CATS, write

from nebula_async.emulator import Emulator


@pytest.fixture
def start() -> Iterator[Callable[..., Emulator]]:
    """Start an emulator with these options; it stops when the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Emulator(credit="1000000", **options))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four prompts."""
    return write(tmp_path, *CATS)
