"""FastAPI on a real uvicorn while its clients leave, and while it is told to end: nothing is left, nothing is lost.

The long run of the same is `benchmarks/web.py`.
"""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from web_departures import rage
from web_ending import end

SEED = 3
LEAVING, AT_ONCE = 40, 20
LONGEST_SECONDS = 1.0
CLIENTS = 30


@pytest.fixture(scope="module")
def storms():
    """What 40 clients leave behind that leave an application at all moments, for each policy."""
    return {
        policy: rage(policy, SEED, leaving=LEAVING, longest_seconds=LONGEST_SECONDS, concurrency=AT_ONCE)
        for policy in ("cancel", "finish")
    }


@pytest.mark.parametrize("policy", ["cancel", "finish"])
class TestClientsThatLeave:
    """Clients leave while they ask, wait, and are answered, in order and by a reset."""

    def test_nothing_of_them_is_left(self, storms, policy):
        """No task, no connection to the API that is in use, no descriptor and no slot remains."""
        assert not any(storms[policy].left.values()), storms[policy].left

    def test_every_charge_is_accounted_for(self, storms, policy):
        """What the client tells of each call agrees with what the service charged for it, and nothing is astray."""
        assert storms[policy].account.problems(policy) == []

    def test_those_who_ask_next_are_served(self, storms, policy):
        """As many clients as have left get their pictures afterwards, each for one charge."""
        assert storms[policy].next_statuses == [200] * LEAVING
        assert storms[policy].next_charged == LEAVING


def test_calls_are_broken_off_for_those_who_left(storms):
    """With `cancel`, calls end with their clients, some before they were sent: the service is asked for less."""
    cancelled, finished = storms["cancel"].account, storms["finish"].account
    assert cancelled.books.count("Abandoned") > 0
    assert cancelled.stored == 0
    assert cancelled.billed < finished.billed


def test_calls_are_finished_for_those_who_left(storms):
    """With `Finish`, no call is broken off, and what nobody waited for is in the sink."""
    finished = storms["finish"].account
    assert finished.books.count("Abandoned") == 0
    assert finished.stored > 0


def test_an_application_that_ends_finishes_what_was_begun():
    """After a SIGTERM all who wait are served, and the pictures of those who left are stored, within the grace."""
    ending = end(20.0, SEED, clients=CLIENTS)
    assert ending.problems == []
    assert ending.served == CLIENTS // 2


def test_an_application_without_time_to_end_says_what_it_may_have_cost():
    """What is cancelled after the grace is told as abandoned, with bounds that hold; who waits gets an answer."""
    ending = end(0.2, SEED, clients=CLIENTS)
    assert ending.problems == []
    assert ending.broken == 0
    assert ending.refused > 0
