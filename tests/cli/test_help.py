"""The help of each command: it fits a terminal, and its examples work as they stand."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import get_args

import pytest
from places import announced
from rich.console import Console

from nebula_async.cli.app import BEGIN, COMMANDS, app
from nebula_async.cli.examples import EXAMPLES
from nebula_async.cli.parameters import TierName
from nebula_async.config import TIERS

RUNNING = [(name, line) for name, lines in EXAMPLES.items() if name != "emulator" for line in lines]
SERVING = EXAMPLES["emulator"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, start_once):
    """A folder with what the examples name: prompts, a job that ran, and a picture that says how it was made."""
    place = tmp_path_factory.mktemp("examples")
    (place / "prompts.txt").write_text("a flying cat\na lake at dawn\n")
    for line in (
        "nebula-async bulk prompts.txt --out cats --no-gallery",
        "nebula-async generate 'a flying cat' -o cat --provenance",
    ):
        in_shell(line, place, start_once, check=True)
    return place


@pytest.fixture(scope="module")
def start_once():
    """An emulator for all examples."""
    from nebula_async.emulator import Emulator

    with Emulator(latency=0.0, credit="1000000") as emulator:
        yield emulator


def in_shell(line: str, folder, emulator, *, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command line as a user types it, in a home of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEBULA_", "XDG_", "PYTHON"))}
    clean |= {
        **announced(emulator),
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=clean, capture_output=True, text=True, timeout=60, check=check
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal(command):
    """The help of each command says what it does, has two examples, and is not wider than 80 columns."""
    console = Console(file=StringIO(), width=80)
    app.help_print([command], console=console)
    lines = [line.rstrip() for line in console.file.getvalue().rstrip().splitlines()]
    examples = lines.index("Examples:")

    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"Usage: nebula-async {command}")
    assert lines[2]
    assert " ".join(EXAMPLES[command]) == " ".join(lines[examples + 1 :])


@pytest.mark.parametrize(("command", "line"), RUNNING, ids=[line for _, line in RUNNING])
def test_examples_work(tmp_path, folder, start_once, command, line):
    """Each example of a command's help runs as it stands, where there is what it names."""
    place = tmp_path / "here"
    shutil.copytree(folder, place)
    if command == "generate":
        (place / "cat.png").unlink()
    ended = in_shell(line, place, start_once)

    assert 0 == ended.returncode, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("line", SERVING)
def test_examples_of_the_emulator_work(shell, line):
    """The examples of the emulator serve until they are interrupted."""
    _, *arguments = re.sub(r"--port 8080", "--port 0", line).split()
    process = shell.start(*arguments)
    announced = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGINT)

    assert announced[0].startswith("export NEBULA_BASE_URL=http://127.0.0.1:")
    assert 0 == shell.ended(process).code


def test_the_overview_begins_with_a_picture(shell, tmp_path, start_once):
    """Without arguments there is an overview: what each command does, and a first command that works as it stands."""
    ended = shell.run(COLUMNS="80")

    assert (0, "") == (ended.code, ended.err)
    assert all(re.search(rf"│ {command} +\w+ \w+", ended.out) for command in COMMANDS)
    assert BEGIN in ended.out
    assert 0 == in_shell(BEGIN, tmp_path, start_once).returncode
    assert ["a-flying-cat.png"] == [path.name for path in tmp_path.glob("*.png")]


WRONG = {
    "typing error": (("bulkk", "x.txt"), "there is no command bulkk; did you mean nebula-async bulk?"),
    "another word": (
        ("frobnicate",),
        "there is no command frobnicate; nebula-async --help lists them: generate, b",
    ),
    "a prompt": (("a flying cat",), "nebula-async generate 'a flying cat'"),
    "nothing": (("",), "there is no command ''; nebula-async --help lists them"),
    "a file": (("prompts.txt",), "nebula-async inspect prompts.txt"),
    "an option": (("--bogus",), "there is no option --bogus; nebula-async --help lists"),
    "an option's typing error": (("generate", "x", "--widht", "3"), "no option --widht; did you mean --width?"),
    "an option of another command": (("bulk", "x", "--latency=3"), "no option --latency; nebula-async bulk --help "),
    "no prompt": (("generate",), "PROMPT is missing; nebula-async generate --help has examples"),
    "no value": (("generate", "x", "--width"), "a value for --width is missing; nebula-async generate --help"),
    "no quotes": (("generate", "a", "flying", "cat"), "a prompt of several words is written in quotes"),
    "no choice": (("export", "cats", "--format", "zip"), 'Choose from: "webdataset", "parquet"'),
}


@pytest.mark.parametrize(("arguments", "text"), WRONG.values(), ids=WRONG)
def test_wrong_commands(shell, arguments, text):
    """What cannot be understood is one sentence that says what to type instead, and exit code 2."""
    shell.write("prompts.txt", "a cat")
    ended = shell.run(*arguments)

    assert (2, "", 1) == (ended.code, ended.out, ended.err.count("\n"))
    assert ended.err.startswith("nebula-async: ")
    assert text in ended.err


def test_the_names_of_tiers_are_the_tiers():
    """What help and shells offer for --tier is what the library knows."""
    assert tuple(TIERS) == get_args(TierName)


@pytest.mark.parametrize("loaded", ["main", "cyclopts.parameter", "nebula_async.cli.account"])
def test_an_interruption_while_modules_load(shell, loaded):
    """Ctrl-C in the first tenths of a second ends the command at once, without a traceback."""
    process = shell.start("generate", "a cat", "--emulator", PYTHONPROFILEIMPORTTIME="1")
    told = (line.split("|")[-1].strip() for line in process.stderr)
    before = "nebula_async.cli" if loaded == "main" else loaded
    assert before == next(module for module in told if module == before)
    assert next(told)  # what comes after it is loaded by the command itself
    process.send_signal(signal.SIGINT)
    ended = shell.ended(process)

    assert ended.code in (130, -signal.SIGINT)
    assert "" == ended.out


def test_a_command_loads_what_it_needs_alone():
    """Neither doctor nor completion nor what jobs need slows the start of another command."""
    code = "import sys, nebula_async.cli.app; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )

    assert set() == loaded & {"httpx", "sqlite3", "PIL", "nebula_async.bulk.job", "cyclopts.completion.bash"}
    assert {f"nebula_async.cli.{command}" for command in COMMANDS if command != "completion"} & loaded == set()
