"""A process that runs into a limit of the system stops with a reason, and the next one goes on."""

from __future__ import annotations

import pytest
from disk_errors import witness
from job_invariants import violations
from test_lost_folders import can

pytestmark = pytest.mark.skipif(not can("prlimit", "--nofile=64", "true"), reason="prlimit is not on this machine")


@pytest.mark.parametrize("limit", [40_000, 80_000, 160_000, 240_000])
def test_files_that_may_not_grow(begin, limit):
    """Where no file may grow beyond a limit, also the ledger's, nothing is lost: the run after it finishes (F48)."""
    job = begin("--concurrency", "2", items=6)
    ended = job.run(under=("prlimit", f"--fsize={limit}"))
    assert not ended.has_crashed, ended.said
    assert ended.code in (0, 2, 3)
    assert ended.code == 0 or ended.said
    if job.emulator.journal.generations:
        assert [] == violations(witness(job), is_over=False)

    again = job.run()
    again = job.run("--resend-unknown", "--retry-failed") if again.code == 1 else again
    assert (0, "") == (again.code, again.said)
    assert [] == violations(witness(job))
    assert 2 >= witness(job).extra


@pytest.mark.parametrize("limit", [12, 18, 40])
def test_too_few_descriptors(begin, limit):
    """Where descriptors run out (EMFILE) nothing is lost, and with enough of them the job is finished (F50)."""
    job = begin("--concurrency", "8", items=12)
    ended = job.run(under=("prlimit", f"--nofile={limit}"))
    assert not ended.has_crashed, ended.said
    assert ended.code in (0, 1, 2, 3)
    if job.emulator.journal.generations:
        assert [] == violations(witness(job), is_over=False)

    again = job.run()
    again = job.run("--resend-unknown", "--retry-failed") if again.code == 1 else again
    assert (0, "") == (again.code, again.said)
    assert [] == violations(witness(job))
    assert 0 == witness(job).extra
