"""A clock that is set while a job runs, or between two runs, changes nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from disk_errors import witness
from job_invariants import violations
from test_processes import held_in_the_middle

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not on this machine")


def clock(folder: Path, setting: str) -> dict[str, str]:
    """Return the environment of a process whose wall clock follows a file; its other clocks are true."""
    set_clock(folder, setting)
    return {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(folder: Path, setting: str) -> None:
    """Set the clock."""
    (folder / "clock").write_text(f"{setting}\n")


@pytest.mark.parametrize("jumps", [("+0d", "+1d"), ("+0d", "-1d"), ("-30y", "+30y")])
def test_a_clock_that_jumps_in_the_middle(begin, processes, folder, jumps: Sequence[str]):
    """A job goes on at its pace whichever way the clock is set, and its ledger stays true (F47)."""
    job = begin(items=6)
    process = held_in_the_middle(job, processes, **clock(folder, jumps[0]))
    set_clock(folder, jumps[1])
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate()

    assert (0, "") == (process.returncode, said)
    assert [] == violations(witness(job))
    assert 0 == witness(job).extra


def test_a_clock_that_is_set_back_between_two_runs(begin, processes, folder):
    """A job that was killed goes on although it is yesterday now (F47)."""
    job = begin()
    process = held_in_the_middle(job, processes, **clock(folder, "+0d"))
    process.kill()
    process.wait()

    assert 0 == job.run(**clock(folder, "-1d")).code
    assert [] == violations(witness(job))
    assert 1 >= witness(job).extra


def test_the_clock_is_really_another(folder):
    """A process under that environment sees the day that was set: the tests here are not blind."""
    program = "import time; print(time.time() > 2.5e9, time.monotonic() < 5e9)"
    done = subprocess.run([sys.executable, "-c", program], env=clock(folder, "+30y"), capture_output=True, text=True)
    assert "True True" == done.stdout.strip()
