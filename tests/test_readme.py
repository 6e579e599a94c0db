"""What the README shows, run as it stands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]

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
    }


def commands(name: str) -> list[str]:
    """Return the README's command lines for one command of ours."""
    return [line for line in COMMANDS if line.startswith(f"nebula-async {name}")]


def test_the_two_commands_come_first():
    """The first block shows `make demo` and `make test`, and nothing else."""
    language, text = BLOCKS[0]
    assert ("sh", ["make demo", "make test"]) == (language, [line.split("  ")[0].strip() for line in text.splitlines()])


def test_every_command_line_is_run_by_a_test():
    """No command stands in the README that no test runs."""
    known = {line for name in ("generate", "bulk", "emulator") for line in commands(name)}
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
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = subprocess.run(shlex.split(line), cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    assert [] != list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("line", commands("emulator"))
def test_the_emulator_starts_and_ends(line, environ, tmp_path):
    """The emulator's command line announces what to export, and Ctrl-C ends it."""
    words = shlex.split(line.replace("--port 8080", "--port 0"))  # a test must not need a certain port
    with subprocess.Popen(words, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        announced = [process.stdout.readline() for _ in ("where", "as whom")]
        process.send_signal(signal.SIGINT)
    assert 0 == process.returncode
    assert ["NEBULA_BASE_URL", "NEBULA_API_KEY"] == [line.removeprefix("export ").split("=")[0] for line in announced]
