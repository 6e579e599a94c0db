"""One client at one task, in this process: prints what it cost as JSON. `peers.py` starts it."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import anyio
import attrs
from attrs import frozen
from footprint import Footprint, measure
from peer_clients import CLIENTS, Work

HERE = ("127.0.0.1", b"127.0.0.1", "localhost")


@frozen
class Outcome:
    """What a client's run came to; `cold_seconds` is from when its process was started to its first picture."""

    cold_seconds: float
    run: Footprint


def main() -> int:
    """Run what the command line asks for, and print the outcome."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("client", choices=CLIENTS)
    options.add_argument("url", help="the root of a picture server for pictures of that size")
    options.add_argument("--size", type=int, required=True, help="how many bytes each picture has")
    options.add_argument("--in-flight", type=int, required=True)
    options.add_argument("--calls", type=int, required=True, help="how many calls are made at least")
    options.add_argument("--seconds", type=float, required=True, help="how long calls are begun")
    options.add_argument("--started", type=float, required=True, help="the monotonic clock when this was started")
    options.add_argument("--loop", choices=("asyncio", "trio"), default="asyncio")
    given = options.parse_args()
    sys.addaudithook(stay_here)
    work = Work(given.url, given.in_flight, given.size)
    outcome = anyio.run(run, given.client, work, given.calls, given.seconds, given.started, backend=given.loop)
    json.dump(attrs.asdict(outcome), sys.stdout)
    return 0


def stay_here(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse, as an audit hook, to call anything but this machine: no client is to report that it is used."""
    place: Any = arguments[0] if event == "socket.getaddrinfo" else None
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        place = arguments[1][0]
    if place is not None and place not in HERE:
        raise PermissionError(f"this benchmark calls this machine alone; {place} was to be called")


async def run(client: str, work: Work, calls: int, seconds: float, started: float) -> Outcome:
    """Make two calls to warm up, and then all that are asked for, measured."""
    async with CLIENTS[client](work) as make_calls:
        await make_calls(iter(range(1)))
        cold_seconds = time.monotonic() - started
        await make_calls(iter(range(1)))

        async def make_all() -> int:
            made = itertools.count()
            await make_calls(begun(made, calls, seconds))
            return next(made)

        return Outcome(cold_seconds, await measure(make_all))


def begun(numbers: Iterator[int], calls: int, seconds: float) -> Iterator[int]:
    """Yield a number for each call that is to be begun: for so many seconds, and for so many calls at least."""
    end = time.perf_counter() + seconds
    for left in itertools.count(calls, -1):
        if left <= 0 and time.perf_counter() >= end:
            return
        yield next(numbers)


if __name__ == "__main__":
    sys.exit(main())
