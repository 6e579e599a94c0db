"""What a ledger has to know of its items, as plain values."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.states import Attempt, NewItem, Output, Row, State
from nebula_async.charges import Charges

BEYOND = 100
"""A number that no item has."""


@define
class Try:
    """One attempt: under which key, and what became of it, if it has ended."""

    call_key: str
    is_replayed: bool
    charges: Charges | None = None
    verdict: str | None = None


@define
class Item:
    """One item that was given to a ledger."""

    key: str
    seq: int
    asked: int
    price: str | None
    state: State = State.PENDING
    epoch: int = 0
    resends: int = 0
    duplicates: int = 0
    is_listed: bool = True
    error: str | None = None
    tries: list[Try] = field(factory=list)
    outputs: dict[int, Output] = field(factory=dict)

    @property
    def call_key(self) -> str:
        """The key that it is sent under: another one for each purchase."""
        return f"{self.key}/{self.epoch}"

    @property
    def is_under_way(self) -> bool:
        """Whether an attempt was begun and nothing is known of it."""
        return bool(self.tries) and self.tries[-1].charges is None

    @property
    def at_stake(self) -> int:
        """What the attempt under way may cost."""
        return self.asked if self.is_under_way else 0

    @property
    def charges(self) -> Charges:
        """What all that has ended may have cost: under a replayed key once, whatever was sent."""
        ended = [each for each in self.tries if each.charges is not None]
        single = [each.charges for each in ended if not each.is_replayed]
        keys = {each.call_key for each in ended if each.is_replayed}
        return sum((*single, *(_most(ended, key) for key in keys)), Charges())

    def row(self) -> Row:
        """Return what the ledger should say of it."""
        return Row(
            self.seq, self.key, f"sha-{self.key}", self.state, self.epoch, len(self.tries), self.resends,
            self.duplicates, self.asked, self.charges, self.at_stake, name_of(self.seq), "{}", self.error,
        )  # fmt: skip

    def attempts(self) -> list[Attempt]:
        """Return what the ledger should say of its attempts."""
        return [
            Attempt(
                seq=self.seq, n=n, call_key=each.call_key, sent_at=float(n), verdict=each.verdict,
                ended_at=None if each.charges is None else n + 0.5, charges=each.charges or Charges(), error=None,
            )
            for n, each in enumerate(self.tries, 1)
        ]  # fmt: skip

    def new(self, number: int) -> NewItem:
        """Return it as it is given to a ledger."""
        return NewItem(
            key=self.key, number=number, beyond=BEYOND, body_sha=f"sha-{self.key}", asked=self.asked,
            name=name_of, request="{}",
        )  # fmt: skip


def _most(tries: list[Try], key: str) -> Charges:
    known = [each.charges or Charges() for each in tries if each.is_replayed and each.call_key == key]
    return Charges(max(each.at_least for each in known), max(each.at_most for each in known))


def name_of(seq: int) -> str:
    """Return where an item's picture belongs."""
    return f"images/00000/{seq:09}"


def free_seq(items: dict[str, Item], number: int) -> int:
    """Return the `seq` of a new item: its number, or the next one beyond all that there are."""
    taken = {item.seq for item in items.values()}
    return number if number not in taken else max(max(taken) + 1, BEYOND)


def assert_agrees(ledger: Ledger, items: dict[str, Item]) -> None:
    """Check all that a ledger says against what it was told."""
    by_seq = sorted(items.values(), key=lambda item: item.seq)
    assert [item.row() for item in by_seq] == list(ledger.rows(*State))
    assert [item.row() for item in by_seq] == [ledger.find(item.key) for item in by_seq]
    assert [item.attempts() for item in by_seq] == [ledger.attempts(item.seq) for item in by_seq]
    assert_pictures_agree(ledger, by_seq)
    assert_sums_agree(ledger, by_seq)
    for item in by_seq:
        assert_makes_sense(item)


def assert_pictures_agree(ledger: Ledger, by_seq: list[Item]) -> None:
    """Check what it says of pictures."""
    outputs = [[item.outputs[index] for index in sorted(item.outputs)] for item in by_seq]
    stored = [output for each in outputs for output in each if output.path is not None]
    assert outputs == [list(ledger.outputs(item.seq)) for item in by_seq]
    assert stored == list(ledger.outputs())
    assert len(stored) == ledger.pictures()


def assert_sums_agree(ledger: Ledger, by_seq: list[Item]) -> None:
    """Check what it counts and adds up."""
    listed = [item for item in by_seq if item.is_listed]
    at_stake = Charges(0, sum(item.at_stake for item in by_seq))
    prices: Counter[str | None] = Counter()
    for item in by_seq:
        if item.tries:
            prices[item.price] += item.charges.at_most + item.at_stake
    assert Counter(item.state for item in listed) == ledger.counts()
    assert len(by_seq) - len(listed) == ledger.unlisted()
    assert sum((item.charges for item in by_seq), at_stake) == ledger.charges()
    left = [each for item in by_seq for each in item.tries if each.verdict != "not sent"]
    assert len(left) == ledger.sends()
    assert sum(item.duplicates for item in by_seq) == ledger.duplicates()
    assert dict(prices) == dict(ledger.priced())
    assert (not by_seq) == ledger.is_empty()


def assert_makes_sense(item: Item) -> None:
    """Check what holds of every item, whatever was done: that the model is one of a job."""
    assert not item.at_stake or item.state is State.SENT
    is_stored = [output.path is not None for output in item.outputs.values()]
    assert item.state is not State.DONE or (all(is_stored) and len(is_stored) == item.asked)
    assert item.state is not State.URLS or not all(is_stored)
    assert not item.outputs or any(each.verdict == "paid" for each in item.tries)
    assert item.resends <= 1
    assert item.charges.at_least <= item.charges.at_most <= item.asked * len(item.tries)
