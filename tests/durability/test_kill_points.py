"""A job that is killed at a system call loses nothing, and buys nothing twice without saying so.

Some of the calls here; `make kill-points` takes them all.
"""

from __future__ import annotations

from kill_points import Bench, Outcome, chosen, second_level, table
from system_calls import LINKS, needs_strace

pytestmark = needs_strace

EVERY = 60


def check(outcomes: list[Outcome], *, most_extra: int = 1) -> None:
    """Hold against the outcomes that something does not hold, or that a kill cost more than what was in flight.

    How often a socket is read, and a ledger written to, varies: a run may be over before the call at which it should be
    killed.
    """
    assert 0.5 * len(outcomes) <= sum(outcome.kills > 0 for outcome in outcomes) > 0
    assert [] == [(outcome.points, outcome.problems) for outcome in outcomes if outcome.problems], [*table(outcomes)]
    assert most_extra >= max(outcome.extra for outcome in outcomes)


def test_a_killed_job_recovers(folder):
    """Wherever a run is killed, the next one ends with every picture there once, and one charge too many at most (F53,
    D6).
    """
    with Bench.open(folder) as bench:
        check(bench.map(chosen(bench.points(), EVERY, always=("fsync", *LINKS))))


def test_where_keys_are_replayed_a_kill_costs_nothing(folder):
    """With a server that replays keys, a job that was killed pays for each picture once (F53)."""
    with Bench.open(folder, ("--idempotency", "replay"), replays=True) as bench:
        check(bench.map(chosen(bench.points(), EVERY)), most_extra=0)


def test_pictures_that_are_fetched_are_not_bought_again(folder):
    """Once a reply's URLs are in the ledger a kill costs nothing; both pictures of an item are there in the
    end (F53).
    """
    with Bench.open(folder, ("--two-at-urls",)) as bench:
        check(bench.map(chosen(bench.points(), EVERY)), most_extra=2)


def test_a_killed_recovery_recovers(folder):
    """A recovery may be killed as well: the next one makes good (F55)."""
    with Bench.open(folder) as bench:
        check(bench.map(second_level(bench, 2 * EVERY)))
