"""A summary as plain JSON values: what `report.json` holds, `nebula-async report --json` prints and a gallery shows."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from attrs import asdict

from nebula_async.bulk.report import Report
from nebula_async.bulk.shares import ModelShare
from nebula_async.bulk.summary import Cause, Summary
from nebula_async.bulk.timeline import Latency, Slice
from nebula_async.charges import Charges
from nebula_async.errors import cause_of

VERSION = 1
"""Of `report.json`; one that has more fields is not another version."""


def values_of(summary: Summary) -> dict[str, Any]:
    """Return a summary as docs/report.md describes it: money as text in USD, what is not known as null."""
    report = summary.report
    return {
        "version": VERSION,
        "written": _told_time(datetime.now(UTC).timestamp()),
        "started": _told_time(summary.started),
        "ended": _told_time(summary.ended),
        "seconds": round(summary.seconds, 1),
        "items": report.total,
        **{name: getattr(report, name) for name in ("done", "rejected", "bad", "unknown", "unfetched", "waiting")},
        "pictures": report.pictures,
        **_charges(report.charges),
        **_cost(summary.cost_at_least, summary.cost_at_most, summary.unpriced),
        "requests": summary.requests,
        "refusals": summary.refusals,
        "paid_twice_at_most": summary.paid_twice,
        "resent_unasked": summary.resent_unasked,
        "models": [_model(share) for share in summary.models],
        "causes": [_cause(cause) for cause in summary.causes],
        "items_with_other_causes": summary.more_causes,
        "latency": None if summary.latency is None else _latency(summary.latency),
        "timeline": [_slice(each) for each in summary.timeline],
        "this_run": run_values(report),
    }


def run_values(report: Report) -> dict[str, Any]:
    """Return what one run did, as `report.json` holds it under `this_run`."""
    spending, stopped_by = report.spending, report.stopped_by
    return {
        "seconds": round(report.seconds, 3),
        "pictures": spending.pictures,
        **_cost(spending.at_least, spending.at_most, spending.unpriced),
        "interrupted": report.is_interrupted,
        "stopped_by": None if stopped_by is None else stopped_by.message,
        "cause": None if stopped_by is None else cause_of(stopped_by),
        "next_step": None if stopped_by is None else stopped_by.next_step or None,
        "exit_code": report.exit_code,
    }


def _told_time(moment: float | None) -> str | None:
    """Return a Unix time as a date and a time of day in UTC, `None` where there is none."""
    try:
        return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):  # a clock that was wrong by ages
        return None


def _model(share: ModelShare) -> dict[str, Any]:
    return {
        **{name: getattr(share, name) for name in ("dialect", "model", "items", "done", "failed", "pictures")},
        **_charges(share.charges),
        **_cost(share.cost_at_least, share.cost_at_most, share.unpriced),
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "state": cause.state.value,
        **{name: getattr(cause, name) for name in ("cause", "error", "texts", "items")},
        **_charges(cause.charges),
        "next_step": cause.next_step,
    }


def _latency(latency: Latency) -> dict[str, Any]:
    seconds = {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99, "longest": latency.longest}
    return {"requests": latency.requests, **{f"{name}_seconds": round(value, 3) for name, value in seconds.items()}}


def _slice(each: Slice) -> dict[str, Any]:
    middle = each.p50_seconds
    rounded = {"start": round(each.start, 3), "p50_seconds": None if middle is None else round(middle, 3)}
    return asdict(each) | rounded


def _charges(charges: Charges) -> dict[str, int]:
    return {"charges_at_least": charges.at_least, "charges_at_most": charges.at_most}


def _cost(at_least: Decimal, at_most: Decimal, unpriced: int) -> dict[str, Any]:
    return {
        "cost_at_least": f"{at_least:f}",
        "cost_at_most": f"{at_most:f}",
        "pictures_without_price": unpriced,
    }
