"""What the README shows, run as it stands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nebula_async.emulator import Emulator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
ROWS = re.findall(r"^\| (?:Serverless|Inference|both).*? \| (.+?) \| `(.+)` \|$", README, flags=re.MULTILINE)
"""What the documents show, and the command that runs it."""

PACKAGES = ROOT / "examples/javascript/node_modules"

NOT_RUN = ("make ", "pip install ", "export ")
"""Set-up: `.ci/run` calls the make targets, and the suite runs in what pip installed."""


@pytest.fixture
def environ(emulator) -> dict[str, str]:
    """The environment of someone with a key, whose API is the emulator."""
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": scripts,
        "NEBULA_API_KEY": emulator.key,
        "NEBULA_BASE_URL": emulator.base_url,
        "NEBULA_INFERENCE_URL": emulator.inference_url,
        "NEBULA_ALLOWED_IMAGE_HOSTS": emulator.storage_host,
    }


def copy_examples(folder: Path) -> None:
    """Copy the examples into a folder; npm's packages, where there are any, are only linked."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("node_modules"))
    if PACKAGES.is_dir():
        (folder / "examples/javascript/node_modules").symlink_to(PACKAGES)


def commands(name: str) -> list[str]:
    """Return the README's command lines for one command of ours."""
    return [line for line in COMMANDS if line.startswith(f"nebula-async {name}")]


def test_the_two_commands_come_first():
    """The first block shows `make demo` and `make test`, and nothing else."""
    language, text = BLOCKS[0]
    assert ("sh", ["make demo", "make test"]) == (language, [line.split("  ")[0].strip() for line in text.splitlines()])


def test_every_command_line_is_run_by_a_test():
    """No command stands in the README that no test runs."""
    names = ("generate", "plan", "bulk", "export", "inspect", "reproduce", "emulator")
    known = {line for name in names for line in commands(name)}
    assert set() == {line for line in COMMANDS if not line.startswith(NOT_RUN)} - known


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_runs(program, environ, tmp_path):
    """Each Python block is a whole program that ends well."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, "\n".join(line for line in done.stderr.splitlines() if "no/such" not in line))


@pytest.mark.parametrize("line", commands("generate") + commands("bulk"))
def test_a_command_ends_well(line, environ, tmp_path):
    """Each command line does what the text around it says."""
    copy_examples(tmp_path)
    done = subprocess.run(shlex.split(line), cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    assert [] != list(tmp_path.rglob("*.png"))


def test_a_picture_tells_how_it_was_made(environ, tmp_path):
    """The block that saves, inspects and reproduces a picture runs line by line, and the same picture comes again."""
    lines = [
        *(line for line in commands("generate") if "--provenance" in line),
        *commands("inspect"),
        *commands("reproduce"),
    ]
    told = [
        subprocess.run(shlex.split(line), cwd=tmp_path, env=environ, capture_output=True, text=True, check=True).stdout
        for line in lines
    ]

    assert 3 == len(told)
    assert "a reading cat" in told[1]
    assert "same" in told[2]


def test_a_job_is_planned_run_and_exported(environ, tmp_path):
    """The commands of a file of prompts run one after the other: each finds what the one before left."""
    copy_examples(tmp_path)
    lines = [*commands("plan"), *(line for line in commands("bulk") if "--out cats " in line), *commands("export")]
    told = [
        subprocess.run(shlex.split(line), cwd=tmp_path, env=environ, capture_output=True, text=True, check=True).stdout
        for line in lines
    ]
    assert 3 == len(told)
    assert "24 requests for 24 pictures" in told[0]
    assert "24 of 24 are in cats/images" in told[1]
    assert "24 pictures are in cats/export/webdataset" in told[2]


NEEDED = {"sh examples/curl": "curl", "cd examples/javascript": "npm"}
"""What else a row of the table needs."""


@pytest.fixture
def sampled(environ, tmp_path) -> Iterator[tuple[Emulator, dict[str, str]]]:
    """An emulator that knows the key of the documents' samples, and the environment that its command line announces."""
    copy_examples(tmp_path)
    with Emulator(keys=["YOUR_API_KEY"]) as emulator:
        yield (
            emulator,
            environ
            | {
                "NEBULA_API_KEY": emulator.key,
                "NEBULA_BASE_URL": emulator.base_url,
                "NEBULA_INFERENCE_URL": emulator.inference_url,
                "NEBULA_ALLOWED_IMAGE_HOSTS": emulator.storage_host,
            },
        )


def test_the_table_has_a_row_for_all_that_the_documents_show():
    """Both dialects, the older spelling, each of the six samples, and what the pages say in prose are there."""
    shown = [what for what, _ in ROWS]
    assert 17 == len(ROWS) == README.count("\n| Serverless") + README.count("\n| Inference") + README.count("\n| both")
    assert 6 == sum("sample" in what for what in shown)


@pytest.mark.parametrize(("shown", "line"), ROWS, ids=[what for what, _ in ROWS])
def test_a_row_of_the_table_runs(shown, line, sampled, tmp_path):
    """What the documents show runs here, by the command that stands beside it; the emulator charges pictures for it."""
    emulator, environ = sampled
    for start, program in NEEDED.items():
        if line.startswith(start) and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if "npm install" in line:  # the suite calls no registry: `make test` has installed what there is
        if not (PACKAGES / ".package-lock.json").is_file():
            pytest.skip("the packages of examples/javascript are not installed: make test does so where npm is")
        line = line.replace("npm install && ", "")
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert 0 == done.returncode, done.stderr
    own = ("error codes", "valid for an hour", "models")  # these start an emulator of their own, or cost nothing
    assert emulator.journal.charged or any(words in shown for words in own)
    assert done.stdout or "Python sample" in shown


@pytest.mark.parametrize("line", commands("emulator"))
def test_the_emulator_starts_and_ends(line, environ, tmp_path):
    """The emulator's command line announces what to export, and Ctrl-C ends it."""
    words = shlex.split(line.replace("--port 8080", "--port 0"))  # a test must not need a certain port
    with subprocess.Popen(words, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        announced = [process.stdout.readline() for _ in ("where", "as whom")]
        process.send_signal(signal.SIGINT)
    assert 0 == process.returncode
    assert ["NEBULA_BASE_URL", "NEBULA_API_KEY"] == [line.removeprefix("export ").split("=")[0] for line in announced]
