"""A job in a terminal: its signals, and who is told how it goes."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

import anyio

from nebula_async.bulk.gallery.gallery import SECONDS_AFTER_RUN
from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.plan import Plan
from nebula_async.bulk.recovery import Recovery
from nebula_async.cli.beside import accompanied
from nebula_async.cli.connection import INTERRUPTED
from nebula_async.cli.notices import Notice
from nebula_async.cli.signals import deaf_for
from nebula_async.cli.tally import Tally
from nebula_async.cli.views import RunView
from nebula_async.client import AsyncNebula
from nebula_async.items import Result

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The last is what a terminal sends that is closed."""


DEAF_SECONDS = 2.0
"""So long nothing keeps a run from telling its end; after that Ctrl-C ends it, as where a stdout takes no more."""

SHORT_SECONDS = 1.0
"""So long nobody asks what a run does that has its pictures."""

THUMBNAILS = f"making thumbnails for the gallery, for at most {SECONDS_AFTER_RUN:.0f} s"


async def run_job(job: BulkJob, nebula: AsyncNebula, view: RunView, plan: Plan | None) -> int:
    """Run a job by its plan (`None`: nothing is to be sent) and return the exit code; `view` is told how it goes.

    The first signal drains it, a second one stops it; those that come later keep nobody from being told its end.
    """
    for text in _found(job.recovery):
        view.notice(Notice("found", text))
    tally = await Tally.of(job, nebula, plan)
    view.begin(job, tally.standing())
    job.on_result = partial(_count, tally, view, nebula)
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        try:
            report = await accompanied(job.run, partial(_show, job, tally, view), partial(_heed, signals, job, view))
        finally:
            view.end(tally.standing())
        exit_code = INTERRUPTED if job.was_stopped else report.exit_code
        summary = await job.summary()
        with deaf_for(DEAF_SECONDS), suppress(KeyboardInterrupt):
            view.report(job, summary, exit_code)
    return exit_code


def _count(tally: Tally, view: RunView, nebula: AsyncNebula, result: Result) -> None:
    price = nebula.generator.price_of(result.request.model)
    tally.add(result, price)
    view.result(result, price)


async def _show(job: BulkJob, tally: Tally, view: RunView) -> None:
    if not tally.left:
        return
    while tally.left:
        view.show(tally.standing())
        await anyio.sleep(view.seconds)
    view.show(tally.standing())
    await anyio.sleep(SHORT_SECONDS)
    if job.is_making_thumbnails:
        view.notice(Notice("thumbnails", f"all is stored; {THUMBNAILS}; Ctrl-C leaves that"))


async def _heed(signals: AsyncIterator[signal.Signals], job: BulkJob, view: RunView) -> None:
    async for _ in signals:
        if job.is_draining:
            job.stop()
            continue
        is_done, in_flight = job.is_making_thumbnails, job.in_flight
        job.drain()
        if is_done:
            continue
        view.notice(Notice("draining", f"finishing what is in flight: {in_flight}; once more stops at once"))


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
