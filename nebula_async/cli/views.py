"""Who is told of a run: people, people who want silence, or a program."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Protocol

from attrs import define, field

from nebula_async.api.catalog import about_unknown
from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.plan import Plan
from nebula_async.bulk.summary import Summary
from nebula_async.cli.ending import tell_end
from nebula_async.cli.lines import columns_of, fitted
from nebula_async.cli.notices import FOR_PROGRAMS, Notice, is_worth_a_line
from nebula_async.cli.outlet import Outlet
from nebula_async.cli.output import say
from nebula_async.cli.planning import tell_plan
from nebula_async.cli.progress import LAST_WORD_SECONDS, Failures, LiveProgress, Progress, progress_on
from nebula_async.cli.tally import Standing
from nebula_async.errors import NebulaError
from nebula_async.items import Result
from nebula_async.printing import on_one_line


class RunView(Protocol):
    """Who is told of a run. No method waits for a reader while the job runs, nor raises."""

    @property
    def seconds(self) -> float:
        """How often it wants to know how the run is going."""
        ...

    def plan(self, plan: Plan) -> None:
        """Tell what will be sent, and what it costs."""
        ...

    def notice(self, notice: Notice) -> None:
        """Tell of something that happened."""
        ...

    def begin(self, job: BulkJob, standing: Standing) -> None:
        """The run begins."""
        ...

    def result(self, result: Result, price: Decimal | None) -> None:
        """An item has ended; one picture of it costs so much, `None` where that is not known."""
        ...

    def show(self, standing: Standing) -> None:
        """Show how it is going."""
        ...

    def end(self, standing: Standing) -> None:
        """Nothing more comes of the run."""
        ...

    def report(self, job: BulkJob, summary: Summary, exit_code: int) -> None:
        """Tell what became of the job, and how the command ends."""
        ...

    def failed(self, error: NebulaError, exit_code: int) -> None:
        """Tell of an error that ended the command; people are told by who ends it."""
        ...

    def close(self) -> None:
        """Wait for readers that are to have all."""
        ...


@define(eq=False)
class PeopleView:
    """Everything for people: plan and progress on stderr, the summary on stdout."""

    progress: Progress = field(factory=lambda: progress_on(sys.stderr))
    _failures: Failures = field(factory=Failures, init=False)
    _told: set[str] = field(factory=set, init=False)
    _has_ended: bool = field(default=False, init=False)

    @property
    def seconds(self) -> float:
        """How often a line is drawn, or looked for."""
        return self.progress.seconds

    def plan(self, plan: Plan) -> None:
        """Tell it, line by line, before anything is asked."""
        doubtful = (about_unknown(model.model) for model in plan.models if model.problem is not None)
        self._told.update(f"note: {problem}" for problem in (*plan.problems, *doubtful))
        tell_plan(plan, self._say)
        self.progress.outlet.flush(seconds=LAST_WORD_SECONDS)

    def notice(self, notice: Notice) -> None:
        """Tell it above the line that changes; what comes and goes all the time is on that line itself."""
        is_shown = isinstance(self.progress, LiveProgress) and notice.name in FOR_PROGRAMS
        if is_worth_a_line(notice) and not is_shown and notice.text not in self._told:
            self._say(notice.text)

    def _say(self, text: str) -> None:
        if self._has_ended:
            say(text)
        else:
            outlet = self.progress.outlet
            outlet.line(fitted(on_one_line(text), columns_of(outlet.stream)))

    def begin(self, job: BulkJob, standing: Standing) -> None:
        """Nothing: the plan was told."""

    def result(self, result: Result, _price: Decimal | None) -> None:
        """Tell a failure."""
        outlet = self.progress.outlet
        if (line := self._failures.line_about(result, columns_of(outlet.stream))) is not None:
            outlet.line(line)

    def show(self, standing: Standing) -> None:
        """Show it."""
        self.progress.show(standing)

    def end(self, standing: Standing) -> None:
        """Show the last of it."""
        self.progress.end(standing)
        self._has_ended = True

    def report(self, job: BulkJob, summary: Summary, _exit_code: int) -> None:
        """Tell the summary."""
        tell_end(job, summary)

    def failed(self, error: NebulaError, exit_code: int) -> None:
        """Nothing: `run` says it."""

    def close(self) -> None:
        """Let the last of it be read, also where the run did not begin."""
        if not self._has_ended:
            self.progress.outlet.close(seconds=LAST_WORD_SECONDS)


@define(eq=False)
class QuietView:
    """Failures and what stopped the job, and nothing else."""

    seconds: float = 60.0
    outlet: Outlet = field(factory=lambda: Outlet(sys.stderr))
    _failures: Failures = field(factory=Failures, init=False)

    def plan(self, plan: Plan) -> None:
        """Nothing."""

    def notice(self, notice: Notice) -> None:
        """Nothing."""

    def begin(self, job: BulkJob, standing: Standing) -> None:
        """Nothing."""

    def result(self, result: Result, _price: Decimal | None) -> None:
        """Tell a failure."""
        if (line := self._failures.line_about(result, columns_of(self.outlet.stream))) is not None:
            self.outlet.line(line)

    def show(self, standing: Standing) -> None:
        """Nothing."""

    def end(self, _standing: Standing) -> None:
        """Let the last failure be read."""
        self.outlet.close(seconds=LAST_WORD_SECONDS)

    def report(self, _job: BulkJob, summary: Summary, _exit_code: int) -> None:
        """Tell what stopped it."""
        if summary.report.stopped_by is not None:
            say(f"nebula-async: stopped: {summary.report.stopped_by}")

    def failed(self, error: NebulaError, exit_code: int) -> None:
        """Nothing: `run` says it."""

    def close(self) -> None:
        """Nothing is waited for."""
