"""What a run that was killed left behind is believed as far as it can be checked, and nothing of it is overwritten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from disk_errors import witness
from job_invariants import violations
from small_job import SmallJob
from system_calls import Place, killing, needs_strace

pytestmark = needs_strace

FIRST = "000000000-cat-0"


@pytest.fixture
def unpublished(begin) -> SmallJob:
    """A job that was killed with its first picture in the spool, whole, and not published."""
    job = begin()
    assert job.run(strace=killing(Place("linkat", 1))).was_killed
    assert 1 == job.emulator.journal.charged
    return job


def part(job: SmallJob) -> Path:
    """Return the part of the picture in the spool."""
    (found,) = (job.out / ".nebula" / "spool").glob("*.part")
    return found


def target(job: SmallJob, name: str = FIRST) -> Path:
    """Return where a picture is published."""
    return job.out / "images" / "00000" / f"{name}.png"


def published(job: SmallJob) -> list[str]:
    """Return what the ledger says of the first picture's place."""
    return [Path(output["path"]).name for output in witness(job).kept.items["cat-0"].stored]


def test_a_picture_that_was_received_is_published_by_the_next_run(unpublished):
    """What was paid for before a kill is not asked for again."""
    assert 0 == unpublished.run().code
    assert [] == violations(witness(unpublished))
    assert 0 == witness(unpublished).extra


SPOILING = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "changed": lambda path: path.write_bytes(path.read_bytes().replace(b"IDAT", b"IDAS")),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", SPOILING)
def test_a_part_that_is_not_as_it_came_is_not_published(unpublished, how):
    """A picture whose bytes were lost is one that was paid for and lost: it is said, and asked for once more (D5)."""
    SPOILING[how](part(unpublished))
    assert 0 == unpublished.run().code
    assert [] == violations(witness(unpublished))
    assert 1 == witness(unpublished).extra
    assert 1 <= witness(unpublished).kept.items["cat-0"].at_least


def test_a_picture_that_is_there_already_is_adopted(unpublished):
    """Where the same bytes lie in its place, that is the picture (D6, D7)."""
    target(unpublished).parent.mkdir(exist_ok=True)
    shutil.copy(part(unpublished), target(unpublished))
    assert 0 == unpublished.run().code
    assert [] == violations(witness(unpublished))
    assert [f"{FIRST}.png"] == published(unpublished)


def take_by_file(place: Path) -> None:
    """Put somebody's file there."""
    place.write_bytes(b"somebody's")


def take_by_link(place: Path) -> None:
    """Put a link to somebody's file there."""
    (place.parents[3] / "elsewhere").write_bytes(b"somebody's")
    place.symlink_to(place.parents[3] / "elsewhere")


def take_by_dangling_link(place: Path) -> None:
    """Put a link to nothing there."""
    place.symlink_to(place.parents[3] / "nowhere")


@pytest.mark.parametrize("take", [take_by_file, take_by_link, take_by_dangling_link, Path.mkdir])
def test_what_lies_in_the_place_is_never_overwritten(unpublished, take: Callable[[Path], None]):
    """Whatever has a picture's name keeps it; the picture takes the next free one (D7, B45, B46)."""
    place = target(unpublished)
    place.parent.mkdir(exist_ok=True)
    take(place)
    before = (place.lstat().st_ino, place.read_bytes() if place.is_file() else b"")

    assert 0 == unpublished.run().code
    assert before == (place.lstat().st_ino, place.read_bytes() if place.is_file() else b"")
    assert not (unpublished.folder / "nowhere").exists()
    assert [f"{FIRST}-1.png"] == published(unpublished)
    assert 0 == witness(unpublished).extra


def damage_by_cutting(ledger: Path) -> None:
    """Cut a ledger in the middle."""
    os.truncate(ledger, ledger.stat().st_size // 2)
    ledger.with_name("ledger.db-wal").unlink(missing_ok=True)


def damage_by_writing(ledger: Path) -> None:
    """Write over a page of a ledger."""
    data = bytearray(ledger.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    ledger.write_bytes(data)
    ledger.with_name("ledger.db-wal").unlink(missing_ok=True)


def damage_by_losing(ledger: Path) -> None:
    """Remove what was last written to a ledger."""
    ledger.with_name("ledger.db-wal").unlink()


def damage_by_removing(ledger: Path) -> None:
    """Remove a ledger."""
    for path in ledger.parent.glob("ledger.db*"):
        path.unlink()


@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_writing, damage_by_losing, damage_by_removing])
def test_a_damaged_ledger_is_refused(begin, damage):
    """A job whose ledger is damaged or gone buys nothing until it is restored or made anew, and says how (F60)."""
    job = begin()
    assert job.run(strace=killing(Place("linkat", 3))).was_killed
    asked = len(job.emulator.journal.generations)
    damage(job.out / ".nebula" / "ledger.db")

    ended = job.run()
    assert 2 == ended.code
    assert "rebuild" in ended.said
    assert not ended.has_crashed
    assert asked == len(job.emulator.journal.generations)
