"""How a run is going, on stderr: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal

from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nebula_async.cli.connection import printable
from nebula_async.cli.quantities import duration
from nebula_async.errors import DownloadError
from nebula_async.results import Failure, Generation

SECONDS_BETWEEN_LINES = 5.0
MOST_FAILURES_TOLD = 20
MOST_OF_PROMPT = 40


@define(eq=False)
class RunProgress:
    """Counts the results of a run and shows them."""

    console: Console
    bar: Progress
    left: int
    done: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    cost: Decimal = field(default=Decimal(0), init=False)
    _started: float = field(factory=time.monotonic, init=False)
    _told: float = field(factory=time.monotonic, init=False)

    def add(self, result: Generation | Failure) -> None:
        """Count a result; a failure is told at once."""
        self.done += 1
        self.cost += (result.cost or 0) if isinstance(result, Generation) else 0
        self.failed += isinstance(result, Failure)
        with suppress(OSError):  # what shows how it goes must not end it
            if isinstance(result, Failure):
                self._tell_failure(result)
            elif result.missing:
                self._tell_missing(result)
            self._show()

    def end_after(self, in_flight: int) -> None:
        """Show the end of a run that takes up nothing more."""
        self.left = self.done + in_flight
        for task in self.bar.task_ids:
            self.bar.update(task, total=self.left)

    def _show(self) -> None:
        for task in self.bar.task_ids:
            self.bar.update(task, completed=self.done, description=self._line())
        now = time.monotonic()
        if self.bar.disable and now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            self.console.print(self._line(), markup=False, highlight=False)

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1)
        failed = f", {self.failed} failed" if self.failed else ""
        cost = f"${self.cost:.2f}" if self.cost >= 1 else f"${self.cost:.4f}"
        left = duration(seconds / self.done * (self.left - self.done))
        return f"{self.done} of {self.left}{failed}, {60 * self.done / seconds:.0f} a minute, {cost}, {left} left"

    def _tell_failure(self, failure: Failure) -> None:
        if self.failed <= MOST_FAILURES_TOLD:
            prompt = failure.request.prompt
            short = prompt if len(prompt) <= MOST_OF_PROMPT else f"{prompt[:MOST_OF_PROMPT]}…"
            noted = "; where it lies is noted in the job's ledger" if isinstance(failure.error, DownloadError) else ""
            text = printable(f"failed: item {failure.index + 1}, {short!r}: {failure.error}{noted}")
            self.console.print(text, markup=False, highlight=False)
        elif self.failed == MOST_FAILURES_TOLD + 1:
            self.console.print("more failures are noted in the job's ledger, and not told one by one")

    def _tell_missing(self, generation: Generation) -> None:
        text = (
            f"item {generation.index + 1}: {generation.missing} of {generation.request.pictures} pictures are missing"
        )
        self.console.print(text, markup=False, highlight=False)


class _Console(Console):
    """A console whose reader may go: rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Go on without it."""
        self.quiet = True


@contextmanager
def shown_progress(left: int) -> Iterator[RunProgress]:
    """Show the progress of a run with so many items left."""
    console = _Console(stderr=True, soft_wrap=True)
    is_plain = not console.is_terminal or console.is_dumb_terminal or left == 0
    bar = Progress(
        BarColumn(bar_width=20, style="dim", complete_style="default", finished_style="default"),
        TextColumn("{task.description}"),
        console=console,
        disable=is_plain,
        transient=True,
        refresh_per_second=4,
    )
    with bar:
        bar.add_task(f"0 of {left}", total=left)
        yield RunProgress(console, bar, left)
