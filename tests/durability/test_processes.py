"""One process at a time works on a job; one that is held up, or lost, leaves it to the next."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from disk_errors import witness
from job_invariants import violations
from small_job import SmallJob

from nebula_async.emulator import Emulator

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="there is no SIGSTOP here")

USAGE = 2
LONGEST_REFUSAL_SECONDS = 1.0


def go(process: subprocess.Popen[str]) -> None:
    """Let a job begin that has loaded its code."""
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for something that a running process brings about."""
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def hold(process: subprocess.Popen[str]) -> None:
    """Stop a process, and return once it stands still."""
    process.send_signal(signal.SIGSTOP)
    until(lambda: "\nState:\tT" in Path(f"/proc/{process.pid}/status").read_text(), process)


def held_in_the_middle(job: SmallJob, processes, **options) -> subprocess.Popen[str]:
    """Start a job and hold it once its server was asked for a picture."""
    process = processes.enter_context(job.start(**options))
    processes.callback(process.kill)
    go(process)
    until(lambda: job.emulator.journal.generations, process)
    hold(process)
    return process


def refusal(job: SmallJob) -> tuple[int, str, float]:
    """Start a job that somebody has; return how it ended, what it said, and after how many seconds."""
    with job.start() as process:
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        _, said = process.communicate("go\n")
    return process.returncode, said, time.monotonic() - started


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc here")
def test_a_second_process_is_refused_and_the_first_goes_on(begin, processes):
    """While one process has a job, also one that stands still, another is refused within a second, told which it is
    (F56, F58).
    """
    job = begin()
    first = held_in_the_middle(job, processes)

    refusals = [refusal(job) for _ in range(3)]
    assert {USAGE} == {code for code, *_ in refusals}
    assert all(str(first.pid) in said for _, said, _ in refusals)
    assert min(seconds for *_, seconds in refusals) < LONGEST_REFUSAL_SECONDS

    first.send_signal(signal.SIGCONT)
    _, said = first.communicate()
    assert (0, "") == (first.returncode, said)
    assert [] == violations(witness(job))
    assert 0 == witness(job).extra


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc here")
def test_the_lock_of_a_process_that_was_killed_is_no_lock(begin, processes):
    """What a killed process had is free: the next run goes on at once (F59)."""
    job = begin()
    first = held_in_the_middle(job, processes)
    first.kill()
    first.wait()

    assert 0 == job.run().code
    assert [] == violations(witness(job))
    assert 1 >= witness(job).extra


def test_kills_in_the_middle_of_many(folder):
    """However often a job of many pictures is killed, each kill costs at most what was in flight, and all are there
    (F54, D13).
    """
    in_flight, kills = 4, 8
    with Emulator(credit="1000") as emulator:
        job = SmallJob.begun(folder, emulator, items=120, options=("--concurrency", str(in_flight)))
        for kill in range(kills):
            wanted = (kill + 1) * 120 // (kills + 4)
            with job.start() as process:
                go(process)
                until(lambda wanted=wanted: len(emulator.journal.generations) >= wanted, process)
                process.kill()
                process.communicate()
            assert [] == violations(witness(job), is_over=False)
            assert 1 >= sum(item.row["duplicates"] for item in witness(job).kept.items.values())  # of 120, unasked
        ended = job.run("--resend-unknown")
        ended = job.run("--resend-unknown") if ended.code == 1 else ended
        assert (0, "") == (ended.code, ended.said)
        assert [] == violations(witness(job))
        assert in_flight * kills >= witness(job).extra
