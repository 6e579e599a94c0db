"""A disk that fails or is full stops a job before more is bought; what was paid for is kept, or said to be lost."""

from __future__ import annotations

import pytest
from disk_errors import FAILING, FULL, SOME_FAILED, Failed, fail, places_to_fail
from kill_points import Bench
from system_calls import needs_strace

pytestmark = needs_strace


@pytest.mark.parametrize(("error", "calls", "every"), [(*FULL, 48), (*FAILING, 14)])
def test_a_disk_that_fails_at_one_call(folder, error, calls, every):
    """No room, or an error, at any write, link or sync: said in words, nothing lost unsaid, and the next run finishes
    (F48, F49).

    Nothing is believed of a file whose sync failed: it is not synced again, and where it is the ledger nothing is sent.
    """
    with Bench.open(folder) as bench:

        def meet(place) -> Failed:
            with bench.job() as job:
                return fail(job, place, error)

        met = [*bench.spread(meet, places_to_fail(bench.points(), calls)[1::every])]
    assert [] == [(str(failed.place), failed.problems) for failed in met if failed.problems]
    assert 1 >= max(failed.extra for failed in met)
    assert all(failed.ended.code > SOME_FAILED or failed.ended.code == 0 for failed in met)
