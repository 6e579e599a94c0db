"""How a job stands, for those who only look: its ledger tells, also while the job runs or after it was killed."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from nebula_async.bulk.bucket import STORE
from nebula_async.bulk.command import COMMAND, Command
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.lock import Holder, holder_of
from nebula_async.bulk.report import report_of
from nebula_async.bulk.report_values import values_of
from nebula_async.bulk.summary import Summary, summarize
from nebula_async.bulk.written import ENDED

LAST = "SELECT at, detail FROM event WHERE kind = ? ORDER BY rowid DESC LIMIT 1"


@frozen(kw_only=True)
class JobStanding:
    """How a job stands now.

    `holder` is the process that runs it, or that was killed while it did; `None` where its last run ended in order.
    `last_run` is what that one noted of itself, as `this_run` of `report.json`, and `ended` when (Unix time): `None`
    where no run came to that. `place` is where the pictures are, a folder or a URL; `command` what the job was begun
    by, or gone on with.
    """

    summary: Summary
    holder: Holder | None
    last_run: dict[str, Any] | None
    ended: float | None
    place: str
    command: Command | None

    @property
    def is_running(self) -> bool:
        """Whether a process has the job now."""
        return self.holder is not None and not self.holder.was_killed

    def values(self) -> dict[str, Any]:
        """Return what `report.json` would hold now; there is no `this_run` while one is under way, or was killed."""
        return values_of(self.summary) | {"this_run": self.last_run}


def read_standing(out: Path) -> JobStanding:
    """Return how the job in a folder stands; it blocks, and changes nothing. Raises `JobError` where there is none."""
    folder = JobFolder(out)
    with closing(Ledger.read(folder.ledger)) as ledger, ledger.together():
        total = ledger.fact("total") or ""
        known = int(total) if total.isdecimal() else sum(ledger.counts().values())
        holder = holder_of(folder.lock)
        ended, last_run = _last_end(ledger) if holder is None else (None, None)
        store = ledger.fact(STORE)
        return JobStanding(
            summary=summarize(ledger, report_of(ledger, known)),
            holder=holder,
            last_run=last_run,
            ended=ended,
            place=str(folder.images) if store is None else f"{store.rstrip('/')}/images",
            command=Command.read(ledger.fact(COMMAND)),
        )


def _last_end(ledger: Ledger) -> tuple[float | None, dict[str, Any] | None]:
    """Return when the last run ended and what it noted then; `None` twice where none did."""
    for at, detail in ledger.select(LAST, ENDED):
        with suppress(ValueError, RecursionError):
            values = json.loads(detail or "null")
            return (at, values) if isinstance(values, dict) else (None, None)
    return None, None
