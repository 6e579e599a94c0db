"""`nebula-async bulk`: a file of prompts into a folder of pictures."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import anyio
from anyio.abc import TaskStatus
from cyclopts import Parameter

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.recovery import Recovery
from nebula_async.bulk.report import Report
from nebula_async.cli.connection import INTERRUPTED, Connection, Switch, connected, run, say, tell
from nebula_async.cli.parameters import PictureParameters, Whole
from nebula_async.cli.prices import learn_prices
from nebula_async.cli.progress import RunProgress, shown_progress

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The last is what a terminal sends that is closed."""

EMULATOR = "the command's own emulator"


def bulk(
    manifest: Path,
    /,
    *,
    out: Path | None = None,
    concurrency: Whole = None,
    retry_failed: Annotated[bool, Switch] = False,
    resend_unknown: Annotated[bool, Switch] = False,
    provenance: Annotated[bool, Switch] = False,
    parameters: Annotated[PictureParameters, Parameter(name="*")] = PictureParameters(),  # noqa: B008 - frozen
    connection: Annotated[Connection, Parameter(name="*")] = Connection(),  # noqa: B008 - frozen
) -> int:
    """Generate every prompt of a file; the same command resumes, and asks for nothing that is stored.

    Ctrl-C lets what is in flight finish; a second one stops at once. Exit codes: 0 all done, 1 some failed or wait,
    2 wrong use or input, 3 stopped as a whole (key, credit, daily quota, disk), 130 interrupted.

    Parameters
    ----------
    manifest
        Prompts: .txt (one a line), .csv or .tsv (with a header of field names), .jsonl (an object or a text a line).
        The options below fill in what a line leaves out; a line's `dialect` says which API it is for.
    out
        The folder for the pictures and for what the job knows of them; else one named after the file.
    concurrency
        Requests in flight; else as many as the tier can use.
    retry_failed
        Send again what was refused or came back unusable.
    resend_unknown
        Send again what may have been paid for already.
    provenance
        Write into each picture how it was made: prompt, parameters, model, seed, time and cost. One whose type has no
        place for it stays as it came.
    """
    switches = {"retry_failed": retry_failed, "resend_unknown": resend_unknown, "provenance": provenance}
    return run(_bulk, manifest, out or Path(manifest.stem), concurrency, switches, parameters, connection)


async def _bulk(
    manifest: Path,
    out: Path,
    concurrency: int | None,
    switches: Mapping[str, Any],
    parameters: PictureParameters,
    connection: Connection,
) -> int:
    async with (
        connected(connection, concurrency=concurrency) as nebula,
        BulkJob(
            manifest,
            out,
            nebula,
            defaults=parameters.given(),
            server=EMULATOR if connection.emulator else None,
            **switches,
        ) as job,
    ):
        if (await job.report()).waiting:
            await learn_prices(nebula)
        return await _run(job)


async def _run(job: BulkJob) -> int:
    for text in _found(job.recovery):
        say(text)
    before = await job.report()
    with shown_progress(before.waiting) as progress:
        job.on_result = progress.add
        report = await _drained_by_signals(job, progress)
    if report is None:
        say("stopped at once: what was in flight may be paid for, and the same command sends it again")
    _tell(report or await job.report(), job.out)
    return INTERRUPTED if report is None else report.exit_code


async def _drained_by_signals(job: BulkJob, progress: RunProgress) -> Report | None:
    """Run the job; the first signal drains it, a second one stops it (`None`)."""
    report: Report | Exception | None = None
    async with anyio.create_task_group() as group:
        await group.start(_listen, job, progress, group.cancel_scope)
        try:
            report = await job.run()
        except Exception as error:  # noqa: BLE001 - raised again below: it would leave the group inside of another one
            report = error
        group.cancel_scope.cancel()
    if isinstance(report, Exception):
        raise report
    return report


async def _listen(
    job: BulkJob,
    progress: RunProgress,
    scope: anyio.CancelScope,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            if job.is_draining:
                scope.cancel()
                return
            job.drain()
            progress.end_after(job.in_flight)
            say(f"finishing what is in flight: {job.in_flight}; once more stops at once")


def _found(recovery: Recovery) -> list[str]:
    lines = {
        f"stored by a run that was stopped, and taken over: {recovery.adopted}": recovery.adopted,
        f"under way when a run was stopped, and sent again: {recovery.sent_again}; these may be paid for twice": (
            recovery.sent_again
        ),
        f"stored before and gone now: {recovery.gone}; --retry-failed makes them again": recovery.gone,
        f"sent before and no longer at the end of the file: {recovery.removed}; these are not counted": (
            recovery.removed
        ),
    }
    return [text for text, applies in lines.items() if applies]


def _tell(report: Report, out: Path) -> None:
    spent = report.spending
    unpriced = f" and {spent.unpriced} pictures without a known price" if spent.unpriced else ""
    tell(
        f"{report.done} of {report.total} are in {out / 'images'}; this run: {spent.pictures} pictures in"
        f" {report.seconds:.1f} s for {spent}{unpriced}"
    )
    for text in _left_over(report):
        say(text)


def _left_over(report: Report) -> list[str]:
    least, most = report.charges.at_least, report.charges.at_most
    lines = {
        f"refused: {report.rejected}; --retry-failed sends them again": report.rejected,
        f"paid for, and unusable, incomplete or lost: {report.bad}; --retry-failed pays for them again": report.bad,
        f"perhaps paid for, and not here: {report.unknown}; --resend-unknown sends them again": report.unknown,
        f"still to be sent: {report.waiting}; the same command goes on": report.waiting,
        f"pictures paid for, over all runs: {least if least == most else f'{least} to {most}'}": most > report.pictures,
        f"stopped: {report.stopped_by}": report.stopped_by is not None,
    }
    return [text for text, applies in lines.items() if applies]
