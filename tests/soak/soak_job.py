"""A job in a process of its own, run as the command line runs one, but with short waits; it ends with its exit code.

`python soak_job.py MANIFEST OUT`; the server and the key come from the environment. It says `ready` once all its code
is loaded and begins at a line of its input, or the end of it.
"""

from __future__ import annotations

import ctypes
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial

import anyio
from attrs import evolve

from nebula_async import AsyncNebula, BulkJob, Config, RetryPolicy, Timeouts
from nebula_async.bulk.budget import Budget
from nebula_async.cli.connection import ended
from nebula_async.cli.running import run_job
from nebula_async.cli.views import QuietView

PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)

TIMEOUTS = Timeouts(connect=2, write=2, read=1, attempt=4, total=20)
BACKOFF = 0.05
"""Of the usual waits. Like the early end of silence it saves time and changes nothing of what is decided."""


def read(arguments: Sequence[str]) -> Namespace:
    """Return what the job is to do."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("out")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--durability", choices=("power", "process"), default="power")
    parser.add_argument("--idempotency", choices=("off", "unknown", "replay"), default="off")
    parser.add_argument("--rate-limit", type=float, help="a minute; else it is found out")
    parser.add_argument("--resends", type=int, default=1, help="how often what may be paid for is sent again")
    parser.add_argument("--max-images", type=int, help="the budget of the job's life")
    parser.add_argument("--provenance", action="store_true")
    parser.add_argument("--gallery", action="store_true")
    parser.add_argument("--resend-unknown", action="store_true")
    parser.add_argument("--retry-failed", action="store_true")
    return parser.parse_args(arguments)


async def run(asked: Namespace) -> int:
    """Run the job to its end and return its exit code."""
    config = evolve(
        Config.from_env(),
        retry=RetryPolicy(backoff=BACKOFF, resend_unknown=asked.resends),
        timeouts=TIMEOUTS,
        concurrency=asked.concurrency,
        idempotency=asked.idempotency,
        rate_limit=asked.rate_limit,
    )
    flags = {name: getattr(asked, name) for name in ("durability", "provenance", "gallery")}
    again = {name: getattr(asked, name) for name in ("resend_unknown", "retry_failed")}
    budget = Budget(max_images=asked.max_images)
    async with (
        AsyncNebula(config=config) as nebula,
        BulkJob(asked.manifest, asked.out, nebula, when_exhausted="stop", budget=budget, **flags, **again) as job,
    ):
        return await run_job(job, nebula, QuietView(), None)


def wait(asked: Namespace) -> None:
    """Say that all is loaded, and wait for a line of the input: until then strace may attach."""
    anyio.run(anyio.sleep, 0, backend=asked.backend)  # the event loop's code is loaded by its first use
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY)  # strace is no parent of this process
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    asked = read(sys.argv[1:])
    wait(asked)
    sys.exit(ended(partial(anyio.run, backend=asked.backend), run, asked))
