"""A browser for the modules that try the page in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from browser import new_window, running_browser

IN_BROWSER = "test_page"  # how the names of these modules begin; they come one after the other

running = pytest.StashKey[tuple[ExitStack, object]]()


@pytest.fixture(scope="module")
def browser(request) -> object:
    """One for all modules that follow each other."""
    stash = request.config.stash
    if running not in stash:
        stack = ExitStack()
        stash[running] = (stack, stack.enter_context(running_browser()))
    return stash[running][1]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """End the browser before any other test: while it runs, its event loop keeps others from running."""
    if running in item.config.stash and (nextitem is None or not nextitem.path.name.startswith(IN_BROWSER)):
        stack, _ = item.config.stash[running]
        del item.config.stash[running]
        stack.close()


@pytest.fixture(scope="module")
def window(browser) -> Iterator[object]:
    """A window for the tests of a module, in which each loads its page anew."""
    with new_window(browser) as opened:
        yield opened
