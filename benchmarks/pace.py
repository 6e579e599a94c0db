"""How fully the rate controller uses a limit and how often it is refused, in simulated time, beside two rivals.

Four processes share one gate, and always want more. Servers count in buckets, fixed and sliding windows, with and
without `Retry-After`; after 300 s the limit is halved and after 600 s restored, and nobody says so. Prints goodput (of
the limit) and refusals (of what is sent) in percent, from the worst to the best of all seeds, and exits 1 when a target
is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeAlias

from attrs import frozen
from pace_cases import (
    AWS,
    BURST_REQUESTS,
    FOUND,
    HALVED,
    KNOWN,
    LEARNT,
    PHASES,
    RESTORED,
    SERVERS,
    SIMPLE,
    STEADY,
    Burst,
    BurstFigure,
    Case,
    Figure,
    measure,
    measure_burst,
)

Figures: TypeAlias = dict[Case, dict[str, Figure]]

RATES, QUICK_RATES, RIVAL_RATES = (60, 300, 600, 1_500, 3_000), (300, 3_000), (300, 3_000)
LOWEST_FOUND = 300
"""A limit that is not known is found from here on: below, a refusal is more than a hundredth of what a minute takes."""

RIVAL_SERVERS = ("bucket of 10", "bucket of 10 s", "fixed window", "sliding window")
DELAYS = (None, "whole")
BUCKETS = tuple(name for name in SERVERS if name.startswith("bucket"))


@frozen
class Target:
    """What is wanted of the worst run: goodput, refusals, and the goodput of the worst stretch. Some are only shown."""

    name: str
    part: str
    client: str
    servers: tuple[str, ...]
    goodput: float
    refusals: float
    lowest: float = 0.0
    is_late: bool = False
    is_wanted: bool = True

    def covers(self, case: Case) -> bool:
        """Whether a case is measured by it."""
        if (self.client, self.is_late) != (case.client, case.is_late) or case.server not in self.servers:
            return False
        return case.per_minute >= LOWEST_FOUND or self.part == STEADY


TARGETS = (
    Target("1. limit known", STEADY, KNOWN, tuple(SERVERS), 0.97, 0.001),
    Target("1. the same, timers 0.2 to 1 ms late", STEADY, KNOWN, tuple(SERVERS)[1:], 0.97, 0.001, is_late=True),
    Target("   the same, bucket of 1", STEADY, KNOWN, BUCKETS[:1], 0.97, 0.001, is_late=True, is_wanted=False),
    Target("2. limit not known, buckets", LEARNT, FOUND, BUCKETS[1:], 0.95, 0.012),
    Target("2. limit not known, fixed windows", LEARNT, FOUND, tuple(PHASES), 0.88, 0.02),
    Target("   limit not known, bucket of 1", LEARNT, FOUND, BUCKETS[:1], 0.95, 0.012, is_wanted=False),
    Target("   limit not known, sliding window", LEARNT, FOUND, ("sliding window",), 0.88, 0.02, is_wanted=False),
    Target("3. halved, buckets and fixed windows", HALVED, KNOWN, (*BUCKETS, *PHASES), 0.92, 0.03, 0.8),
    Target("   halved, sliding window", HALVED, KNOWN, ("sliding window",), 0.92, 0.03, is_wanted=False),
    Target("5. restored", RESTORED, KNOWN, tuple(SERVERS), 0.85, 0.001, is_wanted=False),
)

MOST_REFUSED, MOST_SECONDS = 20, 24.0
WANTED_BURST = (1.0, (0.005, 0.02))


def main() -> int:
    """Measure, print, and say whether all targets were reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="two rates and one seed, without rivals")
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one run each")
    asked = options.parse_args()
    seeds, rates = (asked.seeds[:1], QUICK_RATES) if asked.quick else (asked.seeds, RATES)
    cases = [*our_cases(seeds, rates), *([] if asked.quick else rival_cases(seeds[:1]))]
    bursts = list(all_bursts(range(3 if asked.quick else 20)))
    began = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        figures: Figures = dict(zip(cases, pool.map(measure, cases, chunksize=4), strict=True))
        burst_figures = dict(zip(bursts, pool.map(measure_burst, bursts, chunksize=20), strict=True))
    for part, client in ((STEADY, KNOWN), (HALVED, KNOWN), (RESTORED, KNOWN), (LEARNT, FOUND)):
        print_part(figures, part, client)
    if not asked.quick:
        print_rivals(figures)
    reached = [print_bursts(burst_figures), print_targets(figures)]
    print(f"\n{len(cases)} runs of 16 minutes, seeds {seeds}, in {time.monotonic() - began:.0f} s")
    return 0 if all(reached) else 1


def our_cases(seeds: Iterable[int], rates: Sequence[int]) -> Iterator[Case]:
    """Return every server at every rate, with and without its delay named; and late timers where they cost most."""
    for seed in seeds:
        for server in SERVERS:
            yield Case(KNOWN, server, rates[-1], None, seed, is_late=True)
            for delay in DELAYS:
                yield from (Case(KNOWN, server, rate, delay, seed) for rate in rates)
                yield from (Case(FOUND, server, rate, delay, seed) for rate in rates if rate >= LOWEST_FOUND)


def rival_cases(seeds: Iterable[int]) -> Iterator[Case]:
    """Return what the rivals are shown with."""
    for seed in seeds:
        for server in RIVAL_SERVERS:
            for rate in RIVAL_RATES:
                yield from (Case(client, server, rate, delay, seed) for client in (SIMPLE, AWS) for delay in DELAYS)


def all_bursts(seeds: Iterable[int]) -> Iterator[Burst]:
    """Return every way of refusing, with every seed."""
    for delay in (1.0, "whole", "true", None):
        for latency in ((0.005, 0.02), (0.02, 0.2), (0.2, 0.2)):
            yield from (Burst(delay, latency, seed) for seed in seeds)


def print_part(figures: Figures, part: str, client: str) -> None:
    """Print what a part came to for every server and rate: goodput, and the most refusals."""
    rates = sorted({case.per_minute for case in figures if case.client == client})
    print(f"\n{client}, {part}: goodput / refusals, %\n")
    print_row("server", "Retry-After", *(f"{rate:,} a minute" for rate in rates))
    print_row(*["---"] * (2 + len(rates)))
    for server in SERVERS:
        for delay in DELAYS:
            cells = (cell(find(figures, client, server, rate, delay), part) for rate in rates)
            print_row(server, delay or "none", *cells)


def print_rivals(figures: Figures) -> None:
    """Print all clients beside each other: after 100 s, and halved."""
    print("\nbeside rivals, after 100 s; halved: goodput / refusals, %\n")
    clients = (KNOWN, FOUND, SIMPLE, AWS)
    print_row("server", "a minute", "Retry-After", "ours, " + KNOWN, "ours, " + FOUND, SIMPLE, AWS)
    print_row(*["---"] * 7)
    for server in RIVAL_SERVERS:
        for rate in RIVAL_RATES:
            for delay in DELAYS:
                runs = [find(figures, client, server, rate, delay)[:1] for client in clients]
                print_row(
                    server, f"{rate:,}", delay or "none", *(f"{cell(run, LEARNT)}; {cell(run, HALVED)}" for run in runs)
                )


def print_bursts(figures: dict[Burst, BurstFigure]) -> bool:
    """Print the worst of each kind of burst; return whether the one that is wanted is good enough."""
    print("\n4. 200 requests, 64 at a time, ten a second, limit not known: the worst\n")
    print_row("Retry-After", "refused after s", "accepted", "refused", "seconds (ideal 19.2)")
    print_row(*["---"] * 5)
    is_reached = True
    for kind in dict.fromkeys((burst.retry_after, burst.refusal_seconds) for burst in figures):
        found = [figures[burst] for burst in figures if (burst.retry_after, burst.refusal_seconds) == kind]
        accepted, refused = min(each.accepted for each in found), max(each.refused for each in found)
        seconds = max(each.seconds for each in found)
        if kind == WANTED_BURST:
            is_reached = accepted == BURST_REQUESTS and refused <= MOST_REFUSED and seconds <= MOST_SECONDS
        print_row(kind[0] or "none", "{} to {}".format(*kind[1]), accepted, refused, f"{seconds:.1f}")
    print(f"\nfirst row at most {MOST_REFUSED} refused and {MOST_SECONDS:g} s: {'yes' if is_reached else 'MISSED'}")
    return is_reached


def print_targets(figures: Figures) -> bool:
    """Print the worst figures beside their targets; return whether all that are wanted were reached."""
    print("\nthe worst of all, %\n")
    print_row("", "goodput", "at least", "refusals", "at most", "worst stretch", "at least", "reached")
    print_row(*["---"] * 8)
    is_reached = True
    for target in TARGETS:
        found = [figures[case][target.part] for case in figures if target.covers(case)]
        goodput, refusals = min(each.goodput for each in found), max(each.refusals for each in found)
        lowest = min(each.lowest for each in found)
        is_good = goodput >= target.goodput and refusals <= target.refusals and lowest >= target.lowest
        is_reached &= is_good or not target.is_wanted
        shares = (goodput, target.goodput, refusals, target.refusals, lowest, target.lowest)
        verdict = ("yes" if is_good else "MISSED") if target.is_wanted else "shown"
        print_row(target.name, *(f"{100 * share:.4g}" for share in shares), verdict)
    return is_reached


def find(figures: Figures, client: str, server: str, per_minute: int, delay: str | None) -> list[dict[str, Figure]]:
    """Return what all seeds of a case came to, with punctual timers."""
    wanted = (client, server, per_minute, delay, False)
    return [
        parts
        for case, parts in figures.items()
        if (case.client, case.server, case.per_minute, case.retry_after, case.is_late) == wanted
    ]


def cell(runs: list[dict[str, Figure]], part: str) -> str:
    """Return the goodput of the worst and the best seed, and the most refusals."""
    goodput = sorted(100 * parts[part].goodput for parts in runs)
    spread = dict.fromkeys(f"{share:.1f}" for share in (goodput[0], goodput[-1]))
    return f"{' to '.join(spread)} / {100 * max(parts[part].refusals for parts in runs):.2g}"


def print_row(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(str(each) for each in cells) + " |")


if __name__ == "__main__":
    sys.exit(main())
