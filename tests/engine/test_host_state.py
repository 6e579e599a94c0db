"""What processes know together survives as text: the pace, the holds, the day, and who shares them."""

from __future__ import annotations

import json
import math
import time

import pytest
from pacing import found, refuse, send, use
from wire import seeded

from nebula_async.engine.allowance import LONGEST_AHEAD, MOST_LATE, Allowance
from nebula_async.engine.host_state import LEASE_SECONDS, HostState, read_state, write_state
from nebula_async.engine.hostgate import reserve
from nebula_async.engine.pace import Pace
from nebula_async.engine.quota import DailyQuota

BOOT = "the first start"
GAP = 1 / 0.98


def used(per_minute: float | None = None) -> HostState:
    """Return a state with a past: a limit that was found, a hold, requests of today, two members."""
    state = HostState(BOOT, Allowance(found(4.0), DailyQuota()))
    state.enter("a", 1.0, per_minute, None)
    state.enter("b", 2.0, per_minute, 500)
    state.allowance.quota.count(time.time(), 7)
    return state


def again(state: HostState, boot: str = BOOT, now: float = 3.0) -> HostState:
    """Return the state as another process reads it."""
    return read_state(write_state(state), boot, now)


def test_a_state_survives_as_text():
    """Whoever reads the state goes on exactly as whoever wrote it would have, after a refusal as well."""
    state = used()
    other = again(state)
    assert write_state(state) == write_state(other)
    assert 7 == other.allowance.quota.used(time.time())

    pace, same = state.allowance.pace, other.allowance.pace
    assert refuse(pace, 3.0, sent_at=2.9) == refuse(same, 3.0, sent_at=2.9)
    assert send(pace, 3.0, 50) == send(same, 3.0, 50)
    assert use(pace, 40.0, 30.0) == use(same, 40.0, 30.0)


def test_another_start_of_the_machine_keeps_the_day_alone():
    """After a restart the clock is another one: holds, pace and members are forgotten, the day's count is not."""
    state = used()
    state.allowance.pace.hold(3.0, 1000.0)
    state.allowance.quota.close(time.time(), 5000.0)
    for boot, now in (("the second start", 3.0), (BOOT, 1.0)):  # where starts have no name, the clock went back
        begun = again(state, boot, now)
        assert ({}, 0.0, None) == (
            begun.members, begun.allowance.pace.held_for(now), begun.allowance.pace.believed(now),
        )  # fmt: skip
        assert 7 == begun.allowance.quota.used(time.time())
        assert begun.allowance.quota.seconds_closed(time.time()) > 4000


def test_what_another_version_adds_is_left_out():
    """A field that this version does not know of changes nothing, and one that is not there stays as it begins."""
    found_text = json.loads(write_state(used()))
    found_text["allowance"]["pace"]["mood"] = "good"
    del found_text["allowance"]["pace"]["_burst"]
    read = read_state(json.dumps(found_text), BOOT, 3.0)
    assert used().allowance.pace.believed(3.0) == read.allowance.pace.believed(3.0)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"members"', '"numbers"'), ('"_rate":{', '"_rate":7,"_was":{'), ('"_last":', '"_last":"x","_was":'),
        ('"_last":', '"_last":null,"_was":'), ("Infinity", "NaN"), ('"_marks":[', '"_marks":[{},'), ("}", ""),
        ('"members":{', '"members":{"c":5,'), ('"written_at":', '"written_at":"x","_was":'),
    ],
)  # fmt: skip
def test_an_edited_state_is_seen(good, bad):
    """A state that was mixed up or edited is refused as a whole."""
    text = write_state(used())
    assert good in text
    with pytest.raises(ValueError, match=r"."):
        read_state(text.replace(good, bad), BOOT, 3.0)


@pytest.mark.parametrize("text", ["", "null", "[]", "5", "{}", "[" * 100_000, "\x00" * 100], ids=range(7))
def test_what_is_no_state_is_seen(text):
    """Text that is something else is refused."""
    with pytest.raises(ValueError, match=r"."):
        read_state(text, BOOT, 3.0)


def test_the_lowest_limit_counts_while_its_owner_is_there():
    """Processes that were told different limits keep to the lowest, until who was told that one is gone."""
    state = HostState(BOOT)
    state.enter("a", 0.0, None, None)
    state.enter("b", 1.0, 600, 2_000)
    state.enter("c", 2.0, 60, None)
    assert (60, 2_000) == (state.allowance.pace.per_minute, state.allowance.quota.per_day)
    assert pytest.approx(58.8) == state.allowance.pace.believed(2.0)

    state.enter("b", 2.0 + LEASE_SECONDS, 600, 2_000)
    assert {"b"} == set(state.members)
    assert pytest.approx(588) == state.allowance.pace.believed(2.0 + LEASE_SECONDS)


def test_who_is_known_to_all():
    """A new member is known to all once each of the others has been there since."""
    state = HostState(BOOT)
    state.enter("a", 0.0, None, None)
    assert state.is_known_to_all("a", 1.0)
    state.enter("b", 1.0, None, None)
    assert (True, False, 1) == (
        state.is_known_to_all("a", 2.0), state.is_known_to_all("b", 2.0), len(state.others("b", 2.0)),
    )  # fmt: skip
    state.enter("a", 2.0, None, None)
    assert state.is_known_to_all("b", 3.0)
    assert not state.is_known_to_all("c", 3.0)
    assert not state.is_known_to_all("b", 1.0 + LEASE_SECONDS)


def sending(per_minute: float = 60, per_day: int | None = None) -> HostState:
    """Return a state of which one request has left at 100.0."""
    state = HostState(BOOT, Allowance(Pace(per_minute), DailyQuota(per_day)))
    state.allowance.pace.release(100.0)
    return state


def test_turns_follow_each_other():
    """Whoever asks gets the next turn that nobody has, and who holds one keeps it until its time."""
    state = sending()
    turns = [reserve(state, 100.0, reserved=None) for _ in range(3)]
    assert pytest.approx([100 + number * GAP for number in (1, 2, 3)]) == [turn for turn, _ in turns]
    assert pytest.approx([GAP, 2 * GAP, 3 * GAP]) == [seconds for _, seconds in turns]
    assert turns[0] == pytest.approx(reserve(state, 100.0, reserved=turns[0][0]))
    assert (turns[0][0], 0.0) == reserve(state, turns[0][0] + 0.2, reserved=turns[0][0])


def test_a_turn_that_was_not_taken_is_lost():
    """Who was stopped for a while does not send what was saved up: the turn is void, the next one is far
    enough (F56).
    """
    state = sending()
    turn, _ = reserve(state, 100.0, reserved=None)
    stopped_until = turn + MOST_LATE + 0.1
    state.allowance.pace.release(stopped_until)
    assert pytest.approx((stopped_until + GAP, GAP)) == reserve(state, stopped_until, reserved=turn)


def test_a_hold_takes_the_turns_that_were_reserved():
    """After a refusal nobody uses a turn from before: all queue again, behind the end of the hold."""
    state = sending()
    turn, _ = reserve(state, 100.0, reserved=None)
    state.allowance.throttled(100.5, time.time(), sent_at=100.0, delay=10.0, is_limit=True, source=seeded(1))
    moved, seconds = reserve(state, 101.1, reserved=turn)
    assert moved >= 110.5
    assert pytest.approx(moved - 101.1) == seconds


def test_a_long_hold_is_not_waited_out_with_a_turn():
    """Who has to wait for minutes has no turn yet, and looks again every few seconds."""
    state = sending()
    state.allowance.pace.hold(100.0, LONGEST_AHEAD + 1)
    turn, seconds = reserve(state, 100.0, reserved=None)
    assert turn is None
    assert 0 < seconds <= 10


def test_after_a_refusal_one_goes_ahead():
    """When nobody named a wait, the first turn after it is a try: others have no turn until its outcome is known."""
    state = sending()
    hold = state.allowance.throttled(100.1, time.time(), sent_at=100.0, delay=None, is_limit=True, source=seeded(1))
    tried_at, _ = reserve(state, 100.2, reserved=None)
    assert pytest.approx(100.1 + hold.seconds) == tried_at
    for now in (100.2, tried_at):
        turn, seconds = reserve(state, now, reserved=None)
        assert turn is None
        assert 0 < seconds <= 5
    assert None is not reserve(state, tried_at + 3, reserved=None)[0]


def test_no_turns_when_the_day_is_used_up():
    """The day's last request is the last: a turn that was reserved before is void as well."""
    state = sending(per_day=2)
    turn, _ = reserve(state, 100.0, reserved=None)
    state.allowance.quota.count(time.time(), 2)
    assert None is reserve(state, turn, reserved=turn)[0]
    assert None is reserve(state, turn, reserved=None)[0]
    assert math.isfinite(reserve(state, turn, reserved=None)[1])
