"""A job in a process of its own, that is killed; `python killed_job.py OUT MANIFEST URL MODE AGAIN` is that process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal, cast

import anyio
from attrs import define, frozen
from broken_service import KEY, BrokenService

from nebula_async import AsyncNebula, BulkJob, Config, RetryPolicy, Timeouts

AT_ONCE = 16
PER_MINUTE = 60_000
"""Known and high, so that pacing stays out of it."""

TIMEOUTS = Timeouts(connect=5, write=5, read=3, attempt=30, total=60)
BACKOFF = 0.1
"""Of the usual waits. Like the early end of silence it saves time and changes nothing of what is decided."""

PICTURE = {"model": "black-forest-labs/FLUX.1-schnell", "width": 16, "height": 16, "num_steps": 1}
KILLED = -signal.SIGKILL
LONGEST_SECONDS = 1800
GLANCE_SECONDS = 0.002

Mode = Literal["off", "replay"]
"""What the client makes of idempotency keys, and the service too."""


@frozen
class Moment:
    """When a run is killed: so many seconds after its start and so many requests of all runs."""

    requests: int
    seconds: float


@define(eq=False)
class KilledJob:
    """A job of so many items in a folder, for a service."""

    folder: Path
    items: int
    mode: Mode
    service: BrokenService

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        lines = (json.dumps({"id": name_of(number), "prompt": name_of(number)}) for number in range(self.items))
        self.manifest.write_text("\n".join(lines))

    @property
    def manifest(self) -> Path:
        """The prompts, each of which is its item's id as well."""
        return self.folder / "prompts.jsonl"

    @property
    def out(self) -> Path:
        """Where the job keeps everything."""
        return self.folder / "out"

    def run_until(self, moment: Moment) -> int:
        """Run the job until it is killed, or has ended before; return its exit code, or `KILLED`."""
        process = self._start()
        while self.service.requests < moment.requests and process.poll() is None:
            time.sleep(GLANCE_SECONDS)
        time.sleep(moment.seconds)
        process.kill()
        return process.wait()

    def run(self, *, again: bool = False) -> int:
        """Run the job to its end and return its exit code; `again`: also what may have been paid for."""
        return self._start(again=again).wait(LONGEST_SECONDS)

    def _start(self, *, again: bool = False) -> subprocess.Popen[bytes]:
        given = (self.out, self.manifest, self.service.url, self.mode, "again" if again else "")
        return subprocess.Popen([sys.executable, __file__, *map(str, given)])


def name_of(number: int) -> str:
    """Return the id and prompt of an item."""
    return f"flying cat {number:06}"


async def run_job(*given: str) -> int:
    """Run a job as far as it goes and return its exit code."""
    out, manifest, url, mode, again = given
    retry, idempotency = RetryPolicy(backoff=BACKOFF), cast("Mode", mode)
    config = Config(base_url=url, rate_limit=PER_MINUTE, timeouts=TIMEOUTS, retry=retry, idempotency=idempotency)
    async with (
        AsyncNebula(KEY, config=config) as nebula,
        BulkJob(
            Path(manifest),
            Path(out),
            nebula,
            defaults=PICTURE,
            concurrency=AT_ONCE,
            resend_unknown=again == "again",
            gallery=False,
        ) as job,
    ):
        return (await job.run()).exit_code


if __name__ == "__main__":
    sys.exit(anyio.run(run_job, *sys.argv[1:]))
