"""The ledger knows where each item stands and what it may have cost, and is never taken for another one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from attrs import evolve

from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.states import GOES_TO, NewItem, Output, State
from nebula_async.charges import Charges
from nebula_async.errors import JobError


def item(number: int, **values: object) -> NewItem:
    """Return an item of which two pictures are asked for."""
    known = {
        "key": f"#{number}", "number": number, "beyond": 100, "body_sha": f"sha-{number}", "asked": 2,
        "name": lambda seq: f"images/00000/{seq:09}", "request": "{}",
    }  # fmt: skip
    return NewItem(**(known | values))


def send(ledger: Ledger, number: int, *, key: str | None = None, is_replayed: bool = False) -> int:
    """Note that an item is about to be sent, and return the number of the attempt."""
    ledger.add(item(number))
    return ledger.sending(number, key or f"key-{number}", at=1.0, is_replayed=is_replayed, price="0.0019")


def end(ledger: Ledger, number: int, state: State, charges: Charges, *, n: int = 1, error: str | None = None) -> None:
    """Note how an attempt ended, and where its item stands then."""
    ledger.ended(number, n, "a verdict", charges, at=2.0, error=error)
    ledger.move(number, state, error=error)


def test_a_new_ledger_is_empty(ledger):
    """A job that sent nothing knows nothing, and owes nothing."""
    assert ledger.is_empty()
    assert (None, State.PENDING) == (ledger.find("#0"), ledger.state("#0"))
    assert ({}, 0, 0, Charges(0, 0)) == (ledger.counts(), ledger.sends(), ledger.pictures(), ledger.charges())


def test_an_item_is_noted_before_it_leaves_and_when_it_has_ended(ledger):
    """Between the two, the ledger counts what the attempt may cost; afterwards, what it did cost."""
    send(ledger, 4)
    row = ledger.find("#4")
    assert (4, State.SENT, 1, 2, Charges(0, 0)) == (row.seq, row.state, row.sends, row.at_stake, row.charges)
    assert [row] == list(ledger.rows(State.SENT))
    assert ("images/00000/000000004", Charges(0, 2)) == (row.name, ledger.charges())

    end(ledger, 4, State.DONE, Charges(2, 2))
    assert evolve(row, state=State.DONE, at_stake=0, charges=Charges(2, 2)) == ledger.find("#4")
    assert ([], Charges(2, 2)) == (list(ledger.rows(State.SENT)), ledger.charges())


def test_charges_are_sums_over_all_attempts_for_an_item(ledger):
    """What an earlier attempt may have cost is not forgotten when the item is sent again and succeeds."""
    send(ledger, 0)
    end(ledger, 0, State.UNKNOWN, Charges(0, 2), error="lost")
    ledger.put_back(State.UNKNOWN, is_anew=False)
    assert (State.PENDING, None) == (ledger.find("#0").state, ledger.find("#0").error)
    assert 2 == send(ledger, 0)
    end(ledger, 0, State.DONE, Charges(2, 2), n=2)
    send(ledger, 1)
    end(ledger, 1, State.BAD, Charges(2, 2))
    assert (Charges(2, 4), Charges(4, 6), 3) == (ledger.find("#0").charges, ledger.charges(), ledger.sends())
    assert ["a verdict", "a verdict"] == [attempt.verdict for attempt in ledger.attempts(0)]


def test_attempts_under_a_key_that_is_replayed_count_once(ledger):
    """Where the server promises one charge for all attempts under a key, they are one purchase."""
    for n in (1, 2):
        send(ledger, 0, is_replayed=True)
        end(ledger, 0, State.PENDING if n == 1 else State.DONE, Charges(0, 2) if n == 1 else Charges(2, 2), n=n)
    assert Charges(2, 2) == ledger.find("#0").charges


def test_what_was_put_back_is_what_was_named(ledger):
    """Putting back the refused items leaves those that may have been paid for where they are."""
    for number, state in enumerate((State.REJECTED, State.BAD, State.UNKNOWN, State.DONE)):
        send(ledger, number)
        end(ledger, number, state, Charges())
    ledger.put_back(State.REJECTED, State.BAD, is_anew=True)
    assert {State.PENDING: 2, State.UNKNOWN: 1, State.DONE: 1} == ledger.counts()
    assert [1, 1, 0, 0] == [ledger.find(f"#{number}").epoch for number in range(4)]


def test_items_that_are_not_asked_for_are_not_counted(ledger):
    """A shorter input makes a shorter job, and what the rest cost is not forgotten."""
    for number in range(2):
        send(ledger, number)
        end(ledger, number, State.DONE, Charges(2, 2))
    ledger.unlist()
    ledger.set_listed("#1", is_listed=True)
    assert ({State.DONE: 1}, 1, Charges(4, 4)) == (ledger.counts(), ledger.unlisted(), ledger.charges())


def test_an_item_gets_the_number_of_its_row_where_that_is_free(ledger):
    """Numbers in file names follow the input; where it was reordered, an item gets one beyond all of them."""
    first, second = ledger.add(item(0)), ledger.add(item(0, key="other"))
    assert (0, 100) == (first.seq, second.seq)
    assert (first, second) == (ledger.add(item(7, key="#0")), ledger.add(item(0, key="other")))
    assert 101 == ledger.add(item(0, key="third")).seq


@pytest.mark.parametrize("before", list(State))
@pytest.mark.parametrize("after", list(State))
def test_an_item_goes_only_where_it_can(ledger, before, after):
    """A step that no job makes is refused, and nothing is changed by it."""
    ledger.add(item(0))
    with closing(sqlite3.connect(ledger.path)) as other, other:
        other.execute("UPDATE item SET state = ?", (before,))
    if after == before or after in GOES_TO[before]:
        ledger.move(0, after)
        assert after == ledger.state("#0")
        return
    with pytest.raises(JobError, match=f"item 0 cannot become {after} from where it stands"):
        ledger.move(0, after)
    assert before == ledger.state("#0")


def test_what_is_written_together_is_all_there_or_not_at_all(ledger):
    """An exception in the middle leaves the ledger as it was."""
    with pytest.raises(KeyError), ledger.together():  # noqa: PT012 - it is about what stands before
        send(ledger, 0)
        raise KeyError
    assert ledger.is_empty()


def test_pictures_are_found_in_order(ledger):
    """Those of an item, or all that are stored; one that is still at its URL is not."""
    send(ledger, 1)
    send(ledger, 0)
    here = Output(seq=0, index=0, path="images/a.png", sha256="00", bytes=3, media_type="image/png", row="{}")
    later = [evolve(here, seq=1, index=index, path=None, url="https://pictures.example/1") for index in (0, 1)]
    ledger.store([*later, here])
    assert ([here], later) == (list(ledger.outputs()), list(ledger.outputs(1)))
    ledger.store([evolve(later[0], path="images/b.png")])
    assert (2, [(0, "images/a.png", 3), (1, "images/b.png", 3)]) == (ledger.pictures(), sorted(ledger.places()))


@pytest.mark.parametrize("durability", ["power", "process"])
def test_everything_is_there_after_it_was_closed(path, durability):
    """A ledger that is opened again holds what was noted."""
    with closing(Ledger.open(path, durability)) as ledger:
        send(ledger, 0)
        ledger.note("fact", "1")
    with closing(Ledger.open(path, durability)) as ledger:
        assert (State.SENT, "1") == (ledger.state("#0"), ledger.fact("fact"))


def test_a_reader_sees_what_is_written_and_changes_nothing(ledger):
    """A ledger can be read while a job writes it."""
    with closing(Ledger.read(ledger.path)) as reader:
        assert reader.is_empty()
        send(ledger, 0)
        assert State.SENT == reader.state("#0")
        with pytest.raises(JobError):
            reader.note("fact", "1")


def test_text_that_no_database_takes_is_kept_escaped(ledger):
    """A server's message with half a character in it does not stop the job."""
    send(ledger, 0)
    end(ledger, 0, State.REJECTED, Charges(), error=json.loads(r'"no \ud800"'))
    assert r"no \ud800" == ledger.find("#0").error == ledger.attempts(0)[0].error


def test_a_database_of_another_program_is_left_as_it_is(path):
    """Someone else's SQLite file is refused, and not a byte of it is changed."""
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE item (number)")
        foreign.commit()
    before = path.read_bytes()
    with pytest.raises(JobError, match=r"ledger\.db is no ledger but a file of another program; use another"):
        Ledger.open(path)
    assert before == path.read_bytes()


@pytest.mark.parametrize("damage", ["text", "head", "page", "cut"])
def test_a_damaged_ledger_is_refused_and_what_to_do_is_said(path, damage):
    """A ledger that cannot be trusted is never taken for an empty one, which would pay for everything again (F60)."""
    with closing(Ledger.open(path, "process")) as ledger, ledger.together():
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
    with pytest.raises(JobError, match=r"the ledger .*ledger\.db cannot be used \(.*\); restore it from a copy, or"):
        Ledger.open(path)


def test_a_ledger_that_cannot_be_opened_is_refused(path):
    """A folder in its place is one sentence, too."""
    path.mkdir()
    with pytest.raises(JobError, match=r"cannot be opened \(unable to open database file\); see who owns"):
        Ledger.open(path)


def test_a_reader_says_where_no_job_is(tmp_path):
    """A folder without a ledger is no job, and none is made."""
    with pytest.raises(JobError, match="is not the folder of a job: there is no ledger"):
        Ledger.read(tmp_path / ".nebula" / "ledger.db")
    assert [] == list(tmp_path.iterdir())


def test_a_ledger_that_fails_is_an_error_of_the_job(path):
    """A disk that fails in mid-run is told as any other reason to stop."""
    ledger = Ledger.open(path)
    ledger.close()
    with pytest.raises(JobError, match="cannot be used"):
        send(ledger, 0)
