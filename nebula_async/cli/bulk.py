"""`nebula-async bulk`: a file of prompts into a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import frozen
from cyclopts import Group, Parameter

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.plan import Plan
from nebula_async.cli.budget_options import BudgetOptions
from nebula_async.cli.connection import INTERRUPTED, Connection, Switch, connected, exit_code, run
from nebula_async.cli.inputs import Inputs
from nebula_async.cli.json_events import JsonView
from nebula_async.cli.notices import Notice
from nebula_async.cli.output import say
from nebula_async.cli.parameters import FileName, PictureParameters, Whole
from nebula_async.cli.planning import Manifest, find_places, lay_plan, may_go_on
from nebula_async.cli.resume import given_command
from nebula_async.cli.running import run_job
from nebula_async.cli.views import PeopleView, QuietView, RunView
from nebula_async.client import AsyncNebula
from nebula_async.errors import ConfigurationError, JobError, NebulaError

EMULATOR = "the command's own emulator"

Running = Parameter(group=Group("Running", sort_key=1))


@frozen(kw_only=True)
class RunOptions:
    """How a job runs."""

    retry_failed: Annotated[bool, Switch, Running] = False
    "Send again what was refused, came back unusable or is gone; what was paid for is paid for again."
    resend_unknown: Annotated[bool, Switch, Running] = False
    "Send again what may have been paid for already."
    provenance: Annotated[bool, Switch, Running] = False
    "Write into each picture how it was made, if its type has a place for that; else it stays as it came."
    durability: Annotated[Literal["power", "process"], Running] = "power"
    "What is noted survives a power cut, or, faster, only the end of this process."
    when_exhausted: Annotated[Literal["wait", "stop"], Running] = "wait"
    "What to do once the day's quota is used up."
    new_key: Annotated[bool, Switch, Running] = False
    "The API key is another one than when the job was begun, and the account is the same."
    gallery: Annotated[bool, Parameter(negative="--no-gallery"), Running] = True
    "Write a page to look at the pictures, gallery/index.html, at the end."


Telling = Parameter(group=Group("Output", sort_key=5))


@frozen(kw_only=True)
class TellOptions:
    """What is told of a run."""

    as_json: Annotated[bool, Switch, Telling, Parameter(name="--json")] = False
    "Tell it as JSON, one event a line on stdout, for programs; stderr has errors alone."
    quiet: Annotated[bool, Switch, Telling] = False
    "Tell failures and errors alone: no plan, no progress, no summary."

    def view(self) -> RunView:
        """Return who is told. Raises `ConfigurationError` for both."""
        if self.as_json and self.quiet:
            raise ConfigurationError("--json and --quiet are two ways to be told; give one (--json is quiet on stderr)")
        if self.as_json:
            return JsonView()
        return QuietView() if self.quiet else PeopleView()


def bulk(
    manifest: Manifest,
    /,
    *,
    out: FileName | None = None,
    job: Path | None = None,
    concurrency: Whole = None,
    yes: Annotated[bool, Switch] = False,
    running: Annotated[RunOptions, Parameter(name="*")] = RunOptions(),
    telling: Annotated[TellOptions, Parameter(name="*")] = TellOptions(),
    inputs: Annotated[Inputs, Parameter(name="*")] = Inputs(),  # noqa: B008 - frozen
    parameters: Annotated[PictureParameters, Parameter(name="*")] = PictureParameters(),  # noqa: B008 - frozen
    budget: Annotated[BudgetOptions, Parameter(name="*")] = BudgetOptions(),  # noqa: B008 - frozen
    connection: Annotated[Connection, Parameter(name="*")] = Connection(),  # noqa: B008 - frozen
) -> int:
    """Generate every prompt of a file; the same command resumes, and asks for nothing that is stored.

    What it will cost is told first. Ctrl-C lets what is in flight finish; a second one stops at once. Exit codes: 0 all
    done, 1 some failed or wait, 2 wrong use or input, 3 stopped as a whole (key, credit, budget, quota, disk), 130
    interrupted.

    Parameters
    ----------
    manifest
        Prompts: .txt (one a line), .csv or .tsv (with a header of field names), .jsonl (an object or a text a line),
        each also .gz, or .parquet; - is standard input. The options below fill in what a line leaves out; a line's
        `dialect` says which API it is for.
    out
        The folder for the pictures and for what the job knows of them; else one named after the file. Or a place for
        the pictures in an object store, such as s3://bucket/cats.
    job
        With an object store, the folder for what the job knows, which has to be kept; else one named after the file.
    concurrency
        Requests in flight; else as many as the tier can use, and 16 without one.
    yes
        Do not ask whether to go on; without a terminal nothing is asked anyway.
    """
    places = find_places(manifest, out, job)
    asked = _Asked(manifest, *places, concurrency, running, inputs, parameters, budget, connection)
    is_elsewhere = job is None and places[1] is not None
    return run(_told, asked, telling, yes, is_elsewhere)


@frozen
class _Asked:
    """What the command was given."""

    manifest: str
    out: Path | str
    folder: Path | None
    concurrency: int | None
    running: RunOptions
    inputs: Inputs
    parameters: PictureParameters
    budget: BudgetOptions
    connection: Connection

    def job(self, nebula: AsyncNebula) -> BulkJob:
        """Return the job."""
        given: dict[str, Any] = {name: getattr(self.running, name) for name in RunOptions.__annotations__}
        return BulkJob(
            self.manifest,
            self.out,
            nebula,
            job=self.folder,
            defaults=self.parameters.given(),
            server=EMULATOR if self.connection.emulator else None,
            budget=self.budget.budget(),
            command=given_command(),
            **given,
            **self.inputs.given(),
        )


async def _told(asked: _Asked, telling: TellOptions, yes: bool, is_elsewhere: bool) -> int:
    view = telling.view()
    if is_elsewhere:
        text = f"what the job knows of its pictures is kept in {asked.folder} (--job names another folder)"
        view.notice(Notice("job_folder", f"{text}; do not lose it"))
    try:
        return await _bulk(asked, view, yes)
    except NebulaError as error:
        view.failed(error, exit_code(error))
        raise
    finally:
        view.close()


async def _bulk(asked: _Asked, view: RunView, yes: bool) -> int:
    async with (
        connected(asked.connection, concurrency=asked.concurrency, notify=view.notice) as nebula,
        asked.job(nebula) as job,
    ):
        plan = await _plan(asked, nebula, job, view) if await job.left() else None
        if plan is not None and not await may_go_on(plan, yes=yes or asked.connection.emulator):
            say("nothing was sent; the same command begins")
            return INTERRUPTED
        return await run_job(job, nebula, view, plan)


async def _plan(asked: _Asked, nebula: AsyncNebula, job: BulkJob, view: RunView) -> Plan:
    """Return the plan of what is still to be sent, which is told. Raises `JobError` for a budget too vague."""
    census, spent = await job.rest()
    name = "standard input" if asked.manifest == "-" else Path(asked.manifest).name
    plan = await lay_plan(
        nebula, census, name=name, out=asked.out, concurrency=asked.concurrency, budget=job.budget, spent=spent
    )
    view.plan(plan)
    if plan.budget_problem is not None:
        raise JobError(plan.budget_problem)
    return plan
