"""The ledger knows where each item stands and what it may have cost, and is one process's at a time."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nebula_async.bulk.ledger import Ledger, Row, State
from nebula_async.charges import Charges
from nebula_async.errors import JobError

HOLDER = """
import sys
from pathlib import Path
from nebula_async.bulk.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of a job in `tmp_path` lies."""
    (tmp_path / ".nebula").mkdir()
    return tmp_path / ".nebula" / "ledger.db"


@pytest.fixture
def ledger(path: Path):
    """A new ledger."""
    with contextlib.closing(Ledger.open(path)) as ledger:
        yield ledger


def send(ledger: Ledger, number: int, at_stake: int = 2) -> None:
    """Note that an item is about to be sent."""
    ledger.sending(number, f"sha-{number}", f"images/00000/{number:09}", at_stake=at_stake)


def test_a_new_ledger_is_empty(ledger):
    """A job that sent nothing knows nothing, and owes nothing."""
    assert ledger.is_empty()
    assert ledger.find(0) is None
    assert {} == ledger.counts(10)
    assert Charges(0, 0) == ledger.charges()


def test_an_item_is_noted_before_it_leaves_and_when_it_has_ended(ledger):
    """Between the two, the ledger counts what the call may cost; afterwards, what it did cost."""
    send(ledger, 4)
    name = "images/00000/000000004"
    assert Row(4, "sha-4", State.SENT, 0, Charges(0, 0), 2, name, None) == ledger.find(4)
    assert [4] == [row.number for row in ledger.under_way()]
    assert Charges(0, 2) == ledger.charges()

    ledger.ended(4, State.DONE, Charges(1, 1), name=f"{name}.png")
    assert Row(4, "sha-4", State.DONE, 0, Charges(1, 1), 0, f"{name}.png", None) == ledger.find(4)
    assert [] == ledger.under_way()
    assert Charges(1, 1) == ledger.charges()


def test_charges_are_sums_over_all_calls_for_an_item(ledger):
    """What an earlier call may have cost is not forgotten when the item is sent again and succeeds."""
    send(ledger, 0)
    ledger.ended(0, State.UNKNOWN, Charges(0, 1), error="lost")
    ledger.put_back(State.UNKNOWN)
    assert State.PENDING == ledger.find(0).state
    send(ledger, 0)
    assert ledger.find(0).error is None
    ledger.ended(0, State.DONE, Charges(1, 1))
    send(ledger, 1)
    ledger.ended(1, State.BAD, Charges(1, 1))
    assert Charges(1, 2) == ledger.find(0).charges
    assert Charges(2, 3) == ledger.charges()


def test_what_was_put_back_is_what_was_named(ledger):
    """Putting back the refused items leaves those that may have been paid for where they are."""
    for number, state in enumerate((State.REJECTED, State.BAD, State.UNKNOWN, State.DONE)):
        send(ledger, number)
        ledger.ended(number, state, Charges())
    ledger.put_back(State.REJECTED, State.BAD)
    assert {State.PENDING: 2, State.UNKNOWN: 1, State.DONE: 1} == ledger.counts(4)
    assert {State.PENDING: 2} == ledger.counts(2)
    assert 2 == ledger.count_beyond(2)


def test_everything_is_there_after_it_was_closed(path):
    """A ledger that is opened again holds what was noted."""
    with contextlib.closing(Ledger.open(path)) as ledger:
        send(ledger, 0)
    with contextlib.closing(Ledger.open(path)) as ledger:
        assert State.SENT == ledger.find(0).state


def test_calls_that_were_cut_off_are_counted_until_the_item_is_put_back(ledger):
    """How often an item was under way when a run was stopped decides whether it is sent again by itself."""
    for times in (1, 2):
        send(ledger, 0)
        ledger.cut_off(0, State.UNKNOWN, Charges(0, 1))
        assert times == ledger.find(0).cut_off
    ledger.put_back(State.UNKNOWN)
    assert (0, Charges(0, 2)) == (ledger.find(0).cut_off, ledger.find(0).charges)


def test_text_that_no_database_takes_is_kept_escaped(ledger):
    """A server's message with half a character in it does not stop the job."""
    send(ledger, 0)
    ledger.ended(0, State.REJECTED, Charges(), error=json.loads(r'"no \ud800"'))
    assert r"no \ud800" == ledger.find(0).error


def test_a_ledger_in_use_by_another_process_is_refused_at_once(path):
    """Two runs of a job never pay for the same items: the second is told the folder, in less than a second."""
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert "open\n" == holder.stdout.readline()
        started = time.monotonic()
        with pytest.raises(JobError, match=f"^{path.parent.parent} is in use by another process; wait"):
            Ledger.open(path)
        assert 1 > time.monotonic() - started
        holder.kill()
    Ledger.open(path).close()  # the lock went with the process


def test_a_database_of_another_program_is_left_as_it_is(path):
    """Someone else's SQLite file is refused, and not a byte of it is changed."""
    with contextlib.closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE item (number)")
        foreign.commit()
    before = path.read_bytes()
    with pytest.raises(JobError, match=r"ledger\.db is no ledger but a file of another program; use another"):
        Ledger.open(path)
    assert before == path.read_bytes()


def test_a_ledger_of_a_newer_version_is_refused(path):
    """What a newer nebula_async wrote is not guessed at."""
    Ledger.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 3")
    with pytest.raises(JobError, match="is of another version of nebula_async; update, or use another output folder"):
        Ledger.open(path)


@pytest.mark.parametrize("damage", ["text", "head", "page", "cut"])
def test_a_damaged_ledger_is_refused_and_what_to_do_is_said(path, damage):
    """A ledger that cannot be trusted is never taken for an empty one, which would pay for everything again."""
    with contextlib.closing(Ledger.open(path)) as ledger:
        for number in range(200):
            send(ledger, number)
    whole = path.read_bytes()
    damaged = {
        "text": b"prompt\n" * 1000,
        "head": b"\xff" * 100 + whole[100:],
        "page": whole[:4096] + b"\xff" * 200 + whole[4296:],
        "cut": whole[: len(whole) // 2],
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(JobError, match=r"the ledger .*ledger\.db cannot be used \(.*\); restore it from a copy"):
        Ledger.open(path)


def test_a_ledger_that_cannot_be_opened_is_refused(path):
    """A folder in its place is one sentence, too."""
    path.mkdir()
    with pytest.raises(JobError, match=r"cannot be used \(unable to open database file\)"):
        Ledger.open(path)


def test_a_ledger_that_fails_is_an_error_of_the_job(path):
    """A disk that fails in mid-run is told as any other reason to stop."""
    ledger = Ledger.open(path)
    ledger.close()
    with pytest.raises(JobError, match="cannot be used"):
        send(ledger, 0)
