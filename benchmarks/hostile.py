"""What a hostile reply can do to a client: when a call ends, and what it costs in memory.

Each reply comes from a server in another process to a client in a fresh one, on asyncio and on trio. Prints, for each
of them, how long after its deadline the call ended (negative: before it), and by how much memory rose above what the
process had after a call that went well. Exits 1 when a call ended too late or took too much.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path

import anyio
from attrs import asdict, frozen
from hostile_replies import NAMES, serve

from nebula_async import AsyncNebula, Config, NebulaError, Timeouts

DEADLINE_SECONDS = 1.0
MOST_SECONDS_LATE = 0.2
MOST_MIB = 96
LOOPS = ("asyncio", "trio")
MODEL = "black-forest-labs/FLUX.1-schnell"
LONGEST_SECONDS = 60


@frozen
class Outcome:
    """How a call ended."""

    error: str
    seconds_late: float
    mib: float

    @property
    def is_bad(self) -> bool:
        """Whether it missed a target."""
        return self.seconds_late > MOST_SECONDS_LATE or self.mib > MOST_MIB


def main() -> int:
    """Measure, print, and say whether all targets were reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help="the replies that are tried; all by default")
    options.add_argument("--client", nargs=2, metavar=("LOOP", "PLACE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.client:
        loop, place = given.client
        print(json.dumps(asdict(anyio.run(call, place, *given.names, backend=loop))))
        return 0
    outcomes = measure(given.names or NAMES[1:])
    late, mib = (max(getattr(each, name) for each in outcomes) for name in ("seconds_late", "mib"))
    print(f"\nworst: {late:+.2f} s (target: at most {MOST_SECONDS_LATE:+g}), {mib:.0f} MiB (at most {MOST_MIB})")
    return 1 if any(each.is_bad for each in outcomes) else 0


def measure(names: list[str]) -> list[Outcome]:
    """Try each reply on both loops, printing a row of the table as it is done."""
    print(f"Python {platform.python_version()}, {len(names)} replies, deadline {DEADLINE_SECONDS:g} s\n")
    print("| reply | ends with | s after the deadline: asyncio, trio | MiB above: asyncio, trio | |")
    print("|---|---|---|---|---|")
    outcomes = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(listener,), daemon=True)
        server.start()
        place = "{}:{}".format(*listener.getsockname())
        for name in names:
            pair = [outcome_of(loop, place, name) for loop in LOOPS]
            ends = " / ".join(dict.fromkeys(each.error for each in pair))
            late, mib = (
                ", ".join(f"{each.seconds_late:+.2f}" for each in pair),
                ", ".join(f"{each.mib:.0f}" for each in pair),
            )
            print(
                f"| {name} | {ends} | {late} | {mib} | {'missed' if any(each.is_bad for each in pair) else ''} |",
                flush=True,
            )
            outcomes += pair
        server.terminate()
        server.join()
    return outcomes


def outcome_of(loop: str, place: str, name: str) -> Outcome:
    """Let a process of its own call for a reply."""
    command = [sys.executable, __file__, "--client", loop, place, "--", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONGEST_SECONDS)
    return Outcome(**json.loads(done.stdout))


async def call(place: str, name: str) -> Outcome:
    """Call for a good reply, and then for another one, and return what became of that."""
    config = Config(timeouts=Timeouts(total=LONGEST_SECONDS), allowed_image_hosts=[place])
    async with client(place, "good reply", config) as nebula:
        await nebula.generate("x", model=MODEL)
    before, started = memory_mib("VmRSS"), time.monotonic()
    try:
        async with client(place, name, config) as nebula:
            started = time.monotonic()
            await nebula.with_options(timeout=DEADLINE_SECONDS).generate("x", model=MODEL)
        ended = "a picture"
    except NebulaError as error:
        ended = type(error).__name__
    return Outcome(ended, time.monotonic() - started - DEADLINE_SECONDS, memory_mib("VmHWM") - before)


def client(place: str, name: str, config: Config) -> AsyncNebula:
    """Return a client of the server that answers with this reply."""
    return AsyncNebula("sk-emulator", config=config, base_url=f"http://{place}/{NAMES.index(name)}/api/v1")


def memory_mib(field: str) -> float:
    """Return how much memory this process has (`VmRSS`), or has had at most (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


if __name__ == "__main__":
    sys.exit(main())
