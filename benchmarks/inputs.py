"""Pictures of 10 MB sent from their files, 4 in flight, beside the script that a user would write with httpx.

A server in another process, on a core of its own, reads what is sent and answers with a tiny picture; each run is a
process of its own, the clients in turn. Prints a table and exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import anyio
import attrs
from attrs import frozen
from footprint import Footprint, Lateness, measure
from noise_png import noise_png
from picture_server import pin, serving_pictures

MODEL = "black-forest-labs/FLUX.1-Kontext-dev"
SENT_BYTES, RECEIVED_BYTES = 10_000_000, 100
IN_FLIGHT = 4
SECONDS = 3.0
ROUNDS = 7
MEGABYTE = 1_000_000
KEY = "sk-emulator"

TIMES_THE_SCRIPT, MOST_MEGABYTES, MOST_MS_LATE = 5.0, 8.0, 5.0

Send: TypeAlias = Callable[[], Awaitable[object]]
"""Sends the picture once and takes the reply."""

Client: TypeAlias = Callable[[str, Path], AbstractAsyncContextManager[Send]]
"""Opens a client of the server at this URL, which sends the picture in this file."""


def main() -> int:
    """Measure, print, and say whether the targets were reached; or be one of the runs."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of each client, {ROUNDS} unless given")
    options.add_argument("--seconds", type=float, default=SECONDS, help=f"of each run, {SECONDS:g} unless given")
    options.add_argument("--run", nargs=3, metavar=("CLIENT", "URL", "FILE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.run:
        name, url, file = given.run
        pin(-1)
        print(json.dumps(attrs.asdict(anyio.run(run, CLIENTS[name], url, Path(file), given.seconds))))
        return 0
    return judge(show(compare(given.rounds, given.seconds)))


def compare(rounds: int, seconds: float) -> dict[str, list[Footprint]]:
    """Run the clients in turn, each time in a new process, and return what the runs cost."""
    found: dict[str, list[Footprint]] = {name: [] for name in CLIENTS}
    with tempfile.TemporaryDirectory() as folder, serving_pictures() as server:
        file = Path(folder) / "picture.png"
        file.write_bytes(noise_png(SENT_BYTES))
        for number in range(rounds):
            for name in CLIENTS if number % 2 else reversed(CLIENTS):
                what = ["--run", name, server.url(RECEIVED_BYTES), str(file), "--seconds", str(seconds)]
                done = subprocess.run([sys.executable, __file__, *what], check=True, stdout=subprocess.PIPE)
                cost = json.loads(done.stdout)
                found[name].append(Footprint(**{**cost, "late": Lateness(**cost["late"])}))
    return found


async def run(client: Client, url: str, file: Path, seconds: float) -> Footprint:
    """Warm up, and then send as many as possible for so long."""
    async with client(url, file) as send:
        await keep_sending(send, iter(range(2 * IN_FLIGHT)))

        async def work() -> int:
            done = itertools.count()
            await keep_sending(send, until(time.perf_counter() + seconds, done))
            return next(done)

        return await measure(work)


async def keep_sending(send: Send, turns: Iterator[int]) -> None:
    """Send once for each turn, as many at once as are measured."""

    async def work() -> None:
        for _ in turns:
            await send()

    async with anyio.create_task_group() as group:
        for _ in range(IN_FLIGHT):
            group.start_soon(work)


def until(end: float, numbers: Iterator[int]) -> Iterator[int]:
    """Yield numbers as long as there is time."""
    while time.perf_counter() < end:
        yield next(numbers)


# The clients


@asynccontextmanager
async def script(url: str, file: Path) -> AsyncIterator[Send]:
    """The usual script: the whole file, as base64, in a dictionary, by httpx."""
    import httpx

    async with httpx.AsyncClient(timeout=60, headers={"Authorization": f"Bearer {KEY}"}) as http:

        async def send() -> None:
            with file.open("rb") as opened:
                image = base64.b64encode(opened.read()).decode()
            reply = await http.post(f"{url}/images/generation", json={"prompt": "x", "model": MODEL, "image": image})
            base64.b64decode(reply.raise_for_status().json()["data"][0]["b64_json"])

        yield send


@asynccontextmanager
async def from_path(url: str, file: Path) -> AsyncIterator[Send]:
    """Ours, given the path."""
    async with nebula_at(url) as generate:
        yield lambda: generate(file)


@asynccontextmanager
async def from_bytes(url: str, file: Path) -> AsyncIterator[Send]:
    """Ours, given bytes that are in memory before."""
    data = await anyio.Path(file).read_bytes()
    async with nebula_at(url) as generate:
        yield lambda: generate(data)


@asynccontextmanager
async def nebula_at(url: str) -> AsyncIterator[Callable[[Path | bytes], Awaitable[object]]]:
    """Open a client of the server; no limit of an account holds it up."""
    from nebula_async import AsyncNebula, Config

    config = Config(base_url=url, rate_limit=1_000_000, concurrency=IN_FLIGHT)
    async with AsyncNebula(KEY, config=config) as nebula:
        yield lambda image: nebula.generate("x", model=MODEL, image=image)


CLIENTS: dict[str, Client] = {"script": script, "nebula_async, path": from_path, "nebula_async, bytes": from_bytes}


# What came of it


@frozen
class Row:
    """The medians of a client's runs."""

    per_second: float
    cpu_ms: float
    megabytes: float
    ms_late: float


def show(found: dict[str, list[Footprint]]) -> dict[str, Row]:
    """Print a table and return its medians."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("httpx", "httpcore", "anyio", "pybase64"))
    rounds = len(next(iter(found.values())))
    print(f"Python {platform.python_version()}, {versions}; {rounds} runs of each, in turn\n")
    print(f"PNG of {SENT_BYTES / MEGABYTE:g} MB, {IN_FLIGHT} in flight; medians (lowest to highest)\n")
    print("| client | pictures a second | CPU ms each | MB at the peak above start | ticker late at most, ms |")
    print("|---|---|---|---|---|")
    return {name: show_row(name, runs) for name, runs in found.items()}


def show_row(name: str, runs: list[Footprint]) -> Row:
    """Print the row of a client and return its medians."""
    figures = [
        [run.done / run.seconds for run in runs],
        [1000 * run.cpu_seconds / run.done for run in runs],
        [run.peak_bytes / MEGABYTE for run in runs],
        [run.late.max for run in runs],
    ]
    cells = (f"{statistics.median(each):.1f} ({min(each):.1f} to {max(each):.1f})" for each in figures)
    print(f"| {name} | {' | '.join(cells)} |")
    return Row(*map(statistics.median, figures))


def judge(rows: dict[str, Row]) -> int:
    """Print figures beside targets; return 1 where one is missed."""
    usual, ours = rows["script"], rows["nebula_async, path"]
    ratio = ours.per_second / usual.per_second
    print(f"\n{ratio:.1f} times the script (target: at least {TIMES_THE_SCRIPT:g})")
    print(f"{ours.megabytes:.1f} MB above start (target: at most {MOST_MEGABYTES:g})")
    print(f"ticker {ours.ms_late:.1f} ms late at most (target: {MOST_MS_LATE:g})")
    is_reached = ratio >= TIMES_THE_SCRIPT and ours.megabytes <= MOST_MEGABYTES and ours.ms_late <= MOST_MS_LATE
    return 0 if is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
