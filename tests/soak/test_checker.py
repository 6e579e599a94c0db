"""The checker of a soak is not blind: each thing that must not be is found in a job that is well but for it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve, frozen
from checker import Checker, Seen
from nemesis import Nemesis, Round, Workload
from ordeal import Ordeal
from processes import HUNG, Job
from small_job import Ended
from world import world_of

from nebula_async.emulator import RequestRecord

CALM = Round(1, "calm")
WELL = Ended(0, "")
ENDED_WELL = Seen(CALM, WELL, frozenset())


@frozen
class Finished:
    """A job that is done: its disk, what it was to do, and what the service wrote down."""

    disk: Path
    workload: Workload
    records: tuple[RequestRecord, ...]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Iterator[Finished]:
    """A job that is done, and of which nothing can be said."""
    nemesis = Nemesis(4, 12)
    with world_of(nemesis) as world:
        workload = nemesis.workload()
        ordeal = Ordeal(Job.begun(world, workload), Checker(world, workload), lambda _: None)
        ordeal.end(nemesis)
        assert [] == ordeal.checker.problems
        disk = tmp_path_factory.mktemp("finished")
        shutil.copytree(world.disk, disk, dirs_exist_ok=True)
        yield Finished(disk, workload, world.records)


@pytest.fixture
def copy(finished, tmp_path) -> Finished:
    """A copy of it, to be spoilt."""
    shutil.copytree(finished.disk, tmp_path / "disk")
    return evolve(finished, disk=tmp_path / "disk")


def found(job: Finished, seen: Seen = ENDED_WELL) -> list[str]:
    """Return what the checker says of a job whose last run ended so."""
    checker = Checker(job, job.workload)
    checker.look(seen)
    checker.look_at_end(CALM)
    return checker.problems


def ledger(statement: str, *values: object) -> Callable[[Finished], None]:
    """Spoil a ledger."""

    def spoil(job: Finished) -> None:
        with closing(sqlite3.connect(job.disk / "out" / ".nebula" / "ledger.db")) as connection, connection:
            connection.execute(statement, values)

    return spoil


def pictures(job: Finished) -> list[Path]:
    """Return the pictures of a job."""
    return sorted(path for path in job.disk.glob("out/images/*/*") if path.is_file())


def swap(job: Finished) -> None:
    """Let two items have each other's picture, and the ledger believe it."""
    first, second = pictures(job)[:2]
    one, other = first.read_bytes(), second.read_bytes()
    for path, data in ((first, other), (second, one)):
        path.write_bytes(data)
        place = path.relative_to(job.disk / "out").as_posix()
        told = (hashlib.sha256(data).hexdigest(), len(data), place)
        ledger("UPDATE output SET sha256 = ?, bytes = ? WHERE path = ?", *told)(job)


def report(**told: object) -> Callable[[Finished], None]:
    """Let the report say something else."""

    def spoil(job: Finished) -> None:
        path = job.disk / "out" / "report.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | told))

    return spoil


SPOILT = {
    "a picture is gone": (lambda job: pictures(job)[0].unlink(), "gone or empty"),
    "a picture is cut": (lambda job: pictures(job)[0].write_bytes(pictures(job)[0].read_bytes()[:-9]), "other bytes"),
    "a picture is another's": (swap, "is not the picture of"),
    "a picture more": (
        lambda job: shutil.copy(pictures(job)[0], pictures(job)[0].with_name("more.png")),
        "nobody owns",
    ),
    "the ledger says too little": (ledger("UPDATE item SET at_least = 0, at_most = 0 WHERE seq = 1"), "I4"),
    "the ledger says too much": (ledger("UPDATE item SET at_least = 9, at_most = 9 WHERE seq = 1"), "I4"),
    "an item is still under way": (ledger("UPDATE item SET state = 'sent' WHERE seq = 2"), "I1"),
    "bought again, unasked and too often": (ledger("UPDATE item SET duplicates = 3"), "bought again unasked"),
    "the report counts others": (report(done=1), "report.json says done 1"),
    "the report counts charges that were not": (report(charges_at_most=99), "report.json says charges_at_most 99"),
    "a part is left": (lambda job: (job.disk / "out" / ".nebula" / "spool" / "1.1.0.part").write_text("x"), "I7"),
}


def test_a_job_as_it_should_be(copy):
    """A job of which all is true is not complained about."""
    assert [] == found(copy)


@pytest.mark.parametrize("case", SPOILT)
def test_what_must_not_be_is_found(copy, case):
    """A file, a row of the ledger or a number of the report that is not true is told of."""
    spoil, problem = SPOILT[case]
    spoil(copy)
    assert problem in "\n".join(found(copy))


def test_charges_that_nobody_tells_of_are_found(copy):
    """A charge that the ledger does not know is told of, and so is one that it only believes in."""
    first = next(record for record in copy.records if record.images_charged)
    told = found(evolve(copy, records=(*copy.records, *5 * (first,))))
    assert "I4" in "\n".join(told)
    assert "I5" in "\n".join(told)
    dropped = found(evolve(copy, records=tuple(record for record in copy.records if record is not first)))
    assert "I4" in "\n".join(dropped)
    assert "none was billed for it" in "\n".join(dropped)


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (Seen(CALM, Ended(1, ""), frozenset()), "the items are"),
        (Seen(CALM, Ended(3, "stopped"), frozenset()), "which nothing that was done to it explains"),
        (Seen(Round(1, "plain"), Ended(130, ""), frozenset()), "which nothing that was done to it explains"),
        (Seen(Round(1, "plain"), Ended(2, "no"), frozenset()), "which nothing that was done to it explains"),
        (Seen(Round(1, "plain"), Ended(3, ""), frozenset()), "did not say why"),
        (Seen(Round(1, "plain"), Ended(1, "Traceback (most recent call last)"), frozenset()), "it crashed"),
        (Seen(Round(1, "plain"), Ended(-9, HUNG), frozenset()), HUNG),
        (Seen(CALM, WELL, frozenset(), (123,)), "it left processes"),
        (
            Seen(Round(1, "plain", options=("--max-images", "1")), WELL, frozenset()),
            "the budget of 1 pictures was passed",
        ),
    ],
)
def test_an_end_that_must_not_be_is_found(copy, seen, problem):
    """An exit code that is not what happened, a crash, silence, a hang, and processes that are left are told of."""
    assert problem in "\n".join(found(copy, seen))


def test_a_picture_that_is_replaced_is_found(copy):
    """A file that was published must stay what it is, whatever the ledger says later."""
    checker = Checker(copy, copy.workload)
    checker.look(ENDED_WELL)
    swap(copy)
    checker.look(ENDED_WELL)
    assert "was published, and is other bytes or gone" in "\n".join(checker.problems)


@pytest.mark.parametrize("code", [0, 1, 3, 130])
def test_a_second_process_that_is_let_in_is_found(copy, code):
    """While one process has a job, any other end of a second one than a refusal is told of."""
    checker = Checker(copy, copy.workload)
    checker.look_at_rival(Ended(code, ""), is_first_there=True)
    assert 1 == len(checker.problems)
