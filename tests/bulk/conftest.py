"""What the tests of jobs begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from jobs import CATS, write

from nebula_async.bulk.ledger import Ledger
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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of a job in `tmp_path` lies."""
    (tmp_path / ".nebula").mkdir()
    return tmp_path / ".nebula" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    """A new ledger."""
    with closing(Ledger.open(path, "process")) as ledger:
        yield ledger
