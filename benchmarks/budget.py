"""How many pictures are billed for a job of 1,000 prompts, 64 in flight, that may buy 37.

Real sockets, the emulator in another process behind a proxy that breaks exchanges. Where what is lost was billed, or is
known not to have been, it must be 37 to the picture; where nobody knows, never more than 37. The job says that it was
stopped (exit code 3); run once more, it buys nothing. Prints a table and exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import anyio
from attrs import frozen
from broken_service import KEY, KINDS, Trouble, serving_brokenly
from canned import write_prompts
from killed_job import BACKOFF, PER_MINUTE, PICTURE, TIMEOUTS

from nebula_async import AsyncNebula, BulkJob, Config, RetryPolicy
from nebula_async.bulk.budget import Budget

ITEMS, AT_ONCE, MOST_IMAGES = 1_000, 64, 37
STOPPED, RUNS = 3, 2
THROTTLED = ("F21",)
BILLED = tuple(kind.row for kind in KINDS if kind.is_billed and kind.row not in {"F11", "F12"})
"""Replies that are lost after they were billed, silence aside, which takes time."""

SEEDS = range(10)


@frozen
class Row:
    """What a job meets: its name, and whether the bill must be the budget or may stay below it."""

    name: str
    share: float
    kinds: tuple[str, ...]
    is_exact: bool = True


ROWS = (
    Row("nothing goes wrong", 0.0, (), is_exact=True),
    Row("5 % are 429s or lost after they were billed", 0.05, THROTTLED + BILLED, is_exact=True),
    Row("30 % are", 0.3, THROTTLED + BILLED, is_exact=True),
    Row("30 % in all 16 ways, also lost before they were billed", 0.3, (), is_exact=False),
)


@frozen
class Spent:
    """What a job came to: the exit codes of its runs, what was billed, and what it stored."""

    exit_codes: frozenset[int]
    charged: int
    stored: int


def main() -> int:
    """Measure, print, and say whether the targets were reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=len(SEEDS), help="how many jobs a row")
    given = options.parse_args()
    print(f"{ITEMS} prompts, {AT_ONCE} in flight, at most {MOST_IMAGES} pictures; {given.seeds} jobs a row\n")
    print("| what goes wrong | billed | stored | exit | |\n|---|---|---|---|---|")
    are_reached = [show(row, [spend(row, seed) for seed in range(given.seeds)]) for row in ROWS]
    return 0 if all(are_reached) else 1


def show(row: Row, jobs: Sequence[Spent]) -> bool:
    """Print a row, and say whether its target was reached."""
    is_reached = all(is_right(row, spent) for spent in jobs)
    figures = (spread([spent.charged for spent in jobs]), spread([spent.stored for spent in jobs]))
    codes = ", ".join(map(str, sorted(set().union(*(spent.exit_codes for spent in jobs)))))
    print(f"| {row.name} | {' | '.join(figures)} | {codes} | {'' if is_reached else 'missed'} |", flush=True)
    return is_reached


def is_right(row: Row, spent: Spent) -> bool:
    """Whether a job kept to its budget."""
    is_within = spent.charged == MOST_IMAGES if row.is_exact else spent.charged <= MOST_IMAGES
    return is_within and spent.exit_codes == {STOPPED}


def spread(counts: Sequence[int]) -> str:
    """Return one figure, or the lowest and the highest."""
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def spend(row: Row, seed: int) -> Spent:
    """Run a job until it stops, and once more, which may buy nothing."""
    trouble = Trouble(share=row.share, seed=seed, rows=row.kinds)
    with tempfile.TemporaryDirectory(prefix="nebula-budget-") as scratch, serving_brokenly(trouble) as service:
        manifest = write_prompts(Path(scratch) / "job", ITEMS)
        codes, stored = zip(*(anyio.run(run_job, manifest, service.url) for _ in range(RUNS)), strict=True)
        return Spent(frozenset(codes), service.account().charged.total(), stored[-1])


async def run_job(manifest: Path, url: str) -> tuple[int, int]:
    """Run a job; return its exit code and how many pictures it stored."""
    config = Config(base_url=url, rate_limit=PER_MINUTE, timeouts=TIMEOUTS, retry=RetryPolicy(backoff=BACKOFF))
    async with (
        AsyncNebula(KEY, config=config) as nebula,
        BulkJob(
            manifest,
            manifest.with_name("out"),
            nebula,
            defaults=PICTURE,
            concurrency=AT_ONCE,
            budget=Budget(max_images=MOST_IMAGES),
            gallery=False,
        ) as job,
    ):
        report = await job.run()
    return report.exit_code, report.pictures


if __name__ == "__main__":
    sys.exit(main())
