"""Jobs in processes of their own, beside the emulator of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from small_job import SmallJob

from nebula_async.emulator import Emulator


@pytest.fixture
def begin(emulator: Emulator, tmp_path: Path) -> Callable[..., SmallJob]:
    """Begin a job: `begin("--concurrency", "2", items=6)`; nothing runs yet."""
    return lambda *options, items=4: SmallJob.begun(tmp_path / "job", emulator, items=items, options=options)


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    """Processes that are started on this stack are gone after the test."""
    with ExitStack() as stack:
        yield stack
