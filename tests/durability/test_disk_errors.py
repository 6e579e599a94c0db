"""A disk that fails or is full stops a job before more is bought; what was paid for is kept, or said to be lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from job_invariants import violations
from kill_points import Bench, witness_of
from small_job import Ended, SmallJob
from system_calls import LINKS, SYNCS, Call, Place, failing, needs_strace, read_calls

pytestmark = needs_strace

STOPPED = 3
NOT_STARTED = 2


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[Bench]:
    """Emulators for small jobs."""
    with Bench.open(tmp_path_factory.mktemp("disk")) as bench:
        yield bench


@pytest.fixture(scope="module")
def places(bench) -> list[Place]:
    """The calls of a run that nothing happens to."""
    return bench.points()


def meet(bench: Bench, places: list[Place], error: str) -> Iterator[tuple[Place, SmallJob, Ended, tuple[Call, ...]]]:
    """Run a job for each of the calls, which fails, and yield how it ended and what it did."""
    for place in places:
        with bench.job() as job:
            record = job.folder / "record"
            ended = job.run(strace=failing(place.call, error, str(place.n), record))
            yield place, job, ended, read_calls(record)


def check(place: Place, job: SmallJob, ended: Ended) -> None:
    """A failure is told in words, hides nothing, and after it the job can be finished."""
    assert not ended.has_crashed, (place, ended.said)
    assert ended.code in (0, 1, NOT_STARTED, STOPPED), (place, ended)
    assert ended.code == 0 or ended.said, place
    if job.emulator.journal.charged:
        assert [] == violations(witness_of(job), is_over=False), place
    again = job.run()
    again = again if again.code == 0 else job.run("--resend-unknown", "--retry-failed")
    assert (0, []) == (again.code, violations(witness_of(job))), (place, ended, again)
    assert witness_of(job).extra <= 1, place


def picked(places: list[Place], *calls: str, every: int) -> list[Place]:
    """Return every n-th of some calls."""
    return [place for place in places if place.call in calls and not place.is_main][::every]


def test_a_disk_that_is_full_stops_the_job(bench, places):
    """No room at a write or a link: the job stops or waits, loses nothing unsaid, and goes on once there is room."""
    for place, job, ended, _ in meet(bench, picked(places, "write", "pwrite64", *LINKS, every=9), "ENOSPC"):
        check(place, job, ended)


def test_a_disk_that_fails_stops_the_job(bench, places):
    """After a sync that failed nothing is believed of that file: it is not synced again, and nothing more is bought."""
    for place, job, ended, calls in meet(bench, picked(places, *SYNCS, every=5), "EIO"):
        failed = next(call for call in calls if call.name == place.call and call.result < 0 and "EIO" in call.outcome)
        assert not is_synced_again(failed, calls), (place, failed.place)
        check(place, job, ended)


def is_synced_again(failed: Call, calls: tuple[Call, ...]) -> bool:
    """Whether a descriptor is synced after its sync had failed, and nothing was opened in between under its number.

    Not of the ledger's own: SQLite syncs its log once more as it closes, of which nothing that failed is a part.
    """
    later = [call for call in calls if call.begun > failed.ended]
    reopened = any(call.name == "openat" and failed.place in call.paths for call in later)
    synced = any(call.name in SYNCS and call.place == failed.place for call in later)
    return synced and not reopened and "ledger.db" not in failed.place
