"""What `bulk` and `plan` have in common: a plan is laid, told, and agreed to."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from nebula_async.bulk.bucket import as_place
from nebula_async.bulk.budget import Budget, Spent
from nebula_async.bulk.manifest.census import Census
from nebula_async.bulk.plan import Account, Plan, make_plan
from nebula_async.cli.account import ask_account
from nebula_async.cli.output import is_terminal, say
from nebula_async.cli.parameters import FileName
from nebula_async.cli.plan_text import plan_lines
from nebula_async.client import AsyncNebula
from nebula_async.quantities import counted, dollars

Manifest = Annotated[FileName, Parameter(allow_leading_hyphen=True)]
"""The path of a file, or - for standard input."""

UNASKED_PICTURES, UNASKED_COST = 100, Decimal(1)
"""Up to so many pictures and USD nobody is asked whether to go on."""

NO_KEY = Account(problem="not asked: no key")
"""What is known of the account where no key is given."""


async def lay_plan(
    nebula: AsyncNebula,
    census: Census,
    *,
    name: str,
    out: Path | str,
    concurrency: int | None = None,
    budget: Budget | None = None,
    spent: Spent | None = None,
) -> Plan:
    """Return the plan of a job for the account of a client, which is asked for prices and balance, without cost.

    Where the API does not tell them, the built-in prices stand, and the plan says why.
    """
    return make_plan(
        census,
        nebula.config,
        name=name,
        now=time.time(),
        account=await ask_account(nebula),
        concurrency=concurrency,
        used_today=nebula.limits.used_today,
        budget=budget,
        spent=spent,
        free=free_bytes(out),
    )


def default_out(manifest: Path | str) -> Path:
    """Return the folder of a job for which none is named: one beside the caller, called as the input is."""
    name = Path(manifest).name
    return Path("prompts" if name == "-" else Path(name.removesuffix(".gz")).stem)


def find_places(manifest: Path | str, out: str | None, job: Path | None) -> tuple[Path | str, Path | None]:
    """Return where the pictures of a job go, and where the rest does if that is elsewhere."""
    place = default_out(manifest) if out is None else as_place(out)
    return place, default_out(manifest) if isinstance(place, str) and job is None else job


def free_bytes(out: Path | str) -> int | None:
    """Return the bytes that are free where an output folder is, or will be; `None` for an object store."""
    if "://" in str(out):
        return None
    place = Path(out).absolute()
    there = next((folder for folder in (place, *place.parents) if folder.is_dir()), place)
    try:
        return shutil.disk_usage(there).free
    except OSError:
        return None


def tell_plan(plan: Plan, write: Callable[[str], None] = say) -> None:
    """Tell a plan, line by line; on stderr, unless it is the result."""
    for line in plan_lines(plan, now=time.time()):
        write(line)


async def may_go_on(plan: Plan, *, yes: bool) -> bool:
    """Ask whether to go on with a plan that costs more than a trial; without a terminal, or with `yes`, go on.

    Cancellation, also by Ctrl-C, ends the question.
    """
    is_trial = plan.pictures <= UNASKED_PICTURES and plan.cost <= UNASKED_COST
    if yes or is_trial or not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        return True
    say(f"send {counted(plan.items, 'request')} for {_about_cost(plan)}: go on? [y/N] ")
    await anyio.wait_readable(sys.stdin)  # a plain read would keep Ctrl-C waiting for the end of the line
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _about_cost(plan: Plan) -> str:
    unpriced = f"{counted(plan.unpriced, 'picture')} at a price that is not known" if plan.unpriced else ""
    known = f"about {dollars(plan.cost)}" if plan.cost or not unpriced else ""
    return " and ".join(filter(None, (known, unpriced)))
