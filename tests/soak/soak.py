"""Seeds of a nemesis one after the other, and a process that has to live through them: `make nemesis`, `make soak`.

`python soak.py --seeds 50` carries out fifty seeds, a row for each; `python soak.py --minutes 10` as many as fit,
beside one process that works all the time, and whose memory and descriptors must stay flat. Ends with 1 where anything
does not hold. `--seed 7 --tell` shows one seed, round by round: so is a seed replayed that failed.
"""

from __future__ import annotations

import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import count

import parts  # noqa: F401 - who imports it finds those of other suites
from flatness import FEWEST_SAMPLES, growth, risen
from long_life import LongLife, living_long
from nemesis import MOST_ITEMS, Nemesis
from ordeal import Outcome, suffer

SHOWN_PROBLEMS, SHOWN_SAMPLES = 20, 12

HEADING = "  seed | time | items | stored | billed, and the ledger's bounds | beyond one for each | states | exit codes"


def main(arguments: Sequence[str]) -> int:
    """Carry out what is asked for; return the exit code."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, help="so many seeds")
    parser.add_argument("--minutes", type=float, help="or as many as fit, beside a process that lives as long")
    parser.add_argument("--items", type=int, default=MOST_ITEMS, help="pictures of a job, at most")
    parser.add_argument("--tell", action="store_true", help="say what is done, and how each run ended")
    parser.add_argument("--plan", action="store_true", help="say what would be done, and do nothing")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing of a seed is left then either
    if asked.plan:
        say("\n\n".join(str(Nemesis(seed, asked.items)) for seed in seeds(asked)))
        return 0
    with living_long(asked.seed) if asked.minutes else nullcontext() as life:
        outcomes = [*carried_out(asked)]
        problems = [] if life is None else life.end()
    problems += show_summary(outcomes)
    problems += [] if life is None else show_life(life)
    say("\n".join(f"missed: {problem}" for problem in problems) or "all targets reached")
    return 1 if problems else 0


def seeds(asked: Namespace) -> Iterator[int]:
    """Yield the seeds that are asked for."""
    if asked.seeds is not None or asked.minutes is None:
        yield from range(asked.seed, asked.seed + (asked.seeds or 1))
        return
    until = time.monotonic() + 60 * asked.minutes
    for seed in count(asked.seed):
        if time.monotonic() >= until:
            return
        yield seed


def carried_out(asked: Namespace) -> Iterator[Outcome]:
    """Carry out the seeds, and print a row for each."""
    say(HEADING)
    for seed in seeds(asked):
        outcome = suffer(Nemesis(seed, asked.items), told(is_told=asked.tell))
        say(str(outcome))
        for problem in outcome.problems[:SHOWN_PROBLEMS]:
            say(f"       missed: {problem}")
        if outcome.problems:
            say(f"       to replay: {outcome.replay}")
        yield outcome


def say(text: str) -> None:
    """Tell a line now."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def told(*, is_told: bool) -> Callable[[str], None]:
    """Return who is told what is done."""
    return say if is_told else lambda _: None


def show_summary(outcomes: Sequence[Outcome]) -> list[str]:
    """Print what all seeds came to, and return which of them did not hold."""
    books = [outcome.books for outcome in outcomes]
    total = {name: sum(getattr(each, name) for each in books) for name in ("items", "stored", "billed", "extra")}
    failed = [outcome.seed for outcome in outcomes if outcome.problems]
    told = ", ".join(f"{name} {number}" for name, number in total.items())
    say(f"\n{len(outcomes)} seeds, {sum(len(outcome.codes) for outcome in outcomes)} runs: {told}")
    for reason in sorted({reason for outcome in outcomes for reason in outcome.skipped}):
        say(f"skipped: {reason}")
    return [f"seed {seed} did not hold" for seed in failed]


def show_life(life: LongLife) -> list[str]:
    """Print what the long-lived process took, and return what was not flat."""
    samples = life.samples
    for number in sorted({round(part * (len(samples) - 1) / SHOWN_SAMPLES) for part in range(SHOWN_SAMPLES + 1)}):
        say(f"round {number + 1:>5} | {samples[number]}")
    for name, rise, bound in growth(samples):
        say(f"{name}: last third above first {rise:+.1f} (bound {bound:g})")
    few = len(samples) < FEWEST_SAMPLES
    return [f"only {len(samples)} rounds: nothing can be said of its memory"] if few else risen(samples)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
