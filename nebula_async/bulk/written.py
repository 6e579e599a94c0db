"""What a run leaves for others to read: `report.json`, and `failed.jsonl`, which is valid input again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.manifest.census import Census
from nebula_async.bulk.manifest.items import fields_from
from nebula_async.bulk.manifest.source import Source
from nebula_async.bulk.report import Report
from nebula_async.bulk.states import Row
from nebula_async.errors import JobError
from nebula_async.images.part_file import replace_lines

VERSION = 1
"""Of `report.json`; one that has more fields is not another version."""

MOST_CAUSES = 100
LONGEST_CAUSE = 300


def write_reports(
    folder: JobFolder, source: Source, census: Census, limit: int | None, ledger: Ledger, report: Report
) -> None:
    """Write both files; it blocks. Raises `OSError`, and `JobError` for input that cannot be read any more."""
    if not folder.ledger.exists():  # it is not made anew: on a disk that is gone it would be another one
        raise JobError(f"the output folder {folder.path} is gone")
    replace_lines(folder.path / "failed.jsonl", _failed(folder, source, census, limit, ledger))
    text = json.dumps(_values(ledger, report), indent=2, allow_nan=False)
    replace_lines(folder.path / "report.json", [text])


def _failed(folder: JobFolder, source: Source, census: Census, limit: int | None, ledger: Ledger) -> Iterator[str]:
    """Yield a line for each item that was sent and is not done: what it asks for, and under `failure` why."""
    if not any(True for _ in ledger.unfinished()):
        return
    for item in source.items(lambda key: _is_unfinished(ledger.find(key)), limit=limit):
        row = ledger.find(item.key)
        if row is not None and census.selects(item):
            fields = {"dialect": item.request.dialect, **fields_from(folder.path, item.request)}  # whatever the default
            yield json.dumps({**fields, "failure": _failure(row)}, allow_nan=False)


def _is_unfinished(row: Row | None) -> bool:
    return row is not None and row.is_unfinished


def _failure(row: Row) -> dict[str, Any]:
    least, most = row.charges.at_least, row.charges.at_most + row.at_stake
    return {
        "state": row.state.value,
        "error": row.error or "its call had not ended when the run did; the next run settles it",
        "requests": row.sends,
        "charges_at_least": least,
        "charges_at_most": most,
    }


def _values(ledger: Ledger, report: Report) -> dict[str, Any]:
    return {
        "version": VERSION,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "items": report.total,
        "done": report.done,
        "rejected": report.rejected,
        "bad": report.bad,
        "unknown": report.unknown,
        "unfetched": report.unfetched,
        "waiting": report.waiting,
        "pictures": report.pictures,
        "charges_at_least": report.charges.at_least,
        "charges_at_most": report.charges.at_most,
        "requests": ledger.sends(),
        "paid_twice_at_most": ledger.paid_twice(),
        "resent_unasked": ledger.duplicates(),
        "causes": _causes(ledger),
        "this_run": _this_run(report),
    }


def _this_run(report: Report) -> dict[str, Any]:
    spending = report.spending
    return {
        "seconds": round(report.seconds, 3),
        "pictures": spending.pictures,
        "cost_at_least": f"{spending.at_least:f}",
        "cost_at_most": f"{spending.at_most:f}",
        "pictures_without_price": spending.unpriced,
        "interrupted": report.is_interrupted,
        "stopped_by": None if report.stopped_by is None else str(report.stopped_by),
        "exit_code": report.exit_code,
    }


def _causes(ledger: Ledger) -> list[dict[str, Any]]:
    """Return why items are not done, the most frequent first; what is seen once a hundred others are is not told."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in ledger.unfinished():
        cause = (row.state.value, (row.error or "")[:LONGEST_CAUSE])
        if cause in counts or len(counts) < MOST_CAUSES:
            counts[cause] += 1
    return [{"state": state, "error": error, "items": number} for (state, error), number in counts.most_common()]
