"""The command that goes on with a job, as it can be pasted into a shell."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cyclopts import CycloptsError

from nebula_async.bulk.command import Command, quoted
from nebula_async.bulk.states import State
from nebula_async.bulk.summary import Summary
from nebula_async.cli import PROGRAM
from nebula_async.errors import BudgetExceededError
from nebula_async.keys import KEY_VARIABLE

ONCE = frozenset({"--retry-failed", "--resend-unknown", "--new-key", "--json", "--quiet"})
"""Options that were meant for one run: repeated, the first two pay again for what the run before did not get."""

PLACES = ("--out", "--job")

INPUT = "INPUT"
"""Stands for prompts that nobody knows the place of."""

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

    Of what the job was begun by, only what has moved since is replaced. INPUT stands for prompts that are not there any
    more, or of which it is not known where they came from.
    """
    if command is None:
        return _line(_general_words(folder, place), folder)
    if not _is_there(command, folder):
        command = _moved(command, folder, place)
    if _is_same(Path(command.folder), Path.cwd()):
        return _line(command.words, folder)
    return f"cd {quoted(command.folder)} && {_line(command.words, folder.absolute())}"


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


def _line(words: Sequence[str], folder: Path) -> str:
    line = " ".join(quoted(word) for word in (_program(), *words))
    kept = _kept_input(folder) if "-" in words else None
    return f"{line} < {quoted(str(kept))}" if kept else line


def _general_words(folder: Path, place: str) -> tuple[str, ...]:
    if "://" in place:
        return ("bulk", INPUT, "--out", place.removesuffix("/images"), "--job", str(folder))
    return ("bulk", INPUT, "--out", str(folder))


def _moved(command: Command, folder: Path, place: str) -> Command:
    """Return a command as it has to be now that its job is in another folder, or the one it was given in is gone."""
    begun_in = Path(command.folder) if Path(command.folder).is_dir() else Path.cwd()
    folder = folder if _is_same(begun_in, Path.cwd()) else folder.absolute()
    prompts = _prompts_of(command.words)
    if prompts is None:
        return Command(_general_words(folder, place), str(begun_in))
    words = [*command.words]
    if prompts != "-" and not (begun_in / prompts).exists():
        words[_place_of(prompts, words)] = INPUT
    return Command(_with_option(words, "--job" if "://" in place else "--out", str(folder)), str(begun_in))


def _prompts_of(words: Sequence[str]) -> str | None:
    """Return what a command line names as its prompts, `None` where it is none of this version's."""
    from nebula_async.cli.app import app  # which loads whatever a command needs

    try:
        _, given, _ = app.parse_args([*words], print_error=False, exit_on_error=False)
    except CycloptsError:
        return None
    return str(given.arguments["manifest"]) if "manifest" in given.arguments else None


def _place_of(prompts: str, words: Sequence[str]) -> int:
    """Return where the prompts stand among words, and not a value of an option that is the same word."""
    places = [number for number, word in enumerate(words) if word == prompts]
    return next((number for number in places if words[number - 1] not in PLACES), places[0])


def _with_option(words: Sequence[str], option: str, value: str) -> tuple[str, ...]:
    """Return words with another value of an option, which is put at their end if it is not among them."""
    pairs = zip(("", *words), words, strict=False)
    changed = [_changed(before, word, option, value) for before, word in pairs]
    is_there = any(word == option or word.startswith(f"{option}=") for word in words)
    return (*changed, *(() if is_there else (option, value)))


def _changed(before: str, word: str, option: str, value: str) -> str:
    if before == option:
        return value
    return f"{option}={value}" if word.startswith(f"{option}=") else word


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
