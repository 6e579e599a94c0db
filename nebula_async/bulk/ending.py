"""What a run leaves at its end: its reports, the metadata beside pictures that are elsewhere, and a page to look at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import anyio.to_thread
from attrs import define, field

from nebula_async.bulk.execution import finish_in_thread
from nebula_async.bulk.gallery.gallery import SECONDS_AFTER_RUN, Gallery
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.opening import OpenJob
from nebula_async.bulk.report import Report
from nebula_async.bulk.report_values import values_of
from nebula_async.bulk.run import Run
from nebula_async.bulk.summary import Summary, summarize
from nebula_async.bulk.written import write_reports
from nebula_async.errors import JobError


@define(eq=False)
class RunEnd:
    """The end of a run; `summary` is how the job stands then, once its reports were written."""

    job: OpenJob
    run: Run
    gallery: Gallery | None
    limiter: anyio.CapacityLimiter
    summary: Summary | None = field(default=None, init=False)

    async def write_reports(self, report: Callable[[], Awaitable[Report]]) -> None:
        """Write what others read of the run. It raises nothing: what fails has stopped the run, and is its `report`."""
        run = self.run
        if (failure := run.writer.failure) is not None:
            run.stop(failure)
        try:
            if not (run.was_abandoned or run.has_no_store):
                await run.writer.read(lambda _: self.job.tell_store())
        except JobError as error:
            run.stop(error)
        standing = await report()
        try:
            self.summary = summary = await run.writer.read(lambda ledger: summarize(ledger, standing))
            await run.writer.read(lambda ledger: self._write(ledger, summary))
        except (OSError, JobError) as error:
            run.stop(JobError(f"the report could not be written: {error}"))

    def _write(self, ledger: Ledger, summary: Summary) -> None:
        job = self.job
        write_reports(job.folder, job.source, job.census, job.selection.limit, ledger, summary)

    async def make_thumbnails(self) -> None:
        """Make thumbnails that are missing, for some seconds; a cancellation ends that, and so does `gallery.hurry`."""
        if self.gallery is not None and self.summary is not None and not self.run.is_interrupted:
            fill = partial(_fill, self.gallery, self.job.ledger)
            await finish_in_thread(fill, stop=self.gallery.hurry, limiter=self.limiter)

    async def write_gallery(self) -> None:
        """Write the page to look at the run. It raises nothing: what went wrong is in the notes of the gallery."""
        gallery, summary = self.gallery, self.summary
        if gallery is not None and summary is not None:
            gallery.hurry()
            finish = partial(gallery.finish, self.job.ledger, lambda: values_of(summary))
            await anyio.to_thread.run_sync(finish, limiter=self.limiter)


def _fill(gallery: Gallery, ledger: Ledger) -> None:
    gallery.attempt(lambda: None if gallery.is_current(ledger) else gallery.fill(ledger, SECONDS_AFTER_RUN))
