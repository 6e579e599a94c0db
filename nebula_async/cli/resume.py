"""The command that goes on with a job, as it can be pasted into a shell."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from nebula_async.bulk.command import Command, quoted
from nebula_async.bulk.states import State
from nebula_async.bulk.summary import Summary
from nebula_async.cli import PROGRAM
from nebula_async.errors import BudgetExceededError
from nebula_async.keys import KEY_VARIABLE

ONCE = frozenset({"--retry-failed", "--resend-unknown", "--new-key", "--json", "--quiet"})
"""Options that were meant for one run: repeated, the first two pay again for what the run before did not get."""

REST = "--"
"""Behind this word there are no options: none can be put behind such a command."""


def given_command() -> Command | None:
    """Return the command line that this process was started with, `None` where it cannot be told again: nobody keeps
    one that holds the key.
    """
    key = os.environ.get(KEY_VARIABLE)
    words = tuple(word for word in sys.argv[1:] if word not in ONCE)
    if REST in words or (key and any(key in word for word in words)):
        return None
    return Command(words, str(Path.cwd()))


def resume_line(command: Command | None, folder: Path, place: str) -> str:
    """Return the line that goes on with the job in a folder, whose pictures are at a place.

    Where it is not known how the job was begun, or what that names has moved since, INPUT stands for what is missing.
    """
    if command is None or not _is_there(command, folder):
        return _general_line(folder, place)
    line = " ".join(quoted(word) for word in (_program(), *command.words))
    kept = _kept_input(folder) if "-" in command.words else None
    line = f"{line} < {quoted(str(kept))}" if kept else line
    return line if _is_same(Path(command.folder), Path.cwd()) else f"cd {quoted(command.folder)} && {line}"


def more_commands(summary: Summary, resume: str | None) -> Iterator[tuple[str, str]]:
    """Yield what can still be done about a job and the commands that do it, by the one that goes on with it.

    Nothing where there is none, or all is done.
    """
    report = summary.report
    is_unknown = any(cause.state is State.UNKNOWN for cause in summary.causes)
    if resume is None:
        return
    is_open = any(cause.state is State.SENT for cause in summary.causes)
    if report.waiting or report.unfetched or is_open:
        is_used_up = isinstance(report.stopped_by, BudgetExceededError)
        yield "To go on, once its budget is raised:" if is_used_up else "To go on:", resume
    if report.rejected or report.bad:
        and_pay = ", and pay again for what was paid for" if report.bad else ""
        yield f"To send again what failed{and_pay}:", f"{resume} --retry-failed"
    if is_unknown:
        yield "To send again what may have been paid for:", f"{resume} --resend-unknown"


def _general_line(folder: Path, place: str) -> str:
    program = quoted(_program())
    if "://" in place:
        return f"{program} bulk INPUT --out {quoted(place.removesuffix('/images'))} --job {quoted(str(folder))}"
    return f"{program} bulk INPUT --out {quoted(str(folder))}"


def _kept_input(folder: Path) -> Path | None:
    """Return what the job keeps of the standard input that it was given."""
    return next(iter(sorted((folder / ".nebula").glob("input.*"))), None)


def _program() -> str:
    """Return what a shell calls the program that runs: its path, where its plain name does not lead to it."""
    own, found = Path(sys.argv[0]), shutil.which(PROGRAM)
    is_found = found is not None and own.exists() and own.samefile(found)
    return PROGRAM if is_found or own.name != PROGRAM else str(own.absolute())


def _is_there(command: Command, folder: Path) -> bool:
    """Whether the words of a command still lead to the job in a folder."""
    is_ours = not command.job or _is_same(Path(command.job), folder)
    return is_ours and Path(command.folder).is_dir()


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
