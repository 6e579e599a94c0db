"""What is installed, and what it exports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from distributions import brought_by

import nebula_async

ROOT = Path(__file__).parent.parent

PUBLIC = """
    APIStatusError AsyncNebula AuthenticationError BadRequestError BudgetExceededError BulkJob Charges Config
    ConfigurationError
    ContentPolicyError DeadlineError DirectorySink DownloadError Failure Gate Generation Image ImageRequest
    InferenceRequest InvalidRequestError JobError Limits MemorySink NebulaError NotFoundError NotSentError
    ObjectStoreSink Observer OutcomeUnknownError PermissionDeniedError Provenance QuotaExhaustedError RateLimit
    RateLimitError RetryPolicy ServerError Sink SinkError Tier Timeouts UnusableReplyError Writer read_provenance
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from this checkout without touching the network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, check=True, capture_output=True, text=True)
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="session")
def core_environment(wheel, tmp_path_factory) -> Path:
    """The interpreter of an environment that holds the wheel and its core dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("core")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next((folder / "lib").glob("python3*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for name in brought_by("nebula-async"):
        link_files(name, packages)
    return folder / "bin" / "python"


def link_files(name: str, packages: Path) -> None:
    """Put an installed distribution into another environment."""
    installed = distribution(name)
    for file in installed.files or ():
        source = Path(installed.locate_file(file))
        if ".." not in file.parts and source.suffix != ".pyc":
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)


def run(python: Path, code: str) -> str:
    """Run code in an environment, with warnings as errors, away from the checkout; return what it prints."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    done = subprocess.run(
        [python, "-W", "error", "-c", code], cwd=python.parent, env=environ, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_the_public_names_are_the_documented_ones():
    """`from nebula_async import …` offers exactly the documented names."""
    assert sorted(PUBLIC.split()) == sorted(nebula_async.__all__)
    assert all(hasattr(nebula_async, name) for name in nebula_async.__all__)


def test_the_core_asks_for_six_packages():
    """An installation without extras requires the six core dependencies and nothing else."""
    named = {re.match(r"[a-z0-9]+", line).group() for line in requires("nebula_async") if "extra ==" not in line}
    assert {"anyio", "attrs", "cattrs", "httpcore", "httpx", "pybase64"} == named


def test_the_wheel_works_without_extras(core_environment):
    """The wheel alone, in an environment with the core dependencies alone, imports and makes a client."""
    code = (
        "import nebula_async; nebula = nebula_async.AsyncNebula('sk-test');"
        "print(nebula_async.__version__, nebula, nebula_async.__file__.count('site-packages'))"
    )
    assert f"{nebula_async.__version__} AsyncNebula('https://api.nebulablock.com/api/v1') 1\n" == run(
        core_environment, code
    )


def test_importing_loads_core_dependencies_and_nothing_else(core_environment):
    """The client loads no extra, no command line, no emulator, and neither trio nor SQLite."""
    code = (
        "import sys; from nebula_async import AsyncNebula;"
        " print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = set(run(core_environment, code).split()) - set(sys.stdlib_module_names)
    known = {"anyio", "attr", "attrs", "cattr", "cattrs", "certifi", "h11", "httpcore", "httpx", "idna", "pybase64"}
    assert set() == loaded - known - {"nebula_async", "sniffio", "typing_extensions", "__main__", "_distutils_hack"}
    assert "attrs" in loaded


def test_modules_of_public_names_are_there_too(core_environment):
    """After `import nebula_async` alone, `nebula_async.errors` and its like can be named, and nothing that is not."""
    code = "import nebula_async as n; print(n.errors.NebulaError is n.NebulaError, hasattr(n, 'nothing'))"
    assert "True False\n" == run(core_environment, code)


def test_the_command_says_which_extra_it_needs(core_environment):
    """Without the extra `cli` the command ends with exit code 2 and the line to type."""
    code = "import nebula_async.cli; nebula_async.cli.main()"
    done = subprocess.run([core_environment, "-c", code], capture_output=True, text=True, check=False)
    assert 2 == done.returncode
    assert "nebula-async: cyclopts is not installed; this command needs: pip install 'nebula_async[cli]'\n" == (
        done.stderr
    )


def test_the_wheel_holds_the_package_alone(wheel):
    """The wheel has the package, its type marker and its licence, and no tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"nebula_async", f"nebula_async-{nebula_async.__version__}.dist-info"} == {
        name.partition("/")[0] for name in names
    }
    assert "nebula_async/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_version_is_written_once():
    """The distribution's version is the package's."""
    assert nebula_async.__version__ == distribution("nebula_async").version
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"]
