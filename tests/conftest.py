"""Fixtures, and the guard that every asynchronous test runs on the event loop it names."""

from __future__ import annotations

import functools
import gc
import inspect
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trustme
from command_line import Shell
from log_guard import GUARD
from one_machine import OneMachine

from nebula_async.engine.gate import known_account
from nebula_async.testing import NebulaEmulator

LOOP_MARKS = {"anyio", "asyncio"}
OTHERS = OneMachine()
OTHERS.begin()


def pytest_configure(config):
    """Log everything to the guard, and to reports and `caplog` what they would hold without it."""
    config.addinivalue_line("markers", "logs_secrets: the test lets a secret be logged, and looks at that itself")
    config.option.log_level = config.option.log_level or "WARNING"
    GUARD.begin()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: commands would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    """Each test marked `anyio` runs on asyncio and on trio."""
    return request.param


def pytest_collection_modifyitems(items):
    """Refuse a coroutine test without exactly one of the marks `anyio` (both loops) and `asyncio` (that alone)."""
    for item in items:
        marks = [mark.name for mark in item.iter_markers() if mark.name in LOOP_MARKS]
        if inspect.iscoroutinefunction(getattr(item, "obj", None)) and len(marks) != 1:
            raise pytest.UsageError(f"{item.nodeid} needs exactly one of the marks anyio, asyncio; it has {marks}")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Leave the tests themselves out of garbage collection: millions of objects, which each of them would look at."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_sessionfinish():
    """Let what looks for objects find them again: hypothesis does where it is loaded for the summary alone."""
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """Fail a test that runs on another loop than its name says: plugins can swap them unseen."""
    test = getattr(item, "obj", None)
    if not inspect.iscoroutinefunction(test):
        return
    chosen = item.funcargs.get("anyio_backend", "asyncio")
    name = chosen if isinstance(chosen, str) else chosen[0]

    @functools.wraps(test)
    async def guarded(*args, **kwargs):
        assert trio.lowlevel.in_trio_run() == (name == "trio"), f"not on {name}"
        return await test(*args, **kwargs)

    item.obj = guarded


@pytest.fixture
def emulator(nebula_emulator: NebulaEmulator) -> NebulaEmulator:
    """A local Nebula Block without latency, limits or faults, its journal empty; the environment points there."""
    return nebula_emulator


@pytest.fixture
def shell(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """Run the command in an empty folder."""
    with ExitStack() as stack:
        yield Shell(tmp_path, stack, capfd)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """Tests see no key and no setting of the machine they run on."""
    for name in [name for name in os.environ if name.startswith("NEBULA_")]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _no_secret_is_logged(request) -> Iterator[None]:
    """No logger of any library tells a key, a prompt or a picture's URL, whatever a test does."""
    GUARD.take()  # what was logged in the set-up of fixtures that outlive a test is told by none
    yield
    caught = GUARD.take()
    if caught and not request.node.get_closest_marker("logs_secrets"):
        pytest.fail("a secret was logged:\n" + "\n".join(caught), pytrace=False)


@pytest.fixture(autouse=True)
def _no_other_machine(request) -> Iterator[None]:
    """No test of this suite connects to another machine (F63)."""
    OTHERS.take()
    yield
    tried = OTHERS.take()
    if tried and not request.node.get_closest_marker("nebula_live"):
        pytest.fail(f"it would have connected to {', '.join(tried)}", pytrace=False)


@pytest.fixture(autouse=True)
def _no_account_from_before():
    """Servers of tests come and go on the same ports: what one said of the day is no word of the next."""
    known_account.cache_clear()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """An authority that nobody knows."""
    return trustme.CA()


@pytest.fixture
def trusted(authority, monkeypatch, tmp_path) -> None:
    """Let this machine trust that authority."""
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
