"""What a ledger adds up, and which items it finds: with every way in which two rows could be taken for one another."""

from __future__ import annotations

from contextlib import closing

import pytest

from nebula_async.bulk.ledger import COMMITS, Ledger
from nebula_async.bulk.states import NewItem, Output, State
from nebula_async.charges import Charges

CHEAP, DEAR = "0.0019", "0.021"


def add(ledger: Ledger, number: int, *, asked: int = 2) -> int:
    """Add an item; return its number."""
    new = NewItem(
        key=f"#{number}", number=number, beyond=100, body_sha="sha", asked=asked,
        name=lambda seq: f"images/{seq}", request="{}",
    )  # fmt: skip
    return ledger.add(new).seq


def send(ledger: Ledger, seq: int, key: str = "key", *, price: str | None = CHEAP, is_replayed: bool = False) -> int:
    """Note that an item is sent; return the number of the attempt."""
    if ledger.find(f"#{seq}").state in (State.UNKNOWN, State.BAD):
        ledger.put_back(ledger.find(f"#{seq}").state, is_anew=False)
    return ledger.sending(seq, key, at=1.0, is_replayed=is_replayed, price=price)


def end(ledger: Ledger, seq: int, n: int, charges: Charges, state: State = State.UNKNOWN) -> None:
    """Note how an attempt ended, and that its item is in this state then."""
    ledger.ended(seq, n, "a verdict", charges, at=2.0)
    ledger.move(seq, state, error="an error", cause="a cause")


def picture(seq: int, index: int, *, path: str | None = None, expires_at: float | None = None) -> Output:
    """Return a picture that is stored or, without a path, at a URL."""
    url = None if path else f"https://pictures.example/{seq}/{index}"
    return Output(seq=seq, index=index, path=path, bytes=3, row="{}", url=url, expires_at=expires_at)


def states(ledger: Ledger) -> list[State]:
    """Return where the items stand, in order."""
    return [row.state for row in ledger.rows(*State)]


def test_an_empty_ledger_adds_up_to_nothing(ledger):
    """A job that sent nothing has paid for nothing twice."""
    assert (0, 0, [], 0) == (ledger.paid_twice(), ledger.duplicates(), ledger.priced(), ledger.unlisted())
    add(ledger, 0)
    assert not ledger.is_empty()


def test_each_attempt_is_paid_at_its_own_price(ledger):
    """What was charged, and what is at stake, is added up for each price; equal sums stay two."""
    add(ledger, 0, asked=1)
    for price in (CHEAP, DEAR):
        end(ledger, 0, send(ledger, 0, price=price), Charges(0, 1))
    send(ledger, add(ledger, 1, asked=1))
    send(ledger, add(ledger, 2), price=None)
    assert {CHEAP: 2, DEAR: 1, None: 2} == dict(ledger.priced())


def test_attempts_under_way_are_counted_once(ledger):
    """Of an item that is sent once more, what is at stake is the newest attempt's, at its price."""
    add(ledger, 0)
    end(ledger, 0, send(ledger, 0, price=DEAR), Charges(0, 2))
    send(ledger, 0)
    assert {DEAR: 2, CHEAP: 2} == dict(ledger.priced())
    assert (Charges(0, 4), 2) == (ledger.charges(), ledger.paid_twice())


@pytest.mark.parametrize(("is_replayed", "charges"), [(True, Charges(2, 2)), (False, Charges(2, 4))])
def test_attempts_under_one_key_are_one_purchase_where_it_is_replayed(ledger, is_replayed, charges):
    """Both in what an item may have cost and in what is told of the prices; elsewhere they are two purchases."""
    add(ledger, 0)
    for paid in (Charges(2, 2), Charges(0, 2)):
        end(ledger, 0, send(ledger, 0, is_replayed=is_replayed), paid)
    assert (charges, {CHEAP: charges.at_most}) == (ledger.find("#0").charges, dict(ledger.priced()))


def test_the_worst_of_a_replayed_key_counts(ledger):
    """However its attempts are ordered, they cost together what the worst of them may."""
    add(ledger, 0)
    for paid in (Charges(0, 0), Charges(1, 2), Charges(0, 1)):
        end(ledger, 0, send(ledger, 0, is_replayed=True), paid)
    assert (Charges(1, 2), {CHEAP: 2}) == (ledger.find("#0").charges, dict(ledger.priced()))


def test_sums_of_attempts_that_cost_the_same_are_sums(ledger):
    """Two that were surely paid for are paid for twice, at the least too."""
    add(ledger, 0)
    for _ in range(2):
        end(ledger, 0, send(ledger, 0), Charges(1, 2))
    assert Charges(2, 4) == ledger.find("#0").charges


def test_what_may_be_paid_twice_is_added_up_over_items(ledger):
    """Those that cost less than they asked for make up for no other."""
    for number, spent in enumerate((Charges(0, 3), Charges(0, 4), Charges(0, 0))):
        end(ledger, add(ledger, number), send(ledger, number), spent)
    assert 3 == ledger.paid_twice()


def test_what_was_asked_for_once_more_is_counted_for_its_item(ledger):
    """Each resending of an item, and all pictures that it asked for in vain."""
    for number in range(3):
        add(ledger, number)
    for number, duplicates in ((0, 2), (0, 2), (1, 1)):
        ledger.resending(number, duplicates)
    rows = [ledger.find(f"#{number}") for number in range(3)]
    assert ([(2, 4), (1, 1), (0, 0)], 5) == ([(row.resends, row.duplicates) for row in rows], ledger.duplicates())


def test_unfinished_items_are_those_that_were_sent_and_are_not_done(ledger):
    """One that waits for its first request is not, nor one that is asked for no more."""
    for number, state in enumerate((State.UNKNOWN, State.DONE, State.BAD, State.REJECTED)):
        end(ledger, add(ledger, number), send(ledger, number), Charges(), state)
    add(ledger, 4)
    ledger.set_listed("#3", is_listed=False)
    assert [0, 2] == [row.seq for row in ledger.unfinished()]
    assert (1, {State.UNKNOWN, State.DONE, State.BAD, State.PENDING}) == (ledger.unlisted(), ledger.counts().keys())


def test_pictures_that_expire_first_are_fetched_first(ledger):
    """By the first URL of an item that is still to be fetched; what is stored expires no more."""
    expiring = {0: [(None, 50.0)], 1: [(None, 70.0), (None, 20.0)], 2: [("images/2", 1.0), (None, 30.0)]}
    for number, pictures in expiring.items():
        end(ledger, add(ledger, number), send(ledger, number), Charges(2, 2), State.URLS)
        ledger.store(picture(number, at, path=path, expires_at=when) for at, (path, when) in enumerate(pictures))
    end(ledger, add(ledger, 3), send(ledger, 3), Charges(2, 2), State.DONE)
    assert [1, 2, 0] == [row.seq for row in ledger.unfetched()]


def test_a_picture_that_is_gone_is_forgotten(ledger):
    """That one, and no other; the next one of its item takes nobody's place."""
    add(ledger, 0)
    add(ledger, 1)
    ledger.store([picture(0, index, path=f"images/{index}") for index in range(3)])
    ledger.store([picture(1, 0, path="images/3")])
    ledger.forget("images/0")
    assert ["images/1", "images/2", "images/3"] == [path for _, path, _ in ledger.places()]
    assert (3, 1, 0) == (ledger.next_index(0), ledger.next_index(1), ledger.next_index(2))


@pytest.mark.parametrize("is_anew", [True, False])
def test_what_is_bought_anew_waits_for_no_url(ledger, is_anew):
    """Its URLs are forgotten, and what is stored is not; whoever is not named, or not asked for, keeps all."""
    for number, state in enumerate((State.EXPIRED, State.EXPIRED, State.BAD)):
        ledger.resending(add(ledger, number), 1)
        end(ledger, number, send(ledger, number), Charges(2, 2), state)
        ledger.store([picture(number, 0), picture(number, 1, path=f"images/{number}")])
    ledger.set_listed("#1", is_listed=False)
    ledger.put_back(State.EXPIRED, is_anew=is_anew)
    back = ledger.find("#0")
    assert (int(is_anew), 0, 1, None, None) == (back.epoch, back.resends, back.duplicates, back.error, back.cause)
    assert [State.PENDING, State.EXPIRED, State.BAD] == states(ledger)
    assert [2 - is_anew, 2, 2] == [len(list(ledger.outputs(number))) for number in range(3)]
    assert ["images/0", "images/1", "images/2"] == [path for _, path, _ in ledger.places()]


def test_what_is_noted_again_replaces_what_was_noted(ledger):
    """The newest word of a fact counts."""
    for value in ("1", "2"):
        ledger.note(COMMITS, value)
    assert ("2", "commits") == (ledger.fact(COMMITS), COMMITS)


def test_listing_an_item_leaves_the_others(ledger):
    """Items are asked for one by one."""
    for number in range(3):
        add(ledger, number)
    ledger.unlist()
    ledger.set_listed("#2", is_listed=True)
    assert (2, {State.PENDING: 1}) == (ledger.unlisted(), ledger.counts())


def test_what_is_written_survives_a_power_cut_unless_it_is_said(path):
    """A ledger that is opened without a word waits for the disk."""
    with closing(Ledger.open(path)) as usual, closing(Ledger.open(path.with_name("other.db"), "process")) as quick:
        assert [(2,), (0,)] == [next(iter(each.select("PRAGMA synchronous"))) for each in (usual, quick)]


def test_an_item_that_is_known_is_returned_as_it_stands(ledger):
    """Adding it again changes nothing of it."""
    end(ledger, add(ledger, 0), send(ledger, 0), Charges(1, 2))
    row = ledger.find("#0")
    assert (0, row) == (add(ledger, 0), ledger.find("#0"))


def test_what_fails_inside_a_transaction_ends_all_of_it(ledger):
    """Also where the file has ended it already: the exception that comes out is the first."""
    with pytest.raises(KeyError, match="first"), ledger.together():  # noqa: PT012 - it is about what stands before
        add(ledger, 0)
        list(ledger.select("ROLLBACK"))
        raise KeyError("first")
    assert ledger.is_empty()


def test_requests_that_were_refused_as_one_too_many_are_counted(ledger):
    """Each of them, whatever became of their items."""
    for number, verdict in enumerate(("throttled", "answered", "throttled", "throttled")):
        ledger.ended(add(ledger, number), send(ledger, number), verdict, Charges(), at=2.0)
    assert (3, 4) == (ledger.refusals(), ledger.sends())


def test_an_item_moves_alone(ledger):
    """Others that stand where it stood stay there; what happened is told in its order."""
    for number in range(3):
        add(ledger, number)
    ledger.move(1, State.SENT)
    ledger.tell(1.0, "moved", "one")
    assert [State.PENDING, State.SENT, State.PENDING] == states(ledger)
    assert [(1.0, "moved", "one")] == list(ledger.select("SELECT * FROM event"))
