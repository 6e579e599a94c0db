"""Who writes to a job's ledger is told how it went, in every case: nobody waits for a writer that is gone."""

from __future__ import annotations

from contextlib import asynccontextmanager, closing

import anyio
import pytest

from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.writer import LedgerWriter, prepare_nothing
from nebula_async.errors import JobError

pytestmark = pytest.mark.anyio

PATIENCE = 40.0


def nothing(*_arguments: object) -> None:
    """Do nothing."""


@asynccontextmanager
async def running(tmp_path, *, settle=nothing, tidy=nothing, committed=nothing):
    """Run a writer of a new ledger."""
    with closing(Ledger.open(tmp_path / "ledger.db", "process")) as ledger, anyio.fail_after(PATIENCE):
        writer = LedgerWriter(ledger, settle, tidy, committed, 0, anyio.CapacityLimiter(1))
        async with anyio.create_task_group() as group:
            group.start_soon(writer.run)
            yield writer
            writer.close()


def noting(name: str, value: str = "1"):
    """Return what notes something in a ledger, and returns its name."""

    def write(ledger: Ledger, _prepared: object) -> str:
        ledger.note(name, value)
        return name

    return write


async def write_all(writer: LedgerWriter, *changes: tuple) -> list[object]:
    """Write changes at the same time; return for each its value, or what it raised."""
    found: list[object] = [None] * len(changes)

    async def write(index: int) -> None:
        try:
            found[index] = await writer.write(*changes[index])
        except Exception as error:  # noqa: BLE001 - it is what is looked at
            found[index] = error

    async with anyio.create_task_group() as group:
        for index in range(len(changes)):
            group.start_soon(write, index)
    return found


async def test_what_comes_together_is_written_together(tmp_path):
    """Many changes need few transactions, and each gets its own value back."""
    counts = []
    async with running(tmp_path, committed=counts.append) as writer:
        changes = [(noting(str(number)), prepare_nothing) for number in range(100)]
        assert [str(number) for number in range(100)] == await write_all(writer, *changes)
        assert "1" == await writer.read(lambda ledger: ledger.fact("99"))
    assert len(counts) < 10


async def test_a_change_that_cannot_be_prepared_fails_alone(tmp_path):
    """What is wrong with the files of one item is told to that one; the others are written (F45)."""

    def full() -> None:
        raise OSError(28, "No space left on device", "a.part")

    def broken() -> None:
        raise KeyError("a bug")

    async with running(tmp_path) as writer:
        first, second, third = await write_all(
            writer, (noting("a"), full), (noting("b"), broken), (noting("c"), prepare_nothing)
        )
        facts = await writer.read(lambda ledger: [ledger.fact(name) for name in "abc"])
    assert isinstance(first, JobError)
    assert "the job cannot go on writing: No space left on device (a.part)" in str(first)
    assert isinstance(second, KeyError)
    assert ("c", [None, None, "1"], None) == (third, facts, writer.failure)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), JobError("it is full"), KeyError("a bug")])
async def test_a_ledger_that_fails_is_told_to_everyone(tmp_path, error):
    """Nothing of the group is written, and nothing more after it; whoever waits, or comes later, hears why (F45, F48,
    F49).
    """

    def fail(_ledger: Ledger, _prepared: object) -> None:
        raise error

    async with running(tmp_path) as writer:
        found = await write_all(writer, (noting("a"), prepare_nothing), (fail, prepare_nothing))
        later = await write_all(writer, (noting("b"), prepare_nothing))
        facts = await writer.read(lambda ledger: [ledger.fact(name) for name in "ab"])
    assert isinstance(writer.failure, JobError)
    assert error in (writer.failure, writer.failure.__cause__)
    assert ([writer.failure], writer.failure, None) == (later, found[1], facts[1])
    assert (found[0], facts[0]) in ((writer.failure, None), ("a", "1"))


@pytest.mark.parametrize("step", ["settle", "tidy"])
async def test_files_that_fail_around_a_transaction_end_the_writing(tmp_path, step):
    """Where names are not on the disk nothing is noted; what follows a transaction only ends what comes later (F49)."""

    def fail() -> None:
        raise OSError(5, "Input/output error")

    async with running(tmp_path, **{step: fail}) as writer:
        first, second = [
            *await write_all(writer, (noting("a"), prepare_nothing)),
            *await write_all(writer, (noting("b"), prepare_nothing)),
        ]
        fact = await writer.read(lambda ledger: ledger.fact("a"))
    assert writer.failure is second
    assert ("a", "1") == (first, fact) if step == "tidy" else (writer.failure, None) == (first, fact)


async def test_who_is_cancelled_has_written_all_the_same(tmp_path):
    """What was handed over is written, whoever waits for it."""
    async with running(tmp_path) as writer:
        with anyio.move_on_after(0) as scope:
            await writer.write(noting("a"), prepare_nothing)
        assert scope.cancelled_caught
        writer.note(lambda ledger: ledger.note("b", "2"))
    with closing(Ledger.read(tmp_path / "ledger.db")) as ledger:
        assert ["1", "2"] == [ledger.fact(name) for name in "ab"]
