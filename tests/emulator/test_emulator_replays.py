"""An emulator that bills a key once."""

import pytest

FIELDS = {"model": "black-forest-labs/FLUX.1-schnell", "prompt": "a flying cat", "width": 16, "height": 16, "seed": -1}


def ask(rig, key="k1", **fields):
    """Ask for a picture under a key."""
    return rig.http.post("/images/generation", json=FIELDS | fields, headers={"Idempotency-Key": key})


@pytest.fixture
def replaying(start):
    """Start an emulator that replays keys."""
    return start(replays=True)


def test_a_key_is_billed_once_and_answered_alike(replaying):
    """The same request under the same key gives the same picture again, also by a drawn seed, for no more money."""
    first, again, other = (ask(replaying, key) for key in ("k1", "k1", "k2"))

    assert first.json()["data"][0]["b64_json"] == again.json()["data"][0]["b64_json"]
    assert first.json()["data"][0]["b64_json"] != other.json()["data"][0]["b64_json"]
    assert [1, 0, 1] == [record.images_charged for record in replaying.emulator.journal.generations]


def test_a_fault_that_was_billed_is_made_good(start):
    """A reply that was lost is there under its key, whatever came instead of it."""
    rig = start(replays=True, faults=["504:@1"])
    statuses = [ask(rig).status_code for _ in range(2)]

    assert [504, 200] == statuses
    assert 1 == rig.emulator.journal.charged


def test_another_request_under_a_used_key_is_refused(replaying):
    """A key stands for one request: another one under it is a 422 and costs nothing."""
    assert [200, 422] == [ask(replaying).status_code, ask(replaying, prompt="a flying dog").status_code]
    assert 1 == replaying.emulator.journal.charged


def test_a_reset_forgets_keys(replaying):
    """After a reset a key is new."""
    ask(replaying)
    replaying.emulator.reset()
    ask(replaying)

    assert 1 == replaying.emulator.journal.charged


def test_keys_mean_nothing_unless_asked_for(rig):
    """Like the real API as far as is known, an emulator bills every request, whatever its key."""
    assert [200, 200] == [ask(rig).status_code for _ in range(2)]
    assert 2 == rig.emulator.journal.charged
