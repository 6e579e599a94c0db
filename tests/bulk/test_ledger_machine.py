"""Whatever a job does to its ledger, in whatever order, and wherever it is killed, the ledger says what was done."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_model import Item, assert_agrees
from ledger_twin import NO_FATE, Fate, Twin

from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.states import FAILED, GOES_TO, State
from nebula_async.charges import Charges
from nebula_async.errors import JobError

EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "100"))
STEPS = 40 if EXAMPLES <= 100 else 50

KEYS = "abc"
FATES = (*[None] * 9, "behind", "inside", "raised")

FOUND = ("nothing", "parts", "pictures", "urls")

fates = st.tuples(st.sampled_from(FATES), st.floats(0, 1, exclude_max=True))

places = st.integers(0, 99)
"""Which one of those that there are."""


def _one(items: list[Item], place: int) -> Item:
    return items[place % len(items)]


def under_way(machine: LedgerMachine) -> bool:
    """Whether an attempt is under way."""
    return machine.is_recovered and bool(machine.sent(is_under_way=True))


def between_two(machine: LedgerMachine) -> bool:
    """Whether an item is between two attempts."""
    return machine.is_recovered and bool(machine.sent(is_under_way=False))


def some(*states: State) -> Callable[[LedgerMachine], bool]:
    """Return whether an item is in one of these states."""
    return lambda machine: machine.is_recovered and bool(machine.twin.those(*states))


class LedgerMachine(RuleBasedStateMachine):
    """Does to a ledger what jobs do."""

    @initialize(durability=st.sampled_from([*["process"] * 9, "power"]))
    def begin(self, durability):
        """Make a ledger."""
        self.twin = Twin(Path(tempfile.mkdtemp(prefix="ledger-")), durability)
        self.recovered = 0

    def teardown(self) -> None:
        """Let go of it."""
        self.twin.ledger.close()
        shutil.rmtree(self.twin.folder)

    @property
    def is_recovered(self) -> bool:
        """Whether this run has settled what the one before left: nothing is sent before."""
        return self.recovered == self.twin.lives

    def sent(self, *, is_under_way: bool) -> list[Item]:
        """Return the items that are sent, with an attempt under way, or between two."""
        return [item for item in self.twin.those(State.SENT) if item.is_under_way is is_under_way]

    @precondition(lambda self: self.is_recovered)
    @rule(
        key=st.sampled_from(KEYS), number=st.integers(0, 5), asked=st.integers(1, 4),
        price=st.sampled_from(["0.0019", "0.04", None]), is_replayed=st.booleans(), fate=fates,
    )  # fmt: skip
    def send(self, key, number, asked, price, is_replayed, fate):
        """Add an item, if it is new, and send it, if it is to be sent."""
        with self.twin.transaction(fate):
            item = self.twin.add(key, number, asked, price)
            if item.state is State.PENDING:
                self.twin.send(item, is_replayed=is_replayed)

    @precondition(under_way)
    @rule(place=places, fate=fates)
    def bring_pictures(self, place, fate):
        """Take a reply with pictures, and store them."""
        item = _one(self.sent(is_under_way=True), place)
        with self.twin.transaction(fate):
            self.twin.end(item, "paid", Charges(item.asked, item.asked))
            self.twin.store(item, range(item.asked), path=True)
            self.twin.move(item, State.DONE)

    @precondition(under_way)
    @rule(place=places, fate=fates, count=st.integers(1, 3))
    def bring_fewer(self, place, fate, count):
        """Take a reply with fewer pictures than were asked for: they are stored, and the item is not done."""
        item = _one(self.sent(is_under_way=True), place)
        if count < item.asked:
            with self.twin.transaction(fate):
                self.twin.end(item, "paid", Charges(count, item.asked))
                self.twin.store(item, range(count), path=True)
                self.twin.move(item, State.BAD, error="some are missing")

    @precondition(under_way)
    @rule(place=places, fate=fates)
    def bring_urls(self, place, fate):
        """Take a reply whose pictures are still to be fetched."""
        item = _one(self.sent(is_under_way=True), place)
        with self.twin.transaction(fate):
            self.twin.end(item, "paid", Charges(item.asked, item.asked))
            self.twin.store(item, range(item.asked), path=False)
            self.twin.move(item, State.URLS)

    @precondition(some(State.URLS))
    @rule(place=places, fate=fates)
    def fetch_one(self, place, fate):
        """Store the next picture of an item whose pictures are at URLS; with the last one it is done."""
        item = _one(self.twin.those(State.URLS), place)
        with self.twin.transaction(fate):
            index = next(index for index, output in item.outputs.items() if output.path is None)
            self.twin.store(item, [index], path=True)
            is_whole = all(output.path is not None for output in item.outputs.values())
            self.twin.move(item, State.DONE if is_whole else State.URLS)

    @precondition(some(State.URLS))
    @rule(place=places, fate=fates)
    def expire(self, place, fate):
        """Find that URLs are not valid any more."""
        with self.twin.transaction(fate):
            self.twin.move(_one(self.twin.those(State.URLS), place), State.EXPIRED, error="it expired")

    @precondition(some(State.DONE))
    @rule(place=places, fate=fates)
    def take_away(self, place, fate):
        """Find that stored pictures are gone."""
        item = _one(self.twin.those(State.DONE), place)
        with self.twin.transaction(fate):
            self.twin.move(item, State.BAD, error="they are gone \ud800")
            self.twin.forget(item)

    @precondition(under_way)
    @rule(
        place=places, fate=fates,
        end=st.sampled_from([("unusable", State.BAD, (1, 1)), ("refused", State.REJECTED, (0, 0))]),
    )  # fmt: skip
    def end(self, place, fate, end):
        """Take a reply that ends an item: one that cannot be used, or a refusal."""
        verdict, state, (at_least, at_most) = end
        item = _one(self.sent(is_under_way=True), place)
        with self.twin.transaction(fate):
            self.twin.end(item, verdict, Charges(at_least, at_most) * item.asked)
            self.twin.move(item, state, error=verdict)

    @precondition(under_way)
    @rule(place=places, fate=fates, verdict=st.sampled_from(["throttled", "not sent"]))
    def fail(self, place, fate, verdict):
        """End an attempt that cost nothing: the item waits again."""
        item = _one(self.sent(is_under_way=True), place)
        with self.twin.transaction(fate):
            self.twin.end(item, verdict, Charges())
            self.twin.move(item, State.PENDING, error=verdict)

    @precondition(under_way)
    @rule(place=places, fate=fates, at_least=st.integers(0, 1))
    def lose(self, place, fate, at_least):
        """End an attempt that may have been paid for; another one follows, once."""
        item = _one(self.sent(is_under_way=True), place)
        with self.twin.transaction(fate):
            self.twin.end(item, "lost", Charges(at_least, 1) * item.asked)
            if not item.resends:
                self.twin.resend(item)
                self.twin.send(item, is_replayed=item.tries[-1].is_replayed)

    @precondition(between_two)
    @rule(place=places, fate=fates)
    def give_up(self, place, fate):
        """Send an item no more in this run."""
        with self.twin.transaction(fate):
            self.twin.move(_one(self.sent(is_under_way=False), place), State.UNKNOWN, error="nobody knows")

    @precondition(under_way)
    @rule(fate=fates)
    def end_the_day(self, fate):
        """Refuse all that is under way, in one transaction: the daily quota is used up."""
        with self.twin.transaction(fate):
            for item in self.sent(is_under_way=True):
                self.twin.end(item, "throttled", Charges())
                self.twin.move(item, State.PENDING, error="come back tomorrow")

    @precondition(some(*FAILED, State.UNKNOWN))
    @rule(
        states=st.sampled_from([FAILED, (State.UNKNOWN,), (*FAILED, State.UNKNOWN)]), is_anew=st.booleans(), fate=fates
    )
    def put_back(self, states, is_anew, fate):
        """Let what failed, or is unknown, be sent again."""
        with self.twin.transaction(fate):
            self.twin.put_back(*states, is_anew=is_anew)

    @precondition(lambda self: self.is_recovered)
    @rule(found=st.dictionaries(st.sampled_from(KEYS), st.booleans()), is_killed=st.booleans(), fate=fates)
    def resume(self, found, is_killed, fate):
        """Look at the ledger from beside, as a status does; then begin another run, for these items alone."""
        with closing(Ledger.read(self.twin.ledger.path)) as reader:
            assert_agrees(reader, self.twin.items)
        self.twin.restart(is_killed=is_killed)
        with self.twin.transaction(fate):
            self.twin.list_only(found)

    @precondition(lambda self: not self.is_recovered)
    @rule(findings=st.lists(st.tuples(st.sampled_from(FOUND), fates), max_size=8))
    def recover(self, findings):
        """Settle what was under way when the process was killed, by what lies on disk; it may be killed meanwhile."""
        life = self.twin.lives
        for found, fate in [*findings, *[("nothing", NO_FATE)] * len(KEYS)]:
            if left := self.twin.those(State.SENT):
                self._settle(left[0], found, fate)
            if life != self.twin.lives:
                return
        self.recovered = life

    @precondition(some(State.PENDING))
    @rule(place=places)
    def break_off(self, place):
        """Fail in the middle of what is written, outside of a transaction of the job's own: nothing changes."""
        item = _one(self.twin.those(State.PENDING), place)
        with pytest.raises(JobError, match="call_key"):
            self.twin.ledger.sending(item.seq, None, at=0.0, is_replayed=False)

    @precondition(lambda self: bool(self.twin.items))
    @rule(place=places, state=st.sampled_from(State))
    def go_astray(self, place, state):
        """Try to bring an item where it cannot come from where it stands: nothing changes."""
        item = _one(list(self.twin.items.values()), place)
        if state is not item.state and state not in GOES_TO[item.state]:
            with pytest.raises(JobError, match=f"item {item.seq} cannot become {state}"):
                self.twin.ledger.move(item.seq, state)

    @invariant()
    def it_says_what_was_done(self):
        """Hold the ledger against the model."""
        assert_agrees(self.twin.ledger, self.twin.items)

    def _settle(self, item: Item, found: str, fate: Fate) -> None:
        with self.twin.transaction(fate):
            if found in ("pictures", "urls"):
                self.twin.end(item, "paid", Charges(item.asked, item.asked))
                self.twin.store(item, range(item.asked), path=found == "pictures")
                self.twin.move(item, State.DONE if found == "pictures" else State.URLS)
                return
            is_sent_again = found == "nothing" and not item.resends
            self.twin.end(item, "killed", Charges(item.asked if found == "parts" else 0, item.asked))
            if is_sent_again:
                self.twin.resend(item)
            self.twin.move(item, State.PENDING if is_sent_again else State.UNKNOWN, error="killed")


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
)
