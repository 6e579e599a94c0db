"""A run as events for programs: JSON, one object a line, on stdout.

The names of events and of their fields stay; a new version may have more of both. All amounts of money are USD as text,
all times are seconds; what is not known is null.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import define, field

from nebula_async.bulk.causes import MISSING
from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.outcome import waits_again
from nebula_async.bulk.plan import Plan
from nebula_async.bulk.report_values import values_of
from nebula_async.bulk.summary import Summary
from nebula_async.charges import Charges
from nebula_async.cli.notices import Notice
from nebula_async.cli.outlet import Outlet
from nebula_async.cli.plan_text import plan_json, usd
from nebula_async.cli.tally import Standing
from nebula_async.errors import NebulaError, cause_of
from nebula_async.items import Result
from nebula_async.results import Failure, Generation

VERSION = 1
PROGRESS_SECONDS = 2.0

encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
"""In ASCII, so that no encoding of a stream can be in its way."""


@define(eq=False)
class JsonView:
    """Events on stdout, as they happen; nothing else goes there.

    A program that reads more slowly than items end holds nothing up: once 8 million characters wait for it, events are
    left out, and an `omitted` event says how many. What comes at the end is never left out.
    """

    seconds: float = PROGRESS_SECONDS
    outlet: Outlet = field(factory=lambda: Outlet(sys.stdout))
    _folder: Path = field(factory=Path, init=False)
    _omitted: int = field(default=0, init=False)
    _has_ended: bool = field(default=False, init=False)

    def plan(self, plan: Plan) -> None:
        """Tell what will be sent: the values of `nebula-async plan --json`."""
        self._tell("plan", plan_json(plan))

    def begin(self, job: BulkJob, standing: Standing) -> None:
        """Tell where things are, and how many items there are."""
        self._folder = job.folder
        places = {"version": VERSION, "folder": str(job.folder), "pictures": job.pictures}
        counts = {name: getattr(standing, name) for name in ("total", "done", "failed", "left")}
        self._tell("start", places | counts)

    def notice(self, notice: Notice) -> None:
        """Tell of something that happened."""
        if not self._has_ended:
            self._tell("notice", {"name": notice.name, "text": notice.text, "seconds": _rounded(notice.seconds)})

    def result(self, result: Result, price: Decimal | None) -> None:
        """Tell what became of an item."""
        self._tell("item", item_values(result, price, self._folder))

    def show(self, standing: Standing) -> None:
        """Tell how it is going."""
        self._tell("progress", progress_values(standing))

    def end(self, standing: Standing) -> None:
        """Tell how it went."""
        self._tell("progress", progress_values(standing), is_needed=True)

    def report(self, job: BulkJob, summary: Summary, exit_code: int) -> None:
        """Tell the values of `report.json`, and where the gallery is."""
        page = None if job.gallery_page is None else str(job.gallery_page)
        values = values_of(summary) | {"gallery": page, "exit_code": exit_code}
        self._tell("report", values, is_needed=True)
        self._has_ended = True

    def failed(self, error: NebulaError, exit_code: int) -> None:
        """Tell of an error that ended the command."""
        values = {"error": error.message, "cause": cause_of(error), "text": str(error), "exit_code": exit_code}
        self._tell("error", values, is_needed=True)
        self._has_ended = True

    def close(self) -> None:
        """Wait until the program has read all, or is gone."""
        with suppress(KeyboardInterrupt):
            self.outlet.close()

    def _tell(self, event: str, values: dict[str, Any], *, is_needed: bool = False) -> None:
        if self.outlet.left_out > self._omitted and (is_needed or self.outlet.is_idle):
            lines, self._omitted = self.outlet.left_out - self._omitted, self.outlet.left_out
            self._put("omitted", {"events": lines}, is_needed=True)
        self._put(event, values, is_needed=is_needed)

    def _put(self, event: str, values: dict[str, Any], *, is_needed: bool) -> None:
        self.outlet.line(encode({"event": event, "time": round(time.time(), 3), **values}), is_needed=is_needed)


def item_values(result: Result, price: Decimal | None, folder: Path) -> dict[str, Any]:
    """Return what is told of an item of the job in a folder, of which a picture costs so much."""
    request = result.request
    return {
        "number": result.index,
        "id": request.id,
        "status": _status(result),
        "prompt": request.prompt,
        "model": request.model,
        "seed": request.seed,
        **_outcome(result, price, folder),
    }


def _outcome(result: Result, price: Decimal | None, folder: Path) -> dict[str, Any]:
    if isinstance(result, Failure):
        error = result.error
        said = {"error": error.message, "cause": cause_of(error), "request_id": error.request_id}
        return {"files": [], "attempts": error.attempts, **_paid(error.charges, price), **said}
    files = [_place(image.stored, folder) for image in result.images if image.stored is not None]
    error_text = f"{result.missing} of {result.request.pictures} pictures are missing" if result.missing else None
    said = {"error": error_text, "cause": MISSING if error_text else None}
    said |= {"request_id": result.request_id}
    return {"files": files, "attempts": result.attempts, **_paid(result.charges, price), **said}


def _place(stored: str, folder: Path) -> str:
    return stored if "://" in stored else f"{folder}/{stored}"


def _status(result: Result) -> str:
    if isinstance(result, Generation):
        return "incomplete" if result.missing else "done"
    return "waiting" if waits_again(result) else "failed"


def _paid(charges: Charges, price: Decimal | None) -> dict[str, Any]:
    least, most = charges.at_least, charges.at_most
    cost = None if price is None else {"at_least": f"{least * price:f}", "at_most": f"{most * price:f}"}
    return {"charges": {"at_least": least, "at_most": most}, "cost": cost}


def progress_values(standing: Standing) -> dict[str, Any]:
    """Return what is told of how a run is going."""
    return {
        "state": standing.course,
        "state_seconds": _rounded(standing.course_seconds),
        "total": standing.total,
        "done": standing.done,
        "failed": standing.failed,
        "left": standing.left,
        "in_flight": standing.in_flight,
        "pictures": standing.pictures,
        "pictures_per_minute": _rounded(standing.per_minute),
        "refusals": standing.refusals,
        "cost": {"at_least": f"{standing.cost_at_least:f}", "at_most": f"{standing.cost_at_most:f}"},
        "cost_projected": usd(standing.projected),
        "limit_per_minute": _rounded(standing.limit_per_minute),
        "limit_per_day": standing.per_day,
        "used_today": standing.used_today,
        "seconds": _rounded(standing.seconds),
        "seconds_left": _rounded(standing.seconds_left),
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)
