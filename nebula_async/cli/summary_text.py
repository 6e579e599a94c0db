"""What became of a job as people read it: a table by model, the causes of failures, times, money, and how to go on."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nebula_async.bulk.states import State
from nebula_async.bulk.summary import Cause, Summary
from nebula_async.bulk.timeline import Latency
from nebula_async.cli.model_table import cost_text, model_table
from nebula_async.cli.resume import more_commands
from nebula_async.cli.state_words import IN_A_WORD, WITH_COST, counts_in_words
from nebula_async.errors import NebulaError, cause_of
from nebula_async.printing import printable
from nebula_async.quantities import counted, precise_seconds

PIPED_COLUMNS = 10_000
"""Where no terminal is, a line is as long as it is: who cuts a pipe into columns or searches it finds it whole."""

GALLERY = "gallery/index.html"

NAME_COLUMNS = 11

MOST_TOLD = 10
"""Causes; all of them are in report.json."""


def print_summary(summary: Summary, *, place: str, folder: Path, resume: str | None, standing: str = "") -> None:
    """Print what became of a job on stdout, where its pictures are (`place`), and the command that goes on with it.

    On a terminal it is as wide as that, with colours unless NO_COLOR is set; elsewhere plain, and no line is broken.
    Whatever an API or a user said is shown, not obeyed. Where nobody reads it, that is no error.
    """
    stream = sys.stdout
    if stream is None:
        return
    console = console_for(stream)
    try:
        with console.capture() as captured:  # which writes an empty text, for which a full disk has no room either
            _print(console, summary, place, folder, resume, standing)
        stream.write("".join(f"{line.rstrip(' ')}\n" for line in captured.get().splitlines()))
        stream.flush()
    except OSError:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def console_for(stream: io.TextIOBase | object) -> Console:
    """Return a console that writes no markup, and breaks no line where there is no terminal."""
    console = Console(file=stream, markup=False, emoji=False, highlight=False)  # type: ignore[arg-type]
    if not console.is_terminal:
        console.width = PIPED_COLUMNS
    return console


def _print(console: Console, summary: Summary, place: str, folder: Path, resume: str | None, standing: str) -> None:
    for line in _head(summary, standing):
        console.print(Text(_one_line(line)))
    if summary.models:
        console.print()
        console.print(model_table(summary, console))
    if summary.causes:
        console.print()
        _print_causes(console, summary)
    console.print()
    _print_facts(console, summary)
    _print_places(console, summary, place, folder)
    for about, command in more_commands(summary, resume):
        console.print()
        console.print(Text(about, style="bold"))
        console.print(Text(command), soft_wrap=True)  # whoever copies it gets it as one line
    console.print()


def _head(summary: Summary, standing: str) -> Iterator[str]:
    report = summary.report
    counts = {
        State.REJECTED: report.rejected,
        State.BAD: report.bad,
        State.UNKNOWN: report.unknown,
        State.URLS: report.unfetched,
        State.PENDING: report.waiting,
    }
    rest = "".join(f", {text}" for text in counts_in_words(counts))
    yield f"{report.done:,} of {counted(report.total, 'item')} {IN_A_WORD[State.DONE]}{rest}"
    if standing:
        yield standing
    if report.stopped_by is not None:
        yield f"stopped: {_about_stop(summary, report.stopped_by)}"


def _about_stop(summary: Summary, error: NebulaError) -> str:
    """Return why the whole job was stopped, with the next step unless a cause of failure says the same."""
    is_told = any(cause.cause == cause_of(error) for cause in summary.causes[:MOST_TOLD])
    return error.message if is_told else str(error)


def _print_causes(console: Console, summary: Summary) -> None:
    told = summary.causes[:MOST_TOLD]
    console.print(Text("Not done, by cause", style="bold"))
    for cause in told:
        console.print(_indented(_about(cause), 2))
        for text in _details(cause):
            console.print(_indented(text, 4))
    rest = sum(cause.items for cause in summary.causes[MOST_TOLD:]) + summary.more_causes
    if rest:
        console.print(Text(f"  and {counted(rest, 'item')} with other causes, which report.json lists"))


def _indented(text: str, columns: int) -> Padding:
    return Padding(Text(_one_line(text)), (0, 0, 0, columns), expand=False)


def _about(cause: Cause) -> str:
    return f"{cause.items:,}: {cause.cause} ({WITH_COST.get(cause.state, cause.state.value)})"


def _details(cause: Cause) -> Iterable[str]:
    others = f" (and {counted(cause.texts - 1, 'other text')})" if cause.texts > 1 else ""
    yield f"{cause.error}{others}"
    if cause.next_step:
        yield f"next: {cause.next_step}"


def _one_line(text: str) -> str:
    """Return text as it can be shown on one line."""
    return printable(" ".join(text.splitlines()))


def _print_facts(console: Console, summary: Summary) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold", width=NAME_COLUMNS)
    table.add_column(overflow="fold")
    for name, text in _facts(summary):
        table.add_row(name, Text(_one_line(text)))
    console.print(table)


def _print_places(console: Console, summary: Summary, place: str, folder: Path) -> None:
    files = {"Gallery": folder / GALLERY, "Report": folder / "report.json"}
    files |= {"Not done": folder / "failed.jsonl"} if summary.causes else {}
    places = {"Pictures": place, **{name: str(path) for name, path in files.items() if path.is_file()}}
    for name, path in places.items():  # whoever copies one gets it as one line
        console.print(Text.assemble((f"{name:<{NAME_COLUMNS}}  ", "bold"), _one_line(path)), soft_wrap=True)


def _facts(summary: Summary) -> Iterator[tuple[str, str]]:
    yield "Requests", _requests(summary)
    if summary.latency is not None:
        latency = summary.latency
        p50, p90, p99, longest = (precise_seconds(each) for each in _times(latency))
        yield "Answered in", f"{p50} (half of them), {p90} (90 %), {p99} (99 %), {longest} at most"
    yield "Cost", _cost(summary)
    spending = summary.report.spending
    if summary.report.seconds and not spending.pictures and summary.report.done == summary.report.total:
        yield "This run", "nothing was left to do"
    elif summary.report.seconds:
        made = f"{counted(spending.pictures, 'picture')} in {precise_seconds(summary.report.seconds)}"
        yield "This run", f"{made}, cost: {cost_text(spending.at_least, spending.at_most, spending.unpriced)}"


def _times(latency: Latency) -> tuple[float, ...]:
    return latency.p50, latency.p90, latency.p99, latency.longest


def _requests(summary: Summary) -> str:
    refused = f", {summary.refusals:,} of them refused as too many" if summary.refusals else ""
    return f"{summary.requests:,} sent{refused}"


def _cost(summary: Summary) -> str:
    amount = cost_text(summary.cost_at_least, summary.cost_at_most, summary.unpriced)
    twice = f"; at most {counted(summary.paid_twice, 'picture')} paid for twice" if summary.paid_twice else ""
    return f"{amount}, over all runs{twice}"
