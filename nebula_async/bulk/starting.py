"""A run put together from what was opened and from the client that it sends with."""

from __future__ import annotations

from random import SystemRandom

import anyio

from nebula_async.bulk.bucket import Uploads
from nebula_async.bulk.budget import Budget, Purse, Spent
from nebula_async.bulk.descriptors import most_under_way
from nebula_async.bulk.opening import OpenJob
from nebula_async.bulk.run import Run
from nebula_async.bulk.writer import LedgerWriter
from nebula_async.engine.breaker import Breaker
from nebula_async.engine.outage import Outage
from nebula_async.generation import Generator


def new_run(
    job: OpenJob,
    generator: Generator,
    limiter: anyio.CapacityLimiter,
    *,
    workers: int,
    budget: Budget,
    is_waiting_for_quota: bool,
) -> Run:
    """Return a run of a job with at most so many workers; `limiter` lets one thread at a time use the ledger."""
    storing = job.storing
    return Run(
        source=job.source,
        stamp=job.stamp,
        census=job.census,
        limit=job.selection.limit,
        folder=job.folder,
        writer=LedgerWriter(job.ledger, storing.settle, storing.tidy, job.lock.committed, job.commits, limiter),
        spool=storing.spool,
        storing=storing,
        purse=Purse(budget, Spent() if budget.per_run else job.spent()),
        duplicates=job.duplicates,
        generator=generator,
        breaker=Breaker(Outage(SystemRandom(), generator.caller.config.retry.backoff)),
        secret=job.secret,
        workers=min(workers, most_under_way()),
        is_waiting_for_quota=is_waiting_for_quota,
        uploads=None if job.bucket is None else Uploads(storing.spool.folder),
    )
