"""`nebula-async report`: how a job stands, and why."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from nebula_async.bulk.bucket import is_store
from nebula_async.bulk.standing import JobStanding, read_standing
from nebula_async.cli.connection import INTERRUPTED, Switch, ended
from nebula_async.cli.output import say, tell
from nebula_async.cli.resume import resume_line
from nebula_async.cli.summary_text import print_summary
from nebula_async.errors import ConfigurationError


def report(out: Path, /, *, json: Annotated[bool, Switch] = False) -> int:
    """Tell how a bulk job stands: by model, by cause of failure, what it cost, and the command that goes on with it.

    It reads what the job noted, also while it runs or after it was killed; nothing is sent, and nothing is changed.
    Exit codes: 0, and 2 for a folder that is no job's.

    Parameters
    ----------
    out
        The folder of the job, as it was given to `bulk --out`, or to `bulk --job` where the pictures are in a store.
    json
        Print what report.json would hold now, as one JSON object on one line.
    """
    return ended(_report, out, json)


def _report(out: Path, is_json: bool) -> int:
    if is_store(out):
        raise ConfigurationError(f"{out} has the pictures of a job, and its folder the rest: give what --job named")
    try:
        standing = read_standing(out)
    except KeyboardInterrupt:
        say("nebula-async: interrupted")
        return INTERRUPTED
    if is_json:
        tell(json_text.dumps(standing.values(), allow_nan=False))
        return 0
    resume = None if standing.is_running else resume_line(standing.command, out, standing.place)
    print_summary(standing.summary, place=standing.place, folder=out, resume=resume, standing=_said(standing))
    return 0


def _said(standing: JobStanding) -> str:
    holder, last = standing.holder, standing.last_run
    if holder is not None and holder.was_killed:
        return "the last run was killed; the next one settles what it left open"
    if holder is not None:
        return f"a run is under way (process {holder.process})"
    if last is None or standing.ended is None:
        return "no run has ended yet"
    return f"the last run ended {datetime.fromtimestamp(standing.ended, UTC):%Y-%m-%d %H:%M:%S} UTC{_ending(last)}"


def _ending(last: Mapping[str, Any]) -> str:
    if last.get("stopped_by"):
        return f", stopped: {last['stopped_by']}"
    return ", interrupted" if last.get("interrupted") else ""
