"""A small job on a disk that fails at one call: what became of it, and of the next run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen
from job_invariants import Witness, violations
from small_job import Ended, SmallJob
from system_calls import LINKS, SYNCS, Call, Place, failing, is_request, read_calls

FULL = ("ENOSPC", ("write", "pwrite64", *LINKS, "rename", "mkdir"))
FAILING = ("EIO", SYNCS)

DONE, SOME_FAILED, NOT_STARTED, STOPPED = 0, 1, 2, 3


@frozen
class Failed:
    """A run that met an error at a call, its calls, and the run after it."""

    place: Place
    ended: Ended
    calls: Sequence[Call]
    problems: tuple[str, ...]
    extra: int = 0


def places_to_fail(places: Sequence[Place], calls: Sequence[str]) -> list[Place]:
    """Return the places of these calls at which a run can be told of an error: that of whichever thread comes first."""
    return [place for place in places if place.call in calls and not place.is_main]


def fail(job: SmallJob, place: Place, error: str) -> Failed:
    """Run a job that meets an error, then let it be finished."""
    record = job.folder / "record"
    ended = job.run(strace=failing(place.call, error, str(place.n), record))
    calls = read_calls(record)
    problems = [*_of_its_end(ended), *_of_what_it_believed(calls, place), *_of_what_it_left(job)]
    problems += _of_what_follows(job)
    return Failed(place, ended, calls, tuple(problems), 0 if problems else witness(job).extra)


def witness(job: SmallJob) -> Witness:
    """Return what is there, and what the server saw."""
    return Witness.called(job.out, job.prompts, job.emulator.journal.generations)


def _of_its_end(ended: Ended) -> Iterator[str]:
    """Whatever stops a job is said in words."""
    if ended.has_crashed or ended.code not in (DONE, SOME_FAILED, NOT_STARTED, STOPPED):
        yield f"it crashed with {ended.code}: {ended.said[-500:]}"
    if ended.code in (NOT_STARTED, STOPPED) and not ended.said:
        yield f"it ended with {ended.code} and did not say why"


def _of_what_it_believed(calls: Sequence[Call], place: Place) -> Iterator[str]:
    """A sync that failed is not repeated on that descriptor; after one of the ledger's nothing more is sent.

    SQLite syncs its log once more as it closes, of which nothing that failed is a part.
    """
    failed = next((call for call in calls if call.name == place.call and "INJECTED" in call.outcome), None)
    if failed is None or failed.name not in SYNCS:
        return
    later = [call for call in calls if call.begun > failed.ended]
    is_reopened = any(call.name == "openat" and failed.place in call.paths for call in later)
    is_ledger = "ledger.db" in failed.place
    if not is_ledger and not is_reopened and any(call.name in SYNCS and call.place == failed.place for call in later):
        yield f"{failed.place} was synced again after its sync had failed"
    if is_ledger and any(map(is_request, later)):
        yield "a request was sent after the ledger had failed"


def _of_what_it_left(job: SmallJob) -> list[str]:
    return violations(witness(job), is_over=False) if job.emulator.journal.generations else []


def _of_what_follows(job: SmallJob) -> list[str]:
    """Return what does not hold after the job was finished: by itself, or told to buy anew what may be lost."""
    again = job.run()
    if again.code == SOME_FAILED:
        again = job.run("--resend-unknown", "--retry-failed")
    if again.code != DONE:
        return [f"the next run ended with {again.code}: {again.said[-500:]}"]
    return violations(witness(job))
