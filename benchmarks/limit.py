"""200 prompts, 64 at a time, to a server that allows ten a second: how many it refuses, and how long it takes.

The server, in another process and in real time, has a bucket of ten that refills at ten a second, answers after 0.2 s,
and refuses with `Retry-After: 1`: at once, or after 0.2 s as well. Prints a table and exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable

import anyio
from attrs import frozen
from servers import Answer, Tally, picture, reply, serving

from nebula_async import AsyncNebula, Config, Generation

PER_SECOND = BURST = 10
LATENCY_SECONDS = 0.2
PROMPTS, AT_ONCE = 200, 64
RUNS = 3
MODEL = "black-forest-labs/FLUX.1-schnell"
REFUSAL = b'{"status":"error","error":{"code":"rate_limit_exceeded","message":"too many requests"}}'

IDEAL_SECONDS = (PROMPTS - BURST) / PER_SECOND + LATENCY_SECONDS


@frozen
class Row:
    """A client, a server, and what the one must reach with the other."""

    name: str
    rate_limit: float | None
    make_answer: Callable[[Tally], Answer]
    most_refused: int
    most_seconds: float


@frozen
class Run:
    """What one run came to."""

    pictures: int
    refused: int
    seconds: float

    def reaches(self, row: Row) -> bool:
        """Whether it is good enough."""
        return self.pictures == PROMPTS and self.refused <= row.most_refused and self.seconds <= row.most_seconds


def main() -> int:
    """Measure, print, and say whether all targets were reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=RUNS, help="how often each row is measured")
    times = options.parse_args().runs
    print(f"{PROMPTS} prompts, {AT_ONCE} at a time; {IDEAL_SECONDS:.1f} s at best; {times} runs each\n")
    print("| limit | refused after | pictures | refused | seconds | goodput | targets |\n|---|---|---|---|---|---|---|")
    is_missed = False
    for row in ROWS:
        runs = [measure(row) for _ in range(times)]
        is_missed |= not all(run.reaches(row) for run in runs)
        figures = (
            ", ".join(str(run.pictures) for run in runs),
            ", ".join(str(run.refused) for run in runs),
            ", ".join(f"{run.seconds:.1f}" for run in runs),
            ", ".join(f"{run.pictures / run.seconds / PER_SECOND:.0%}" for run in runs),
            f"{PROMPTS}, at most {row.most_refused}, at most {row.most_seconds:g}",
        )
        print(f"| {row.name} | {' | '.join(figures)} |", flush=True)
    print("\na target was missed" if is_missed else "\nall targets reached")
    return 1 if is_missed else 0


def measure(row: Row) -> Run:
    """Generate all once, with a client and a server of their own."""
    with serving(row.make_answer) as server:
        started = time.monotonic()
        pictures = anyio.run(generate_all, server.url, row.rate_limit)
        return Run(pictures, server.tally.refused.value, time.monotonic() - started)


async def generate_all(url: str, rate_limit: float | None) -> int:
    """Return how many prompts became pictures."""
    config = Config(base_url=url, rate_limit=rate_limit)
    async with AsyncNebula("sk-emulator", config=config, concurrency=AT_ONCE) as nebula:
        results = await nebula.generate_all([f"cat {number}" for number in range(PROMPTS)], model=MODEL)
    return sum(isinstance(result, Generation) for result in results)


def refuse_at_once(tally: Tally) -> Answer:
    """Refuse without thinking about it."""
    return answer_within_limit(tally, 0.0)


def refuse_late(tally: Tally) -> Answer:
    """Refuse as late as a picture comes."""
    return answer_within_limit(tally, LATENCY_SECONDS)


def answer_within_limit(tally: Tally, refusal_seconds: float) -> Answer:
    """Answer with a picture while there are tokens in the bucket, and refuse without."""
    loop = asyncio.get_running_loop()
    done = reply("200 OK", picture())
    refused = reply("429 Too Many Requests", REFUSAL, "Retry-After: 1")
    tokens, filled_at = float(BURST), loop.time()

    def write(transport: asyncio.Transport, text: bytes) -> None:
        if not transport.is_closing():
            transport.write(text)

    def answer(transport: asyncio.Transport) -> None:
        nonlocal tokens, filled_at
        now = loop.time()
        tokens, filled_at = min(BURST, tokens + (now - filled_at) * PER_SECOND), now
        if tokens >= 1:
            tokens -= 1
            loop.call_later(LATENCY_SECONDS, write, transport, done)
        else:
            tally.refused.value += 1
            loop.call_later(refusal_seconds, write, transport, refused)

    return answer


ROWS = (
    Row("not known | at once", None, refuse_at_once, 20, 24.0),
    Row("not known | 0.2 s", None, refuse_late, 20, 24.0),
    Row("600 a minute | at once", 60 * PER_SECOND, refuse_at_once, 0, 24.0),
)


if __name__ == "__main__":
    sys.exit(main())
