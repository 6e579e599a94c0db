"""What people are told at the end of a job."""

from __future__ import annotations

import sys

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.summary import Summary
from nebula_async.cli.output import is_terminal, say
from nebula_async.cli.resume import resume_line
from nebula_async.cli.summary_text import print_summary


def tell_end(job: BulkJob, summary: Summary) -> None:
    """Tell what became of a job, and how to go on with it, on stdout; what is odd about its end on stderr."""
    if job.was_stopped:
        say("stopped at once: what was in flight may be paid for; the same command settles it")
    if summary.report.stopped_by is not None and not is_terminal(sys.stdout):  # whoever watches stderr wants to know
        say(f"stopped: {summary.report.stopped_by}")
    for note in job.gallery_notes:
        say(note)
    resume = resume_line(job.command, job.folder, job.pictures)
    print_summary(summary, place=job.pictures, folder=job.folder, resume=resume)
