"""A browser for the modules that try the page in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import new_window, running_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """One for each module: while it runs, its event loop keeps others from running."""
    with running_browser() as started:
        yield started


@pytest.fixture(scope="module")
def window(browser) -> Iterator[object]:
    """A window for the tests of a module, in which each loads its page anew."""
    with new_window(browser) as opened:
        yield opened
