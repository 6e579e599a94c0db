"""Terminals for tests: a pseudo-terminal that a command runs on, and what a person sees there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

CODE = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[[\d;?]*([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")

LONGEST_SILENCE = 20.0


@attrs.define
class Screen:
    """What is seen on a terminal of so many columns, as far as our codes go; a line that is too long wraps."""

    columns: int
    rows: list[str] = attrs.field(factory=lambda: [""])
    row: int = 0
    column: int = 0
    lines_drawn: list[str] = attrs.field(factory=list)

    def feed(self, text: str) -> Screen:
        """Show text."""
        for found in CODE.finditer(text):
            number, letter, _, control, plain = found.groups()
            if plain is not None:
                self._write(plain)
            elif control == "\n":
                self.row += 1
                self.rows += [""] * (self.row + 1 - len(self.rows))
            elif control == "\r":
                self.column = 0
            elif letter == "K":
                self.rows[self.row] = self.rows[self.row][: self.column]
                self.lines_drawn.append(self.rows[self.row])
            elif letter == "J":
                self.rows[self.row :] = [self.rows[self.row][: self.column]]
            elif letter == "A":
                self.row = max(self.row - int(number or 1), 0)
        return self

    def _write(self, plain: str) -> None:
        for letter in plain:
            if self.column == self.columns:
                self.row, self.column = self.row + 1, 0
                self.rows += [""] * (self.row + 1 - len(self.rows))
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1


@attrs.define
class Terminal:
    """A pseudo-terminal: `follower` is what a command writes to, `leader` what is seen."""

    leader: int
    follower: int
    columns: int
    written: str = ""

    def resize(self, columns: int) -> None:
        """Give it another width."""
        self.columns = columns
        fcntl.ioctl(self.follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read_until(self, pattern: str) -> str:
        """Read until something is written that matches; return what was read for that."""
        read = ""
        while not re.search(pattern, uncoloured(read)):
            piece = self._read()
            assert piece, self.written
            read += piece
        return read

    def read_to_end(self) -> str:
        """Read all that is written until the last writer has gone."""
        while self._read():
            pass
        return self.written

    def _read(self) -> str:
        assert select.select([self.leader], [], [], LONGEST_SILENCE)[0], self.written
        try:
            piece = os.read(self.leader, 65536).decode(errors="replace")
        except OSError:  # Linux says so when the last writer is gone
            return ""
        self.written += piece
        return piece


def uncoloured(text: str) -> str:
    """Return text without codes that choose colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@contextmanager
def terminal(columns: int = 80) -> Iterator[Terminal]:
    """Give a terminal of so many columns."""
    leader, follower = pty.openpty()
    given = Terminal(leader, follower, columns)
    given.resize(columns)
    try:
        yield given
    finally:
        os.close(leader)
        if given.follower >= 0:
            os.close(given.follower)


@contextmanager
def on_terminal(
    shell, *arguments: object, columns: int = 80, stdout: int | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """Run the command on a terminal; with `stdout`, only its stderr and stdin are there."""
    clean = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "HOME": str(shell.folder), "LANG": "C.UTF-8"}
    clean |= {"NEBULA_API_KEY": "sk-emulator", "XDG_STATE_HOME": str(shell.folder.parent / "state")}
    with terminal(columns) as given:
        theirs = given.follower
        command = [shell.command, *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            cwd=shell.folder,
            env=clean | environment,
        )
        try:
            yield process, given
        finally:
            process.kill()
            process.communicate()


def let_go(given: Terminal) -> None:
    """Close our own copy of what the command writes to, so that its end is the end."""
    os.close(given.follower)
    given.follower = -1
