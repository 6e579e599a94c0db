"""Jobs in processes of their own, beside the emulator of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from small_job import SmallJob, quick_folder

from nebula_async.emulator import Emulator


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for jobs."""
    with quick_folder() as folder:
        yield Path(folder)


@pytest.fixture
def begin(emulator: Emulator, folder: Path) -> Callable[..., SmallJob]:
    """Begin a job: `begin("--concurrency", "2", items=6)`; nothing runs yet."""
    return lambda *options, items=4: SmallJob.begun(folder / "job", emulator, items=items, options=options)


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    """Processes that are started on this stack are gone after the test."""
    with ExitStack() as stack:
        yield stack
