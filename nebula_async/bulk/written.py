"""What a run leaves for others to read: `report.json`, and `failed.jsonl`, which is valid input again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from nebula_async.bulk.causes import next_step, told
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.manifest.census import Census
from nebula_async.bulk.manifest.items import fields_from
from nebula_async.bulk.manifest.source import Source
from nebula_async.bulk.report_values import run_values, values_of
from nebula_async.bulk.states import Row
from nebula_async.bulk.summary import Summary
from nebula_async.errors import JobError
from nebula_async.images.part_file import replace_lines

ENDED = "ended"
"""The ledger's event at the end of a run, with what the run did; one that was killed has none."""


def write_reports(
    folder: JobFolder, source: Source, census: Census, limit: int | None, ledger: Ledger, summary: Summary
) -> None:
    """Write both files; it blocks. Raises `OSError`, and `JobError` for input that cannot be read any more."""
    if not folder.ledger.exists():  # it is not made anew: on a disk that is gone it would be another one
        raise JobError(f"the output folder {folder.path} is gone; put it back, then repeat")
    ledger.tell(time.time(), ENDED, json.dumps(run_values(summary.report)))
    replace_lines(folder.path / "failed.jsonl", _failed(folder, source, census, limit, ledger))
    text = json.dumps(values_of(summary), indent=2, allow_nan=False)
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
    cause, error = told(row.state, row.cause, row.error)
    return {
        "state": row.state.value,
        "cause": cause,
        "error": error,
        "next_step": next_step(row.state, cause),
        "requests": row.sends,
        "charges_at_least": row.charges.at_least,
        "charges_at_most": row.charges.at_most + row.at_stake,
    }
