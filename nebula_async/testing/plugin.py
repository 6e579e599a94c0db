"""What pytest loads: the fixtures `nebula_emulator` and `nebula`, the marks `nebula` and `nebula_live`.

Loading it costs next to nothing. The client and the emulator are imported when a test first uses a fixture.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from nebula_async.client import AsyncNebula
    from nebula_async.testing.emulator import NebulaEmulator

MARKS = (
    "nebula(**options): the test has the fixture nebula_emulator, started with these options of Emulator and waits=…",
    "nebula_live: the test may call other machines although nebula_offline is set",
)
STATE_VARIABLE = "NEBULA_STATE_DIR"
NUMBERS = itertools.count(1)
OF_THE_MACHINE = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the setting that keeps a whole project away from the API."""
    told = "refuse what clients of nebula_async would send to other machines, in all tests but those marked nebula_live"
    parser.addini("nebula_offline", told, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, and remember what this machine has set before any test has."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    config.stash[OF_THE_MACHINE] = {name: value for name, value in os.environ.items() if name.startswith("NEBULA_")}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test with the mark the emulator, whether it names the fixture or not, before all fixtures of its own."""
    names = getattr(item, "fixturenames", None)
    if names is None or not item.get_closest_marker("nebula"):
        return
    others = [name for name in names if name != "nebula_emulator"]
    wider = [name for name in others if _is_wider(item, name)]
    own = [name for name in others if name not in wider]
    setattr(item, "fixturenames", [*wider, "nebula_emulator", *own])  # noqa: B010 - the other list is shared by all parameters


def _is_wider(item: pytest.Item, name: str) -> bool:
    """Whether a fixture outlives a test: those are set up before any that does not."""
    info: Any = getattr(item, "_fixtureinfo", None)
    found: Any = info and info.name2fixturedefs.get(name)
    return bool(found) and found[-1].scope != "function"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Keep a test on this machine where the project wants that, its fixtures of any scope included."""
    if not item.config.getini("nebula_offline") or item.get_closest_marker("nebula_live"):
        return (yield)
    from nebula_async.testing.offline import only_this_machine

    with only_this_machine():
        return (yield)


@pytest.fixture(scope="session")
def _nebula_shared_emulator() -> Iterator[NebulaEmulator]:
    shared = _made({})
    with shared.emulator:
        yield shared


@pytest.fixture
def nebula_emulator(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NebulaEmulator]:
    """A local Nebula Block with an empty journal, which `AsyncNebula()` of the code under test reaches too.

    One is started for the session, and another for a test with options in `@pytest.mark.nebula`. Variables of this
    machine that begin with `NEBULA_` are gone meanwhile, and no client of this process reaches another machine.
    """
    # one MonkeyPatch for the test and for this: of two, one would bring back what the other has set
    with _running(request) as emulator, _guard(request):
        for name, value in request.config.stash[OF_THE_MACHINE].items():
            if os.environ.get(name) == value:  # what another fixture has set stays
                monkeypatch.delenv(name)
        for name, value in emulator.environ.items():
            monkeypatch.setenv(name, value)
        if STATE_VARIABLE not in os.environ:  # made when a client shares its limit with the processes of the host
            monkeypatch.setenv(STATE_VARIABLE, str(tmp_path_factory.getbasetemp() / f"nebula-{next(NUMBERS)}"))
        yield emulator


@pytest.fixture
def nebula(nebula_emulator: NebulaEmulator) -> AsyncNebula:
    """A client of the emulator, for asyncio, trio and several loops one after the other; nobody has to close it."""
    return nebula_emulator.client()


@contextmanager
def _running(request: pytest.FixtureRequest) -> Iterator[NebulaEmulator]:
    options = _options_of(request.node)
    if options:
        own = _made(options)
        with own.emulator:
            yield own
        return
    shared = request.getfixturevalue("_nebula_shared_emulator")
    from nebula_async.engine.gate import known_account

    known_account.cache_clear()  # what an earlier test's refusals said of the limit is no word of this one's
    shared.reset()
    yield shared


def _guard(request: pytest.FixtureRequest) -> AbstractContextManager[None]:
    from nebula_async.testing.offline import only_this_machine

    return nullcontext() if request.node.get_closest_marker("nebula_live") else only_this_machine()


def _options_of(item: pytest.Item) -> dict[str, object]:
    """Return the options of a test's marks, those of the nearest mark last."""
    marks = list(item.iter_markers("nebula"))
    for mark in marks:
        if mark.args:
            _refuse(f"it takes options by name, such as faults=['429:@1']; got {mark.args[0]!r}")
    return {name: value for mark in reversed(marks) for name, value in mark.kwargs.items()}


def _made(options: dict[str, object]) -> NebulaEmulator:
    try:
        from nebula_async.testing.options import make

        return make(options)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        needs = "the fixtures of nebula_async need: pip install 'nebula_async[emulator]'"
        pytest.fail(f"{missing} is not installed; {needs}", pytrace=False)
    except ValueError as error:
        _refuse(str(error))


def _refuse(problem: str) -> NoReturn:
    pytest.fail(f"@pytest.mark.nebula: {problem}", pytrace=False)
