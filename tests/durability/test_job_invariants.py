"""The checker of the invariants is not blind: each thing that must not be is found."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve
from job_invariants import Witness, violations
from small_job import SmallJob, quick_folder

from nebula_async.emulator import Emulator


@pytest.fixture(scope="module")
def finished() -> Iterator[SmallJob]:
    """A job that is done."""
    with Emulator(credit="1000") as emulator, quick_folder() as folder:
        job = SmallJob.begun(Path(folder) / "job", emulator, items=2)
        ended = job.run()
        assert (0, "") == (ended.code, ended.said)
        yield job


def found(job: SmallJob, out: Path) -> list[str]:
    """Return what does not hold in a copy of a job's folder."""
    return violations(Witness.called(out, job.prompts, job.emulator.journal.generations))


def sql(statement: str) -> Callable[[Path], None]:
    """Spoil a ledger."""

    def spoil(out: Path) -> None:
        with closing(sqlite3.connect(out / ".nebula" / "ledger.db")) as connection, connection:
            connection.execute(statement)

    return spoil


def picture(out: Path) -> Path:
    """Return a picture of a job."""
    return next(out.glob("images/*/*.png"))


def add(path: str) -> Callable[[Path], None]:
    """Add a file to a job's folder."""

    def spoil(out: Path) -> None:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text("x")

    return spoil


SPOILT = {
    "a picture is gone": (lambda out: picture(out).unlink(), "I2"),
    "a picture is empty": (lambda out: picture(out).write_bytes(b""), "I2"),
    "a picture is other bytes": (lambda out: picture(out).write_bytes(b"other"), "I2"),
    "done without a picture": (sql("DELETE FROM output WHERE seq = 0"), "I2"),
    "a picture of nobody": (add("images/00000/000000009-a-dog.png"), "I3"),
    "two owners": (sql("UPDATE output SET path = (SELECT min(path) FROM output)"), "I3"),
    "charged more than is told": (sql("UPDATE item SET at_least = 0, at_most = 0"), "I4"),
    "charged less than is told": (sql("UPDATE item SET at_least = 2, at_most = 2"), "I4"),
    "the sums are not those of the attempts": (sql("UPDATE item SET at_most = 3"), "I4"),
    "an item is missing": (sql("DELETE FROM item WHERE seq = 0"), "I1"),
    "an item is under way": (sql("UPDATE item SET state = 'sent'"), "I1"),
    "something is at stake": (sql("UPDATE item SET at_stake = 1"), "I1"),
    "an attempt is missing": (sql("DELETE FROM attempt WHERE seq = 1"), "W1"),
    "a part is left": (add(".nebula/spool/0.1.0.part"), "I7"),
    "a reply is left": (add(".nebula/spool/0.1.reply"), "I7"),
    "a hidden part is left": (add("images/00000/.4f.part"), "I7"),
    "a row is missing": (lambda out: (out / "images" / "metadata.jsonl").write_text(""), "metadata"),
    "a row is another": (sql("""UPDATE output SET row = '{"file_name": "x"}'"""), "metadata"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_must_not_be_is_found(finished, folder, name):
    """A folder that was spoilt is told from one that is as it should be."""
    spoil, rule = SPOILT[name]
    out = shutil.copytree(finished.out, folder / "out")
    assert [] == found(finished, out)
    spoil(out)
    assert any(problem.startswith(rule) for problem in found(finished, out)), found(finished, out)


def test_a_damaged_ledger_is_found(finished, folder):
    """A ledger whose bytes were changed is no witness."""
    out = shutil.copytree(finished.out, folder / "out")
    ledger = out / ".nebula" / "ledger.db"
    data = bytearray(ledger.read_bytes())
    data[-4096:] = bytes(4096)
    ledger.write_bytes(data)
    assert any(problem.startswith("I8") for problem in found(finished, out))


def test_another_body_under_the_same_key_is_found(finished):
    """An item that was sent with two bodies is found."""
    requests = finished.emulator.journal.generations
    again = [evolve(request, fields={"prompt": request.prompt, "seed": 1}) for request in requests]
    witness = Witness.called(finished.out, finished.prompts, [*requests, *again])
    assert any(problem.startswith("I6") for problem in violations(witness))
