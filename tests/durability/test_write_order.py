"""What has to survive a power cut is on the disk before what depends on it: the system calls of a run show it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from job_invariants import Witness, violations
from small_job import SmallJob, quick_folder
from system_calls import SYNCS, needs_strace, read_calls, recording
from write_order import Record, demands, unmet

from nebula_async.emulator import Emulator

pytestmark = needs_strace

DEMANDS = (
    "before its request leaves",
    "before it is published",
    "after it is published, before the ledger tells",
    "before its part is removed",
    "before the ledger tells of a picture in it",
    "before the first request",
)


def record(folder: Path, *options: str, items: int = 4) -> Record:
    """Run a job under strace and return its record."""
    with Emulator(credit="1000") as emulator:
        job = SmallJob.begun(folder / "job", emulator, items=items, options=options)
        ended = job.run(strace=recording(folder / "record"))
        assert (0, "") == (ended.code, ended.said)
        witness = Witness.called(job.out, job.prompts, emulator.journal.generations)
    assert [] == violations(witness)
    pictures = {key: job.out / item.stored[0]["path"] for key, item in witness.kept.items.items()}
    return Record(read_calls(folder / "record"), job.out, job.prompts, pictures)


@pytest.fixture(scope="module")
def one_by_one() -> Iterator[Record]:
    """What a run with one request in flight did."""
    with quick_folder() as folder:
        yield record(Path(folder))


def test_everything_is_on_the_disk_in_time(one_by_one):
    """Note, picture, name and ledger are synced in this order, for each item and each new folder."""
    assert [] == unmet(one_by_one)
    assert {*DEMANDS} == {demand.why for demand in demands(one_by_one)}


def test_everything_is_on_the_disk_in_time_with_many_in_flight(folder):
    """The same holds where several items share a commit."""
    assert [] == unmet(record(folder, "--concurrency", "4", items=8))


@pytest.mark.parametrize("why", DEMANDS)
def test_a_sync_that_is_missing_is_found(one_by_one, why):
    """Without any one sync that the order demands, the check fails: it is not blind."""
    wanted = [demand for demand in demands(one_by_one) if demand.why == why]
    assert wanted
    for demand in wanted:
        witnesses = demand.witnesses(one_by_one.calls)
        without = [call for call in one_by_one.calls if call not in witnesses]
        assert str(demand) in unmet(evolve(one_by_one, calls=without))


def test_of_syncs_that_stand_alone_none_can_be_missing(one_by_one):
    """Each line that is the only one to satisfy a demand is missed when it alone is taken out."""
    alone = {call for demand in demands(one_by_one) if len(demand.witnesses(one_by_one.calls)) == 1
             for call in demand.witnesses(one_by_one.calls)}  # fmt: skip
    assert 4 * len(one_by_one.pictures) <= len(alone)
    for line in alone:
        assert unmet(evolve(one_by_one, calls=[call for call in one_by_one.calls if call is not line]))


def test_without_power_cuts_in_mind_nothing_is_synced(folder):
    """With durability "process" a run waits for no disk at all."""
    calls = record(folder, "--durability", "process").calls
    assert [] == [call.place for call in calls if call.name in SYNCS]
