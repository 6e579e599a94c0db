"""`nebula-async plan`: what a job will cost, before anything is sent."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import closing
from functools import partial
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Annotated, Any

import anyio.to_thread
from attrs import field, frozen
from cyclopts import Parameter

from nebula_async.bulk.bucket import open_places
from nebula_async.bulk.budget import Spent
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.manifest.census import Census, Selection, take_census
from nebula_async.bulk.manifest.source import Source, open_source
from nebula_async.bulk.plan import Plan, make_plan
from nebula_async.bulk.recovery import check_items
from nebula_async.bulk.states import FAILED, State
from nebula_async.cli.budget_options import BudgetOptions
from nebula_async.cli.connection import USAGE, Connection, Switch, configured, connected, run
from nebula_async.cli.inputs import Inputs
from nebula_async.cli.output import tell
from nebula_async.cli.parameters import FileName, PictureParameters, Whole
from nebula_async.cli.plan_text import plan_json
from nebula_async.cli.planning import NO_KEY, Manifest, find_places, free_bytes, lay_plan, tell_plan
from nebula_async.errors import JobError
from nebula_async.keys import KEY_VARIABLE

TO_BE_SENT = (State.PENDING, State.SENT)
"""Items in other states are not sent again, unless that is asked for."""


def plan(
    manifest: Manifest,
    /,
    *,
    out: FileName | None = None,
    job: Path | None = None,
    concurrency: Whole = None,
    retry_failed: Annotated[bool, Switch] = False,
    resend_unknown: Annotated[bool, Switch] = False,
    json: Annotated[bool, Switch] = False,
    inputs: Annotated[Inputs, Parameter(name="*")] = Inputs(),  # noqa: B008 - frozen
    parameters: Annotated[PictureParameters, Parameter(name="*")] = PictureParameters(),  # noqa: B008 - frozen
    budget: Annotated[BudgetOptions, Parameter(name="*")] = BudgetOptions(),  # noqa: B008 - frozen
    connection: Annotated[Connection, Parameter(name="*")] = Connection(),  # noqa: B008 - frozen
) -> int:
    """Say what a bulk job with the same arguments will cost in money, hours and disk, and which lines are wrong.

    Nothing is made, and nothing is paid for. With a key, the API is asked for prices and balance; without one, or
    where it does not answer, the built-in prices stand. Exit codes: 0, and 2 for lines to mend and whatever else
    `bulk` would refuse.

    Parameters
    ----------
    manifest
        What `bulk` reads; - is standard input.
    out
        The folder of the job; what it has already is not counted again. Or its place in an object store.
    job
        With an object store, the folder of the job; else one named after the file.
    concurrency
        Requests in flight; else as many as the tier can use, and 16 without one.
    retry_failed
        Count what was refused, came back unusable or is gone as still to be sent.
    resend_unknown
        Count what may have been paid for already as still to be sent.
    json
        Print one JSON object instead of lines.
    """
    again = (FAILED if retry_failed else ()) + ((State.UNKNOWN,) if resend_unknown else ())
    places = find_places(manifest, out, job)
    asked = _Asked(manifest, *places, concurrency, again, inputs, parameters, budget, connection)
    return run(_plan, asked, json)


@frozen
class _Asked:
    """What the command was given."""

    manifest: str
    out: Path | str
    folder: Path | None
    concurrency: int | None
    again: tuple[State, ...]
    inputs: Inputs
    parameters: PictureParameters
    budget: BudgetOptions
    connection: Connection

    async def open(self, spool: Path) -> Source:
        """Open the input; what can be read once only is written beside `spool`."""
        given = {name: value for name, value in self.inputs.given().items() if name not in {"limit", "sample"}}
        return await open_source(self.manifest, spool=spool, defaults=self.parameters.given(), **given)


@frozen
class _Found:
    """What is known of the items, and what the job in the folder spent."""

    census: Census
    spent: Spent = field(factory=Spent)


async def _plan(asked: _Asked, is_json: bool) -> int:
    config, budget = configured(asked.connection, asked.concurrency), asked.budget.budget()
    folder, _ = open_places(asked.out, asked.folder)
    with TemporaryDirectory() as spool:
        source = await asked.open(Path(spool) / "input")
        found = await _counted(source, asked, folder)
    known: dict[str, Any] = {
        "name": source.name,
        "budget": budget,
        "spent": Spent() if budget.per_run else found.spent,
    }
    if asked.connection.emulator or KEY_VARIABLE in os.environ:
        async with connected(asked.connection, concurrency=asked.concurrency) as nebula:
            plan = await lay_plan(nebula, found.census, out=asked.out, **known)
    else:
        plan = make_plan(found.census, config, now=time.time(), account=NO_KEY, free=free_bytes(asked.out), **known)
    _tell(plan, is_json=is_json)
    return USAGE if plan.bad_count or plan.budget_problem else 0


def _tell(plan: Plan, *, is_json: bool) -> None:
    if is_json:
        tell(dumps(plan_json(plan)))
    else:
        tell_plan(plan, partial(tell, is_prose=True))


async def _counted(source: Source, asked: _Asked, folder: Path) -> _Found:
    """Count the items beside the event loop; Ctrl-C ends that soon."""
    stop = Event()
    try:
        return await anyio.to_thread.run_sync(_count, source, asked, folder, stop)
    finally:
        stop.set()


def _count(source: Source, asked: _Asked, folder: Path, stop: Event) -> _Found:
    """Count the items, and those that the job in the folder has settled."""
    selection = Selection(limit=asked.inputs.limit, sample=asked.inputs.sample)
    path = JobFolder(folder).ledger
    if folder.exists() and not folder.is_dir():
        raise JobError(f"{folder} is a file, and pictures need a folder; give another --out")
    if not path.is_file():
        return _Found(take_census(source, selection, settled_as=partial(_settled_as, None, asked.again, stop)))
    with closing(Ledger.read(path)) as ledger:
        census = take_census(source, selection, settled_as=partial(_settled_as, ledger, asked.again, stop))
        if not census.bad_count:
            check_items(source, selection, JobFolder(folder), ledger)
        return _Found(census, Spent.of(ledger.priced(), ledger.sends()))


def _settled_as(ledger: Ledger | None, again: Collection[State], stop: Event, key: str) -> str | None:
    if stop.is_set():
        raise JobError("interrupted while the input was read")
    row = None if ledger is None else ledger.find(key)
    return None if row is None or row.state in TO_BE_SENT or row.state in again else str(row.state)
