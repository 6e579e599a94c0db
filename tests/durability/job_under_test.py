"""A small job in a process of its own, for what can only be done to a process; says how it ended by its exit code.

`python job_under_test.py MANIFEST OUT`; the server and the key come from the environment, as for everyone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

if __name__ == "__main__":  # httpx and httpcore would load these for nothing, at length
    sys.modules |= dict.fromkeys({"click", "trio"} - {*sys.argv})

import anyio
from attrs import evolve

from nebula_async import AsyncNebula, BulkJob, Config, NebulaError, RetryPolicy

USAGE = 2
PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)
SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
TWO_AT_URLS = {"dialect": "inference", "model": "dall-e-3", "size": "64x64", "n": 2, "response_format": "url"}


def read(arguments: Sequence[str]) -> Namespace:
    """Return what the job is to do."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("out")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--durability", choices=("power", "process"), default="power")
    parser.add_argument("--idempotency", choices=("off", "replay"), default="off")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--two-at-urls", action="store_true", help="two pictures an item, to be fetched")
    parser.add_argument("--resend-unknown", action="store_true")
    parser.add_argument("--retry-failed", action="store_true")
    parser.add_argument("--gallery", action="store_true", help="write the page to look at the run")
    return parser.parse_args(arguments)


async def run(asked: Namespace) -> int:
    """Run the job to its end and return its exit code."""
    policy = RetryPolicy(backoff=0)
    config = evolve(Config.from_env(), retry=policy, concurrency=asked.concurrency, idempotency=asked.idempotency)
    options = {
        "defaults": TWO_AT_URLS if asked.two_at_urls else SMALL, "server": "emulator", "durability": asked.durability,
        "resend_unknown": asked.resend_unknown, "retry_failed": asked.retry_failed,
        "gallery": asked.gallery,
    }  # fmt: skip
    try:
        async with AsyncNebula(config=config) as nebula, BulkJob(asked.manifest, asked.out, nebula, **options) as job:
            report = await job.run()
            for note in job.gallery_notes:
                say(note)
    except NebulaError as error:
        say(str(error))
        return USAGE
    if report.stopped_by is not None:
        say(str(report.stopped_by))
    return report.exit_code


def say(text: str) -> None:
    """Say why it ends, by another system call than files are written with: those may be made to fail."""
    os.writev(sys.stderr.fileno(), [f"{text}\n".encode()])


def wait(asked: Namespace) -> None:
    """Say that all is loaded, and wait for a line of the input, or its end: until then strace may attach."""
    anyio.run(anyio.sleep, 0, backend=asked.backend)  # the event loop's code is loaded by its first use
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY)  # strace is no parent of this process
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    asked = read(sys.argv[1:])
    wait(asked)
    sys.exit(anyio.run(run, asked, backend=asked.backend))
