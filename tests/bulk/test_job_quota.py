"""When the day's quota is used up a job waits for the next day, or stops; nothing that was refused counts as paid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from attrs import define, evolve, field
from jobs import PROMPT, SMALL, opened, run, write

from nebula_async.bulk.job import BulkJob
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.errors import ConfigurationError, RateLimitError
from nebula_async.events import QuotaReached

pytestmark = pytest.mark.anyio

NOON = 20_000 * 86_400 + 43_200
PATIENCE = 40.0


@pytest.fixture
def six(tmp_path):
    """Six prompts."""
    return write(tmp_path, *(f"cat {number}" for number in range(6)))


async def test_the_daily_quota_stops_the_job_and_the_rest_waits_as_often_as_it_takes(six, start):
    """What the day's limit refused cost nothing; it waits for another day, and is never taken for paid (F25)."""
    emulator = start(per_day=3, retry_after="seconds", clock=lambda: NOON)
    for _ in range(3):
        report = await run(six, emulator, when_exhausted="stop")
        assert (3, 3, Charges(3, 3)) == (report.done, report.waiting, report.charges)
        assert (3, RateLimitError, "day") == (report.exit_code, type(report.stopped_by), report.stopped_by.scope)


async def test_a_job_can_be_drained_while_it_waits_for_the_next_day(six, start):
    """A job that waits for midnight says so once, and ends at once when it is told to."""
    emulator, told = start(per_day=3, retry_after="seconds", clock=lambda: NOON), []

    def watch(event: object) -> None:
        if isinstance(event, QuotaReached):
            told.append(event)
            job.drain()

    async with opened(six, emulator, observer=watch) as job:
        with anyio.fail_after(PATIENCE):
            report = await job.run()
    assert (3, 3, 130, Charges(3, 3)) == (report.done, report.waiting, report.exit_code, report.charges)
    assert 1 == len(told)


@define(eq=False)
class Midnight:
    """A gate whose day has `per_day` requests, and whose next day comes when it is asked often enough."""

    inner: object
    refusals: int
    left: int
    refused: int = field(default=0, init=False)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    @asynccontextmanager
    async def slot(self, lane: str, *, deadline: float) -> AsyncIterator[None]:
        """Let so many through, then refuse, then let all through."""
        self.left -= 1
        if self.left < 0 and self.refused < self.refusals:
            self.refused += 1
            raise RateLimitError("the daily quota is used up", scope="day", retry_after=0.01)
        async with self.inner.slot(lane, deadline=deadline):
            yield


async def test_a_job_waits_for_the_next_day_and_goes_on(six, emulator):
    """After the quota is renewed the rest is sent, in the same run, and every picture is charged once (F25)."""
    config = evolve(PROMPT, base_url=emulator.base_url)
    async with AsyncNebula(emulator.key, config=config) as plain:
        gate = Midnight(plain.generator.caller.gate, refusals=5, left=3)
        async with (
            AsyncNebula(emulator.key, config=config, gate=gate) as nebula,
            BulkJob(six, six.parent / "out", nebula, defaults=SMALL, durability="process") as job,
        ):
            with anyio.fail_after(PATIENCE):
                report = await job.run()
    assert (6, 0, Charges(6, 6), 6) == (report.done, report.exit_code, report.charges, emulator.journal.charged)
    assert 5 == gate.refused


async def test_a_way_to_end_that_is_none_is_refused(six, emulator):
    """`when_exhausted` is wait or stop."""
    with pytest.raises(ConfigurationError, match="when_exhausted must be one of"):
        await run(six, emulator, when_exhausted="pray")
    assert not (six.parent / "out").exists()
