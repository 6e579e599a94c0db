"""The installed command, in processes of its own, without any setting from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
from places import Place, announced

from nebula_async.cli import main
from nebula_async.emulator import Emulator

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
    """Runs the command in a folder."""

    folder: Path
    stack: ExitStack
    command: Path = COMMAND

    def start(
        self, *arguments: object, key: str | None = None, at: Place | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start the command, `at` a server whose announcement was evaluated; it is killed when the test ends."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        clean |= {"PYTHONWARNINGS": "error"} | ({} if at is None else announced(at)) | environment
        clean |= {} if key is None else {"NEBULA_API_KEY": key}
        process = subprocess.Popen(
            [self.command, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=clean,
        )
        self.stack.callback(_end, process)
        return process

    def run(self, *arguments: object, key: str | None = None, at: Place | None = None, **environment: str) -> Ended:
        """Run the command to its end; no output of it may hold a traceback or a code that a terminal obeys."""
        return self.ended(self.start(*arguments, key=key, at=at, **environment))

    def ended(self, process: subprocess.Popen[str], err: str = "") -> Ended:
        """Wait for a command whose stderr was read up to `err`."""
        out, rest = process.communicate(timeout=60)
        result = Ended(process.returncode, out, err + rest)
        assert "Traceback" not in result.text, result.text
        assert "\x1b" not in result.text
        return result

    def write(self, name: str, *lines: str) -> str:
        """Write a file into the folder and return its name."""
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))
        return name

    def files(self) -> list[str]:
        """Return the files of the folder."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Run the command in an empty folder."""
    with ExitStack() as stack:
        yield Shell(tmp_path, stack)


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command in this process and an empty folder, without settings: quickly, for what is refused at once."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)

    def call(*arguments: object, at: Place | None = None) -> Ended:
        for name, value in ({} if at is None else announced(at)).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", [str(COMMAND), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert "\x1b" not in told.out + told.err
        return Ended(int(ended.value.code or 0), told.out, told.err)

    return call


@pytest.fixture
def start() -> Iterator[Callable[..., Emulator]]:
    """Start an emulator with these options; it stops when the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Emulator(credit="1000000", **options))
