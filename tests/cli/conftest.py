"""Emulators for commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from nebula_async.emulator import Emulator


@pytest.fixture
def start() -> Iterator[Callable[..., Emulator]]:
    """Start an emulator with these options; it stops when the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Emulator(credit="1000000", **options))
