"""What a job of 10,000 pictures loses, doubles and buys twice that is killed 20 times while one reply in 20 is lost.

The job runs in a process of its own and is killed (SIGKILL) at moments drawn from a seed: most while it works, one in
five while it starts and recovers. The service is the emulator behind a proxy that breaks exchanges in 16 ways, both in
another process; its word on what was billed is held against the ledger's, item by item. After the last kill the job
runs to its end; what it then says of every item is checked; once more with `resend_unknown`, at a service that works
again, and everything must be there. Then the same with a service that replays keys, where nothing may be billed twice.
Prints its figures and exits 1 when one misses.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from attrs import frozen
from broken_service import KINDS, SEED, SHARE, Account, Trouble, serving_brokenly
from job_facts import JobFacts, read_job
from killed_job import AT_ONCE, KILLED, KilledJob, Mode, Moment, name_of

ITEMS, KILLS = 10_000, 20
EARLY_EVERY, EARLY_SECONDS = 5, 1.5
"""One of so many kills comes within so many seconds of a start."""

SOON_SECONDS = 0.05
DUPLICATE_SHARE = 0.01
"""How much of a job may be bought again unasked."""


@frozen
class Stage:
    """How a job stands when a run of it has ended: its exit code, the service's word, and the folder's."""

    exit_code: int
    account: Account
    facts: JobFacts


@frozen
class Ordeal:
    """What one job went through: so many kills, in so many runs and seconds; how it stood before and after the last."""

    items: int
    kills: int
    runs: int
    seconds: float
    before: Stage
    after: Stage

    @property
    def keys(self) -> list[str]:
        """All items."""
        return [name_of(number) for number in range(self.items)]

    @property
    def extra(self) -> int:
        """How many pictures were billed beyond one for each item."""
        return self.after.account.charged.total() - self.items

    @property
    def most_extra(self) -> int:
        """How many may be: one for each request in flight at a kill, and for each reply lost that was billed."""
        return AT_ONCE * self.kills + self.after.account.billed_faults


def main() -> int:
    """Measure, print, and say whether all figures are reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=ITEMS)
    options.add_argument("--kills", type=int, default=KILLS)
    options.add_argument("--seed", type=int, default=SEED)
    options.add_argument("--keep", type=Path, help="a new folder, where the jobs are left")
    given = options.parse_args()
    print(
        f"{given.items} items, {SHARE:.0%} of exchanges broken in {len(KINDS)} ways; {AT_ONCE} in flight; fsyncs on\n"
    )
    modes: tuple[Mode, ...] = ("off", "replay")
    with tempfile.TemporaryDirectory(prefix="nebula-kills-") as scratch:
        missed = [
            f"{mode}: {problem}"
            for mode in modes
            for problem in show(mode, survive((given.keep or Path(scratch)) / mode, mode, given), given.kills)
        ]
    print("\n".join(f"missed: {problem}" for problem in missed) or "all targets reached")
    return 1 if missed else 0


def survive(folder: Path, mode: Mode, given: argparse.Namespace) -> Ordeal:
    """Kill a job again and again, and let it end."""
    with serving_brokenly(Trouble(), replays=mode == "replay") as service:
        job, started = KilledJob(folder, given.items, mode, service), time.perf_counter()
        codes = [job.run_until(moment) for moment in moments(given)]
        before = after = Stage(job.run(), service.account(), read_job(job.out))
        if before.exit_code:
            service.heal()
            after = Stage(job.run(again=True), service.account(), read_job(job.out))
        runs = len(codes) + (2 if before.exit_code else 1)
    return Ordeal(given.items, codes.count(KILLED), runs, time.perf_counter() - started, before, after)


def moments(given: argparse.Namespace) -> Iterator[Moment]:
    """Draw the moments of all kills; one without a count of requests is that long after the start of a run."""
    source = Random(given.seed)  # noqa: S311 - the same moments in every run
    is_early = [number % EARLY_EVERY == EARLY_EVERY - 1 for number in range(given.kills)]
    counts = iter(sorted(source.sample(range(1, given.items), is_early.count(False))))
    for early in is_early:
        yield (
            Moment(0, source.uniform(0, EARLY_SECONDS))
            if early
            else Moment(next(counts), source.uniform(0, SOON_SECONDS))
        )


def show(mode: Mode, ordeal: Ordeal, kills: int) -> list[str]:
    """Print what became of a job, and return what missed."""
    before, after = ordeal.before, ordeal.after
    print(f"idempotency {mode}: {ordeal.kills} kills, {ordeal.runs} runs, {ordeal.seconds:.0f} s")
    broken = ", ".join(f"{row} {count}" for row, count in sorted(after.account.broken.items()))
    print(f"  broken: {after.account.broken.total()} ({broken}), of these billed {after.account.billed_faults}")
    for name, stage in {"ran to its end": before, "unknown outcomes sent again": after}.items():
        states = ", ".join(f"{state} {count}" for state, count in sorted(stage.facts.states.items()))
        print(f"  {name}: exit {stage.exit_code}; {states}; billed {stage.account.charged.total()}")
    told = after.facts.at_most - ordeal.items
    print(f"  extra: {ordeal.extra} (bound {ordeal.most_extra}), by the ledger at most {told}")
    print(f"  bought again unasked: {after.facts.duplicates}; files: {after.facts.files}\n", flush=True)
    found = {**problems_at(ordeal, before), **problems_at_end(ordeal, mode)}
    short = [f"only {ordeal.kills} kills"] if ordeal.kills < kills else []
    return [f"{name}: {len(wrong)}, such as {wrong[:3]}" for name, wrong in found.items() if wrong] + short


def problems_at(ordeal: Ordeal, stage: Stage) -> dict[str, list[str]]:
    """Return what is wrong with a job that still has unfinished items."""
    facts, charged = stage.facts, stage.account.charged
    return {
        "not accounted for": facts.lost(ordeal.keys),
        "wrongly judged": facts.misjudged(charged),
        "billed twice and not listed": facts.unlisted_extras(charged),
        "files that are not the ledger's": facts.damaged(),
    }


def problems_at_end(ordeal: Ordeal, mode: Mode) -> dict[str, list[str]]:
    """Return what is wrong with a job that is over."""
    facts = ordeal.after.facts
    bound = 0 if mode == "replay" else ordeal.most_extra
    at_end = {f"at the end {name}": wrong for name, wrong in problems_at(ordeal, ordeal.after).items()}
    return at_end | {
        "not done at the end": [key for key in ordeal.keys if not facts.is_done(key)],
        "exit code at the end": [str(ordeal.after.exit_code)] if ordeal.after.exit_code else [],
        "files above one for each item": ["1"] * (facts.files - ordeal.items),
        "left in the spool": facts.leftovers(),
        "extra charges beyond the bound": ["1"] * (ordeal.extra - bound),
        "bought again unasked": ["1"] * (facts.duplicates - max(1, int(DUPLICATE_SHARE * ordeal.items))),
    }


if __name__ == "__main__":
    sys.exit(main())
