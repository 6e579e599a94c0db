"""How a run is going, on stderr: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from nebula_async.cli.connection import printable
from nebula_async.results import Failure, Generation

SECONDS_BETWEEN_LINES = 5.0
MOST_FAILURES_TOLD = 20


@define(eq=False)
class RunProgress:
    """Counts the results of a run and shows them."""

    console: Console
    bar: Progress
    left: int
    stored: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    cost: Decimal = field(default=Decimal(0), init=False)
    _started: float = field(factory=time.monotonic, init=False)
    _told: float = field(factory=time.monotonic, init=False)

    def add(self, result: Generation | Failure) -> None:
        """Count a result; a failure is told at once."""
        if isinstance(result, Generation):
            self.stored += len(result.images)
            self.cost += result.cost or 0
        else:
            self.failed += 1
            self._tell_failure(result)
        self._show()

    def _show(self) -> None:
        for task in self.bar.task_ids:
            self.bar.update(task, completed=self.stored + self.failed, description=self._line())
        now = time.monotonic()
        if not self.console.is_terminal and now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            self.console.print(f"{self.stored + self.failed} of {self.left}: {self._line()}", markup=False)

    def _line(self) -> str:
        minutes = max(time.monotonic() - self._started, 1) / 60
        return f"{self.stored} stored, {self.failed} failed, {self.stored / minutes:.0f} a minute, ${self.cost}"

    def _tell_failure(self, failure: Failure) -> None:
        if self.failed <= MOST_FAILURES_TOLD:
            prompt = failure.request.prompt
            short = prompt if len(prompt) <= 40 else f"{prompt[:40]}…"
            self.console.print(printable(f"failed: {short!r}: {failure.error}"), markup=False, highlight=False)
        elif self.failed == MOST_FAILURES_TOLD + 1:
            self.console.print("more failures are noted in the job's ledger, and not told one by one")


@contextmanager
def shown_progress(left: int) -> Iterator[RunProgress]:
    """Show the progress of a run with so many items left."""
    console = Console(stderr=True, soft_wrap=True)
    columns = (BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f}:"), TextColumn("{task.description}"))
    bar = Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal)
    with bar:
        bar.add_task("starting", total=left)
        yield RunProgress(console, bar, left)
