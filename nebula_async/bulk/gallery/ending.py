"""The end of a run, as far as its gallery goes: thumbnails that are missing, then the page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import anyio.to_thread

from nebula_async.bulk.execution import finish_in_thread
from nebula_async.bulk.gallery.gallery import SECONDS_AFTER_RUN, Gallery
from nebula_async.bulk.gallery.writing import Report
from nebula_async.bulk.ledger import Ledger


async def fill(gallery: Gallery, ledger: Ledger, limiter: anyio.CapacityLimiter) -> None:
    """Make thumbnails that are missing, for some seconds; a cancellation ends that, and so does `hurry`."""
    await finish_in_thread(partial(_fill, gallery, ledger), stop=gallery.hurry, limiter=limiter)


async def finish(
    gallery: Gallery, ledger: Ledger, report: Callable[[], Report], limiter: anyio.CapacityLimiter
) -> None:
    """Write the page, and let go of all that was used for it. Raises nothing: what went wrong is in the notes."""
    gallery.hurry()
    await anyio.to_thread.run_sync(gallery.finish, ledger, report, limiter=limiter)


def _fill(gallery: Gallery, ledger: Ledger) -> None:
    gallery.attempt(lambda: None if gallery.is_current(ledger) else gallery.fill(ledger, SECONDS_AFTER_RUN))
