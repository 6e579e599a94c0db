"""The pytest plugin as its users meet it: in runs of pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]

HEAD = """
import asyncio, os
import pytest
from nebula_async import AsyncNebula, Config, ConfigurationError, NotSentError, RetryPolicy

async def cat(nebula):
    return await nebula.generate("a cat", model="black-forest-labs/FLUX.1-schnell", width=64, height=64)
"""

SLOW = ("schemathesis", "hypothesispytest")
"""Plugins that have nothing to do with it, and take a second to load."""

TOLD_TO_PYTEST = ("NEBULA_", "PYTEST", "PY_COLORS", "FORCE_COLOR", "CI", "BUILD_NUMBER")
"""How the names of variables begin that change what pytest prints: on a build server it says each failure twice."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Write a file of tests, run pytest on it with warnings as errors, and return what it prints."""

    def _run(tests: str, *options: str, head: str = HEAD, ini: str = "", code: int = 0, **environ: str) -> str:
        (tmp_path / "test_it.py").write_text(head + tests)
        scope = "" if "no:asyncio" in options else "asyncio_default_fixture_loop_scope = function\n"
        (tmp_path / "pytest.ini").write_text(f"[pytest]\n{scope}{ini}")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(TOLD_TO_PYTEST)}
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-W",
            "error",
            "--strict-markers",
            *without("cacheprovider", *SLOW),
        ]
        done = subprocess.run(
            [*words, *options], cwd=tmp_path, env=clean | environ, capture_output=True, text=True, check=False
        )
        assert code == done.returncode, done.stdout + done.stderr
        assert "" == done.stderr
        return done.stdout

    return _run


def without(*plugins: str) -> list[str]:
    """Return the options that leave these plugins out."""
    return [word for name in plugins for word in ("-p", f"no:{name}")]


class TestLoops:
    """The fixtures are no coroutines: they serve whatever runs the test."""

    def test_in_every_kind_of_test(self, run):
        """Plain tests, pytest-asyncio, anyio on both loops, a loop that is only closed, and loops one after another:
        nothing is left open, and nothing has to be closed.
        """
        tests = """
def test_plain(nebula, nebula_emulator):
    for _ in range(2):
        asyncio.run(cat(nebula))
    nebula_emulator.assert_charged(2)

def test_a_loop_that_is_only_closed(nebula):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(cat(nebula))
    loop.close()

def test_nothing_is_asked(nebula, nebula_emulator):
    nebula_emulator.assert_nothing_asked()

@pytest.mark.asyncio
async def test_pytest_asyncio(nebula):
    assert (await cat(nebula)).image.width == 64

@pytest.mark.anyio
async def test_anyio(nebula, nebula_emulator):
    urls = await nebula.generate_all(["a lake"], model="black-forest-labs/FLUX.1-schnell", width=64, height=64)
    nebula_emulator.assert_charged(1)

@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("time", [1, 2])
async def test_one_loop_for_all(nebula, nebula_emulator, time):
    await cat(nebula)
    nebula_emulator.assert_charged(1)
"""
        assert "8 passed" in run(tests)

    def test_in_the_auto_mode_of_pytest_asyncio(self, run):
        """Coroutine tests without a mark are run by pytest-asyncio's auto mode."""
        tests = """
async def test_it(nebula, nebula_emulator):
    await cat(nebula)
    nebula_emulator.assert_charged(1)
"""
        assert "1 passed" in run(tests, ini="asyncio_mode = auto\n")

    def test_on_several_processes(self, run):
        """Each process of pytest-xdist has an emulator of its own."""
        tests = """
@pytest.mark.parametrize("time", range(6))
def test_it(nebula, nebula_emulator, time):
    asyncio.run(cat(nebula))
    nebula_emulator.assert_charged(1)
"""
        assert "6 passed" in run(tests, "-n", "2")


class TestThisMachineAlone:
    """No test of a user's reaches the API by accident, or pays."""

    def test_what_the_machine_has_set_is_not_seen(self, run):
        """Clients that the tested code makes reach the emulator, whatever the developer's own settings are."""
        tests = """
OWN = "mine"

@pytest.fixture
def own_setting(monkeypatch):
    monkeypatch.setenv("NEBULA_TIER", "expert-1")

@pytest.mark.anyio
async def test_code_that_makes_its_own_client(own_setting, nebula_emulator):
    async with AsyncNebula() as nebula:
        await cat(nebula)
        assert nebula.config.tier.name == "expert-1"
        assert nebula.config.rate_limit is nebula.config.proxy is None
    nebula_emulator.assert_charged(1)
    assert os.environ["NEBULA_STATE_DIR"] != "/nowhere"

@pytest.mark.nebula
def test_the_mark_is_enough():
    assert os.environ["NEBULA_API_KEY"] == "sk-emulator"

def test_afterwards_all_is_as_it_was():
    assert os.environ["NEBULA_API_KEY"] == "sk-real"
"""
        environ = {
            "NEBULA_API_KEY": "sk-real",
            "NEBULA_BASE_URL": "https://example.com/api/v1",
            "NEBULA_PROXY": "http://127.0.0.1:1",
            "NEBULA_STATE_DIR": "/nowhere",
        }
        assert "4 passed" in run(tests, **environ)

    def test_other_machines_are_refused(self, run):
        """A client that would call another machine raises before it connects, whenever it was made; one with a
        transport of its own is let alone.
        """
        tests = """
from nebula_async.testing import FakeTransport

made_before = AsyncNebula("sk-real", config=Config())

@pytest.mark.anyio
async def test_it(nebula_emulator):
    for nebula in (made_before, AsyncNebula("sk-real", config=Config())):
        with pytest.raises(ConfigurationError, match="a test was about to call api.nebulablock.com"):
            await cat(nebula)
        with pytest.raises(ConfigurationError, match="a test was about to call"):
            await nebula.credits()
    nebula_emulator.assert_nothing_asked()
    await cat(AsyncNebula("sk-test", config=Config(), transport=FakeTransport()))
"""
        assert "2 passed" in run(tests)

    def test_a_project_that_is_offline(self, run):
        """With `nebula_offline` no test calls another machine, with or without the fixtures, but those marked."""
        tests = """
async def call():
    config = Config(base_url="https://nebula.invalid/api/v1", retry=RetryPolicy(attempts=1))
    async with AsyncNebula("sk-real", config=config) as nebula:
        await cat(nebula)

def test_it():
    with pytest.raises(ConfigurationError, match="a test was about to call nebula.invalid"):
        asyncio.run(call())

@pytest.mark.nebula_live
def test_that_is_meant_to():
    with pytest.raises(NotSentError):
        asyncio.run(call())
"""
        assert "2 passed" in run(tests, ini="nebula_offline = true\n")


class TestOrder:
    """The fixture of the mark is there before all others of a test, and for that test alone."""

    def test_before_the_fixtures_of_the_test(self, run):
        """What a test's own fixtures make, clients included, reaches the emulator; those that outlive the test are
        made before it.
        """
        tests = """
@pytest.fixture(scope="module")
def of_module():
    return os.environ.get("NEBULA_BASE_URL")

@pytest.fixture
def base():
    return os.environ.get("NEBULA_BASE_URL")

@pytest.fixture
def own(base):
    return AsyncNebula()

@pytest.mark.nebula(credit=5)
@pytest.mark.asyncio
async def test_it(of_module, base, own):
    assert of_module is None
    assert "127.0.0.1" in base
    async with own:
        await cat(own)

@pytest.mark.nebula(credit=5)
def test_who_names_it_last(base, nebula_emulator):
    assert nebula_emulator.base_url == base
"""
        assert "2 passed" in run(tests)

    def test_for_the_parameters_with_the_mark_alone(self, run):
        """One set of parameters may have the mark: the others have no emulator."""
        tests = """
@pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.nebula(credit=0)), 3])
def test_it(x, request):
    assert (x == 2) == ("nebula_emulator" in request.fixturenames) == ("NEBULA_BASE_URL" in os.environ)
"""
        assert "3 passed" in run(tests)

    def test_what_a_test_sets_is_gone_after_it(self, run):
        """A test that sets a variable with `monkeypatch`, whichever fixture comes first, leaves the machine's own."""
        tests = """
def test_first(monkeypatch, nebula_emulator):
    monkeypatch.setenv("NEBULA_API_KEY", "sk-wrong")

def test_second(nebula_emulator, monkeypatch):
    monkeypatch.setenv("NEBULA_API_KEY", "sk-wrong")

def test_afterwards():
    assert os.environ["NEBULA_API_KEY"] == "sk-real"
    assert "NEBULA_BASE_URL" not in os.environ
"""
        assert "3 passed" in run(tests, NEBULA_API_KEY="sk-real")


class TestOptions:
    """`@pytest.mark.nebula(…)` starts an emulator with these options."""

    def test_of_module_and_test(self, run):
        """Options of a module and of a test come together, the nearer ones win; without a mark the shared one is
        there.
        """
        tests = """
from nebula_async import QuotaExhaustedError, RateLimitError
pytestmark = pytest.mark.nebula(credit=1, image_format="jpeg")

@pytest.mark.nebula(credit=0)
def test_without_money(nebula, nebula_emulator):
    with pytest.raises(QuotaExhaustedError):
        asyncio.run(cat(nebula))
    nebula_emulator.assert_charged(0)

@pytest.mark.nebula(faults=["429:@1"], latency=0.01)
def test_faults(nebula, nebula_emulator):
    assert asyncio.run(cat(nebula)).image.media_type == "image/jpeg"
    nebula_emulator.assert_asked(2)

@pytest.mark.nebula(per_minute=2, retry_after="seconds")
def test_limits(nebula, nebula_emulator):
    asyncio.run(nebula.generate_all(["a cat"] * 6, model="black-forest-labs/FLUX.1-schnell", width=64, height=64))
    nebula_emulator.assert_charged(6)

@pytest.mark.nebula(waits=True)
def test_waits(nebula):
    assert nebula.config.retry.backoff == 1
"""
        assert "4 passed" in run(tests)

    def test_one_that_is_wrong_is_told_in_a_sentence(self, run):
        """What is no option, no fault or no value is an error of that test, told in one line, without a traceback."""
        tests = """
@pytest.mark.nebula(fault=["429:@1"])
def test_name(): ...

@pytest.mark.nebula(faults=["429"])
def test_fault(): ...

@pytest.mark.nebula(["429:@1"])
def test_position(nebula): ...

@pytest.mark.nebula(latency="much")
def test_value(nebula_emulator): ...

@pytest.mark.nebula(waits=3)
def test_waits(nebula_emulator): ...
"""
        said = run(tests, "--tb=short", code=1)
        for told in (
            "fault is no option; allowed are burst, credit, error_body, expired_status, faults,",
            "fault '429' cannot be read; allowed is KIND[=ARGUMENT]:WHEN",
            "it takes options by name, such as faults=['429:@1']; got ['429:@1']",
            "latency='much' cannot be the options of an emulator: ",
            "waits is 3; allowed is True or False",
        ):
            assert f"\n@pytest.mark.nebula: {told}" in said.replace("E   Failed: ", "")
        assert "5 errors" in said
        assert ".py:" not in said.partition("short test summary")[0]


class TestLoading:
    """Whoever has the package installed runs pytest as before."""

    def test_a_run_without_the_fixtures_loads_nothing(self, run):
        """Until a test uses a fixture, the plugin is all that is loaded of the package, and no library for it."""
        tests = """
import sys

def test_it():
    ours = {name for name in sys.modules if name.startswith("nebula_async")}
    assert ours == {"nebula_async", "nebula_async.testing", "nebula_async.testing.plugin"}
    assert not {"httpx", "anyio", "attrs", "starlette"} & {*sys.modules}
"""
        options = without("anyio", "asyncio", "respx")
        assert "1 passed" in run(tests, *options, head="")

    def test_without_the_emulators_libraries(self, run):
        """A test that wants the emulator says what to install; the others run."""
        tests = """
import sys
sys.modules["uvicorn"] = None

def test_that_wants_it(nebula): ...

def test_that_does_not(): ...

@pytest.mark.anyio
async def test_with_a_fake():
    from nebula_async.testing import FakeTransport
    await cat(AsyncNebula("sk-test", transport=FakeTransport()))
"""
        said = run(tests, code=1)
        assert (
            "uvicorn is not installed; the fixtures of nebula_async need: pip install 'nebula_async[emulator]'" in said
        )
        assert "3 passed, 1 error" in said
        assert "Traceback" not in said

    def test_by_name_where_nothing_is_loaded_by_itself(self, run):
        """With autoloading off, `-p nebula_async.testing.plugin` loads it."""
        tests = """
def test_it(nebula_emulator):
    nebula_emulator.assert_charged(0)
"""
        options = ("-p", "nebula_async.testing.plugin", *without("asyncio"))
        assert "1 passed" in run(tests, *options, head="", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")

    def test_who_imports_the_package_before_pytest_is_not_warned(self, tmp_path):
        """A program that imports the package and then runs pytest on itself gets no warning for the plugin's sake."""
        (tmp_path / "test_it.py").write_text("def test_it(): ...")
        options = ["-q", "-W", "error", "-p", "no:cacheprovider", *without("asyncio", *SLOW)]
        code = f"import sys, nebula_async, pytest; sys.exit(pytest.main({options!r}))"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (0, "") == (done.returncode, done.stderr)


def test_a_failed_assertion_tells_the_story(run):
    """Who paid too often reads what was asked, what was charged and under which key, and not the library's code."""
    tests = """
@pytest.mark.anyio
async def test_it(nebula, nebula_emulator):
    nebula_emulator.next("cut")
    await cat(nebula)
    nebula_emulator.assert_never_paid_twice()
"""
    said = run(tests, "-k", "asyncio", code=1)
    assert "E       AssertionError: 1 call was paid for more than once; the emulator's journal:" in said
    assert 2 == said.count("  call 1: #")
    assert "#1, HTTP 200, charged 1, 'a cat', seed " in said
    assert ", fault cut, key " in said
    assert "nebula_async/testing" not in said
