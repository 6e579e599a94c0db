"""Programs and command lines of a page, run as a reader would."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define, field
from documents import ELSEWHERE, ROOT, Block, blocks_of, compare, is_run, told_by
from places import announced

from nebula_async.emulator import Emulator

sys.path.append(str(ROOT / "tests/integrations"))

from redis_server import RedisServer, why_not

SHOWN_REDIS = "redis://127.0.0.1:6379/0"
PACKAGES = ROOT / "examples/javascript/node_modules"

PORT = re.compile(r"--port (\d+)")
AWAIT = re.compile(r"^(?:\w+ = )?await ", flags=re.MULTILINE)
EXIT = re.compile(r"# .*\(exit code (\d+)\)$")

CELL = """
import ast, asyncio, sys
asyncio.run(eval(compile(sys.argv[1], "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)))
"""
"""Runs the cell of a notebook, where `await` works at the top."""

SERVERS = {"nebula-async emulator ": "NEBULA_ALLOWED_IMAGE_HOSTS=", "uvicorn ": "running on http://"}
"""How lines begin that run until they are interrupted, and what is in the last line that such a server announces."""

NEEDED = {"curl"}
"""Programs that may not be there: a page that calls one is skipped without it, and says so."""


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
            timeout=300,
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
    with with_redis(program.text) as text:
        code = [CELL, text] if AWAIT.search(text) else [text]
        done = subprocess.run(
            [sys.executable, "-c", *code], cwd=folder, env=environ, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert program.page.name in ELSEWHERE or done.stderr == ""  # such libraries log there
    shown = {before: after for after, before in told_by(blocks).items()}
    if program in shown:
        compare(shown[program], done.stdout)


@contextmanager
def with_redis(text: str) -> Iterator[str]:
    """Give a program that names a Redis one of its own; the test is skipped with the reason where there can be none."""
    if SHOWN_REDIS not in text:
        yield text
        return
    if reason := why_not():
        pytest.skip(reason)
    with RedisServer() as server:
        yield text.replace(SHOWN_REDIS, server.url)


def environ_of(emulator: Emulator, state: Path) -> dict[str, str]:
    """Return the environment of someone with a key, whose API is an emulator."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **announced(emulator),
        "NEBULA_STATE_DIR": str(state),
        "NO_COLOR": "1",
    }


def copy_examples(folder: Path) -> None:
    """Copy the examples into a folder; npm's packages, where there are any, are only linked."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("node_modules"))
    if PACKAGES.is_dir():
        (folder / "examples/javascript/node_modules").symlink_to(PACKAGES)
