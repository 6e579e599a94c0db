"""What a failing service charges, in simulated time: never more than allowed, and always what the call says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # the long runs of the same are there

import charges

CUT_CALLS, FAILING_CALLS = 40, 300


@pytest.mark.parametrize("cut", charges.CUTS, ids=lambda cut: cut.name)
@pytest.mark.parametrize(("policy", "allowed"), [("default", {1, 2}), ("resend_unknown=0", {1}), ("replay", {1})])
@pytest.mark.parametrize("setting", charges.SETTINGS)
def test_a_gateway_cut_is_paid_for_at_most_as_often_as_allowed(cut, policy, allowed, setting):
    """When the gateway cuts replies off and the work is billed, a call is charged at most twice, or once where nothing
    unknown is re-sent or the server replays; and its `charges` hold what it cost (F30).
    """
    rate, clients = charges.SETTINGS[setting]
    done = charges.run(charges.Service(cut, rate), CUT_CALLS, charges.POLICIES[policy], **clients)

    assert CUT_CALLS == len(done.told)
    assert allowed.issuperset(done.charges)
    assert 0 == done.wrong


@pytest.mark.parametrize("failure", charges.FAILURES, ids=lambda failure: failure.name)
@pytest.mark.parametrize("rate", charges.RATES)
def test_a_failing_service_is_not_stormed(failure, rate):
    """At any rate of failure a client sends at most a tenth more than it is asked for, and ten requests (F29)."""
    done = charges.run(charges.Service(failure, rate), FAILING_CALLS, {}, is_shared=True)

    assert FAILING_CALLS == len(done.told)
    assert charges.MOST_AMPLIFIED * FAILING_CALLS + charges.STARTING_RESENDS >= done.sends()
    assert 0 == done.wrong
