"""A job in a terminal: its signals, its progress, and what is told at its end."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.recovery import Recovery
from nebula_async.bulk.report import Report
from nebula_async.cli.connection import INTERRUPTED, say, tell
from nebula_async.cli.progress import RunProgress, shown_progress
from nebula_async.cli.quantities import counted

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The last is what a terminal sends that is closed."""


async def run_job(job: BulkJob) -> int:
    """Run a job and return the exit code. The first signal drains it, a second one stops it."""
    for text in _found(job.recovery):
        say(text)
    with shown_progress(await job.left()) as progress:
        job.on_result = progress.add
        report = await _drained_by_signals(job, progress)
    if job.was_stopped:
        say("stopped at once: what was in flight may be paid for; the same command settles it")
    _tell(report, job)
    return INTERRUPTED if job.was_stopped else report.exit_code


async def _drained_by_signals(job: BulkJob, progress: RunProgress) -> Report:
    report: Report | Exception | None = None
    async with anyio.create_task_group() as group:
        await group.start(_listen, job, progress)
        try:
            report = await job.run()
        except Exception as error:  # noqa: BLE001 - raised again below: it would leave the group inside of another one
            report = error
        group.cancel_scope.cancel()
    if not isinstance(report, Report):
        raise report or RuntimeError("the run was cancelled")
    return report


async def _listen(job: BulkJob, progress: RunProgress, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            if job.is_draining:
                job.stop()
                continue
            job.drain()
            progress.end_after(job.in_flight)
            say(f"finishing what is in flight: {job.in_flight}; once more stops at once")


def _found(recovery: Recovery) -> list[str]:
    lines = {
        f"received by a run that was stopped, and stored now: {recovery.adopted}": recovery.adopted,
        f"under way when a run was stopped, and sent again: {recovery.sent_again}; these may be paid for twice": (
            recovery.sent_again
        ),
        f"under way when a run was stopped, and not sent again: {recovery.given_up}; --resend-unknown does": (
            recovery.given_up
        ),
        f"stored before and gone now: {recovery.gone}; --retry-failed makes them again": recovery.gone,
        f"sent before and not asked for any more: {recovery.removed}; these are not counted": recovery.removed,
    }
    return [text for text, applies in lines.items() if applies]


def _tell(report: Report, job: BulkJob) -> None:
    spent = report.spending
    unpriced = f" and {counted(spent.unpriced, 'picture')} without a known price" if spent.unpriced else ""
    tell(
        f"{report.done} of {report.total} are in {job.pictures}; this run: {counted(spent.pictures, 'picture')} in"
        f" {report.seconds:.1f} s for {spent}{unpriced}"
    )
    for text in _left_over(report, job.folder):
        say(text)


def _left_over(report: Report, out: Path) -> list[str]:
    least, most = report.charges.at_least, report.charges.at_most
    failed = report.rejected + report.bad + report.unknown
    goes_on = "; the same command goes on" if report.stopped_by is None else ""  # what stopped it says what to do
    lines = {
        f"refused: {report.rejected}; --retry-failed sends them again": report.rejected,
        f"paid for, and unusable, incomplete or gone: {report.bad}; --retry-failed pays for them again": report.bad,
        f"perhaps paid for, and not here: {report.unknown}; --resend-unknown sends them again": report.unknown,
        f"paid for, and still at their URLs: {report.unfetched}; the same command fetches them": report.unfetched,
        f"still to be sent: {report.waiting}{goes_on}": report.waiting,
        f"pictures paid for, over all runs: {least if least == most else f'{least} to {most}'}": most > report.pictures,
        f"why, and what they asked for: {out / 'failed.jsonl'}": failed,
        f"stopped: {report.stopped_by}": report.stopped_by is not None,
    }
    return [text for text, applies in lines.items() if applies]
