"""The fenced blocks of the README and of the pages of docs/: what each is, and how it is run.

A `python` block is a whole program. A `sh` block is command lines, which run one after the other in one folder for each
page; `nebula-async emulator` and `uvicorn` go on until the page ends, at a port that is free. A block with a title is
the file of that name, which is written first. `text` after either is what it prints, line by line: any number stands
for any other, and `…` for anything; `json` after a command has the members of what it prints. `diagram` is a drawing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from attrs import define, field, frozen

from nebula_async.emulator import Emulator

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
PACKAGES = ROOT / "examples/javascript/node_modules"

FENCE = re.compile(r"^( *)(`{3,})([\w-]*)([^\n`]*)\n(.*?)^\1\2 *$", flags=re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
NUMBER = re.compile(r"[0-9][0-9.,]*")
WILD = re.compile(r"…|[0-9][0-9.,]*|\s+")
PORT = re.compile(r"--port (\d+)")
EXIT = re.compile(r"# exits with (\d+)$")

NOT_RUN = {
    "make ": "the targets are what runs these tests",
    "pip install ": "the tests run in what it installed",
    "export ": "the tests set the variables of their own emulator",
}
"""How lines begin that are not run, and why."""

SERVERS = {"nebula-async emulator ": "NEBULA_ALLOWED_IMAGE_HOSTS=", "uvicorn ": "running on http://"}
"""How lines begin that run until they are interrupted, and what is in the last line that such a server announces."""

NEEDED = {"curl"}
"""Programs that may not be there: a page that calls one is skipped without it, and says so."""

LANGUAGES = {"python", "sh", "text", "json", "diagram"}


@frozen
class Block:
    """A fenced block: the page and line where it stands, its language, its text, and the file that it is."""

    page: Path
    line: int
    language: str
    text: str
    title: str | None

    @property
    def name(self) -> str:
        """What a test calls it."""
        return f"{self.page.name}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The command lines of a `sh` block, those that are continued joined."""
        lines = self.text.replace("\\\n", " ").splitlines() if self.language == "sh" else []
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found[3],
            text=textwrap.dedent(found[5]),
            title=titled[1] if (titled := TITLE.search(found[4])) else None,
        )
        for found in FENCE.finditer(text)
    ]


def is_run(line: str) -> bool:
    """Whether a command line is run."""
    return not line.startswith(tuple(NOT_RUN))


def told_by(blocks: list[Block]) -> dict[Block, Block]:
    """Return for each block that shows what another one prints, which that is: the program or commands before it."""
    return {
        after: before
        for before, after in pairwise(blocks)
        if after.language in ("text", "json") and before.language in ("python", "sh") and not after.title
    }


def without_a_test(page: Path) -> list[str]:
    """Return the blocks of a page that nothing runs, compares or writes."""
    blocks = blocks_of(page)
    shown = told_by(blocks)
    return [
        block.name
        for block in blocks
        if block.title is None
        and (block.language not in LANGUAGES or (block.language == "text" and block not in shown))
    ]


def differences(expected: str, actual: str) -> list[str]:
    """Return the lines of `expected` that `actual` has not, or not in this order."""
    lines = iter([line.strip() for line in actual.splitlines()])
    return [
        line
        for line in expected.splitlines()
        if line.strip() and not any(_pattern(line.strip()).fullmatch(each) for each in lines)
    ]


def _pattern(line: str) -> re.Pattern[str]:
    parts = zip(WILD.split(line), [*WILD.findall(line), ""], strict=True)
    return re.compile("".join(re.escape(plain) + _any_of(wild) for plain, wild in parts))


def _any_of(wild: str) -> str:
    if wild in ("…", ""):
        return ".*" if wild else ""
    return NUMBER.pattern if wild.strip() else r"\s+"


def members(value: object) -> object:
    """Return the shape of a JSON value: the names of its members, and of those of its members."""
    if isinstance(value, dict):
        return {name: members(each) for name, each in value.items()}
    return [members(value[0])] if isinstance(value, list) and value else None


@define
class Shell:
    """Runs the command lines of a page in a folder, and remembers at which ports its servers listen."""

    folder: Path
    environ: Mapping[str, str]
    ports: dict[str, str] = field(factory=dict)
    processes: list[subprocess.Popen[str]] = field(factory=list)

    def run(self, line: str) -> str:
        """Run a command line, or start a server, and return what it printed. It has to end as the page says."""
        for shown, real in self.ports.items():
            line = line.replace(f":{shown}", f":{real}")
        if last := next((last for start, last in SERVERS.items() if line.startswith(start)), None):
            return self._start(line, last)
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=60,
        )
        code = int(found[1]) if (found := EXIT.search(line)) else 0
        assert code == done.returncode, f"{line}\n{done.stdout}"
        return done.stdout

    def _start(self, line: str, last: str) -> str:
        shown = PORT.search(line)
        assert shown, f"{line}: a server of a page names its port"
        process = subprocess.Popen(
            ["sh", "-c", f"exec {PORT.sub('--port 0', line)}"],  # a test must not need a certain port
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        told = [process.stdout.readline()]
        while last not in told[-1]:
            told.append(process.stdout.readline())
            assert told[-1], f"{line}\n{''.join(told)}"
        printed = "".join(told)
        self.ports[shown[1]] = re.search(r"http://[\w.]+:(\d+)", printed)[1]
        return printed

    def close(self) -> None:
        """Interrupt the servers; each ends in good order."""
        for process in self.processes:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
            assert process.returncode in (0, -signal.SIGINT, 128 + signal.SIGINT)


@contextmanager
def shell(folder: Path, environ: Mapping[str, str]) -> Iterator[Shell]:
    """A shell for a page; its servers end with the block."""
    opened = Shell(folder, environ)
    try:
        yield opened
    finally:
        opened.close()


def run_page(page: Path, folder: Path, environ: Mapping[str, str]) -> int:
    """Run the command lines of a page and compare what it shows of their output. Return how many lines were run."""
    blocks = blocks_of(page)
    shown = {before: after for after, before in told_by(blocks).items()}
    count = 0
    write_files(blocks, folder)
    with shell(folder, environ) as opened:
        for block in blocks:
            printed = [opened.run(line) for line in block.commands if is_run(line)]
            count += len(printed)
            if printed and block in shown:
                compare(shown[block], "".join(printed))
    return count


def write_files(blocks: list[Block], folder: Path) -> None:
    """Write the files that a page shows into a folder."""
    for block in blocks:
        if block.title:
            (folder / block.title).write_text(block.text)


def compare(shown: Block, printed: str) -> None:
    """Hold what a page shows of an output against the output."""
    if shown.language == "json":
        assert members(json.loads(shown.text)) == members(json.loads(printed)), shown.name
        return
    missing = differences(shown.text, printed)
    assert missing == [], f"{shown.name} shows what is not printed:\n{printed}"


def programs_missing(page: Path) -> list[str]:
    """Return what the command lines of a page call that is not installed here: programs that are not ours."""
    called = {line.split()[0] for block in blocks_of(page) for line in block.commands if is_run(line)}
    return sorted(name for name in called & NEEDED if shutil.which(name) is None)


def run_program(program: Block, folder: Path, environ: Mapping[str, str]) -> None:
    """Run a program of a page, which ends well and without a warning, and compare what the page shows of its output.

    The files that the page shows lie beside it.
    """
    blocks = blocks_of(program.page)
    write_files(blocks, folder)
    done = subprocess.run(
        [sys.executable, "-c", program.text], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    shown = {before: after for after, before in told_by(blocks).items()}
    if program in shown:
        compare(shown[program], done.stdout)


def environ_of(emulator: Emulator, state: Path) -> dict[str, str]:
    """Return the environment of someone with a key, whose API is an emulator."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NEBULA_API_KEY": emulator.key,
        "NEBULA_BASE_URL": emulator.base_url,
        "NEBULA_INFERENCE_URL": emulator.inference_url,
        "NEBULA_ALLOWED_IMAGE_HOSTS": emulator.storage_host,
        "NEBULA_STATE_DIR": str(state),
        "NO_COLOR": "1",
    }


def copy_examples(folder: Path) -> None:
    """Copy the examples into a folder; npm's packages, where there are any, are only linked."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("node_modules"))
    if PACKAGES.is_dir():
        (folder / "examples/javascript/node_modules").symlink_to(PACKAGES)
