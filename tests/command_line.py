"""The command, in this process or one of its own, without any setting from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
from places import Place, announced

from nebula_async.cli import main

COMMAND = Path(sys.executable).parent / "nebula-async"
OURS = ("NEBULA_", "PYTHON", "COLUMNS", "LINES", "TERM", "FORCE_COLOR", "NO_COLOR", "CLICOLOR")


@attrs.frozen
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it wrote."""
        return self.out + self.err


@attrs.frozen
class Shell:
    """Runs the command in a folder, without any setting from outside."""

    folder: Path
    stack: ExitStack
    output: pytest.CaptureFixture[str]
    command: Path = COMMAND

    def run(self, *arguments: object, key: str | None = None, at: Place | None = None, **environment: str) -> Ended:
        """Run the command to its end in this process, as that is quick."""
        with pytest.MonkeyPatch.context() as patch, Path(os.devnull).open() as nothing:
            patch.chdir(self.folder)
            for name in [name for name in os.environ if name.startswith(OURS)]:
                patch.delenv(name)
            for name, value in _settings(key, at, environment).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", [str(COMMAND), *map(str, arguments)])
            patch.setattr(sys, "stdin", nothing)
            self.output.readouterr()
            return _checked(Ended(_exit_code(main), *self.output.readouterr()))

    def run_alone(self, *arguments: object, **given: object) -> Ended:
        """Run the command to its end in a process of its own: for what is decided where a process begins or ends."""
        return self.ended(self.start(*arguments, **given))

    def start(
        self, *arguments: object, key: str | None = None, at: Place | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start the command, `at` a server whose announcement was evaluated; it is killed when the test ends."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        process = subprocess.Popen(
            [self.command, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=clean | {"PYTHONWARNINGS": "error"} | _settings(key, at, environment),
        )
        self.stack.callback(_end, process)
        return process

    def ended(self, process: subprocess.Popen[str], err: str = "") -> Ended:
        """Wait for a command whose stderr was read up to `err`."""
        out, rest = process.communicate(timeout=300)
        return _checked(Ended(process.returncode, out, err + rest))

    def write(self, name: str, *lines: str) -> str:
        """Write a file into the folder and return its name."""
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))
        return name

    def files(self) -> list[str]:
        """Return the files of the folder."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())


def _settings(key: str | None, at: Place | None, environment: dict[str, str]) -> dict[str, str]:
    return ({} if at is None else announced(at)) | environment | ({} if key is None else {"NEBULA_API_KEY": key})


def _exit_code(command: Callable[[], None]) -> int:
    try:
        command()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _checked(ended: Ended) -> Ended:
    """No output of a command may hold a traceback or a code that a terminal obeys."""
    assert "Traceback" not in ended.text, ended.text
    assert "\x1b" not in ended.text
    return ended


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
