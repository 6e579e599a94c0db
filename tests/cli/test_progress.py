"""How a run is going, on real terminals and in logs."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import termios
import time
from types import SimpleNamespace

import pytest
from attrs import evolve
from terminals import Screen, let_go, on_terminal, uncoloured

from nebula_async import AsyncNebula, BulkJob
from nebula_async.bulk.plan import make_plan
from nebula_async.cli.tally import Tally
from nebula_async.engine.quota import DAY_SECONDS

SMALL = ("--width", 64, "--height", 64)
KEY = "sk-emulator"
LINE = r"\d+ done, \d+ failed, \d+ left, .*\$\d"


def prompts(shell, items: int) -> str:
    """Write a manifest of so many prompts."""
    return shell.write("prompts.txt", *(f"cat {number}" for number in range(items)))


def given(shell, server, items: int) -> tuple[object, ...]:
    """Return the arguments of a job of so many items at a server."""
    where = ("--base-url", server.base_url, "--concurrency", 4, "--no-gallery", "--yes")
    return ("bulk", prompts(shell, items), *SMALL, *where)


def test_progress_is_one_calm_line_on_a_terminal(shell, start):
    """A bar shows how far it is and how long it will take; it never wraps, changes slowly, and leaves no trace."""
    server, began = start(latency=0.08), time.monotonic()
    with on_terminal(shell, *given(shell, server, 24)) as (process, seen):
        let_go(seen)
        written = uncoloured(seen.read_to_end())
        assert 0 == process.wait()
    screen = Screen(80).feed(written)
    drawn = [line for line in screen.lines_drawn if "left" in line]
    line = (
        r"[━─]+ \d+ done, (0 failed, )?\d+ left · [\d,]+( a minute|/min) · \$0\.0\d+ of (~|about )\$0\.0456 · \d s left"
    )
    assert any(re.fullmatch(line, text) for text in drawn)
    assert 4 * (time.monotonic() - began) >= len(drawn)
    assert 80 > max(map(len, drawn))
    assert "24 of 24 items done" == screen.rows[[bool(re.search("disk: ", row)) for row in screen.rows].index(True) + 1]


def test_a_terminal_that_becomes_narrow_shows_less(shell, start):
    """After a resize the line is as long as there is room, and nothing of the old one is left on two rows."""
    server = start(latency=0.3)
    with on_terminal(shell, *given(shell, server, 200), columns=100) as (process, seen):
        seen.read_until(r"[1-9]\d* done, 0 failed, \d+ left")
        seen.resize(30)
        line = seen.read_until(r"\x1b\[J[^\x1b]*\x1b\[K")
        assert 30 > len(re.findall(r"\x1b\[J([^\x1b]*)\x1b\[K", uncoloured(line))[0])
        process.send_signal(signal.SIGINT)
        seen.read_until("finishing")
        let_go(seen)
        seen.read_to_end()
        assert 130 == process.wait()


PLAIN = {
    "dumb": ({"TERM": "dumb"}, LINE, r"\x1b"),
    "no colour": ({"NO_COLOR": "1"}, r"─ \d.* left", r"\x1b\[\d*m"),
    "ascii": ({"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}, r"#-+ \d.* left", "[^\x00-\x7f]"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_terminal_is_shown_what_it_can_show(shell, start, name):
    """Without cursor codes there are lines, with NO_COLOR no colours, without Unicode letters of ASCII alone."""
    environment, wanted, unwanted = PLAIN[name]
    server = start(latency=0.08)
    with on_terminal(shell, *given(shell, server, 20), **environment) as (process, seen):
        let_go(seen)
        written = seen.read_to_end()
        assert 0 == process.wait()
    assert re.search(wanted, written)
    run = written[written.index("are free") : written.rindex("20 of 20 items done")]
    assert None is re.search(unwanted, run)


def test_a_terminal_that_nobody_reads_holds_no_run_up(shell, start):
    """With the terminal stopped (Ctrl-S) all pictures are stored in the time that they take, and failures are told to
    nobody.
    """
    server = start(faults=["400:0.5"])
    with on_terminal(shell, *given(shell, server, 300), stdout=subprocess.DEVNULL) as (process, seen):
        seen.read_until("are free")
        termios.tcflow(seen.follower, termios.TCOOFF)
        assert 1 == process.wait(timeout=30)
    assert 300 == len(server.journal.generations)


def test_a_log_says_how_it_is_going(shell, start):
    """Without a terminal there is a line after a second, one every few seconds, and a right last one."""
    server = start(latency=0.1)
    result = shell.run(*given(shell, server, 24), key=KEY)
    lines = [line for line in result.err.splitlines() if re.match(LINE, line)]
    assert (0, True) == (result.code, 2 <= len(lines) <= 4)
    assert re.fullmatch(r"\d+ done, 0 failed, \d+ left, .* of about \$0\.0456, .*\d+ s left", lines[0])
    assert re.fullmatch(r"24 done, 0 failed, 0 left, 24 pictures in \d\.\d s, \d+ a minute, \$0\.0456", lines[-1])


def test_the_counts_are_those_of_the_whole_job(shell, start):
    """A run that goes on begins at what is done and failed already, with what is left of the time."""
    server = start(faults=["400:@2"])
    first = shell.run(*given(shell, server, 24), "--max-images", 8, key=KEY)
    assert re.search(r"^8 done, 1 failed, 15 left, 8 pictures in ", first.err, re.MULTILINE)
    second = shell.run(*given(shell, server, 24), key=KEY)
    assert re.search(r"^23 done, 1 failed, 0 left, 15 pictures in ", second.err, re.MULTILINE)
    again = shell.run(*given(shell, server, 24), "--retry-failed", key=KEY)
    assert re.search(r"^24 done, 0 failed, 0 left, 1 picture in ", again.err, re.MULTILINE)


def test_a_job_with_nothing_to_do_says_nothing_of_progress(shell, emulator):
    """Run again, a finished job tells its summary alone."""
    assert 0 == shell.run(*given(shell, emulator, 2), key=KEY).code
    assert "" == shell.run(*given(shell, emulator, 2), key=KEY).err


def test_refusals_are_counted_and_their_waits_shown(shell, start):
    """While the limit is waited for the line says for how long; how often requests were refused stands there too."""
    server = start(per_minute=6, window="fixed", retry_after="seconds")
    with on_terminal(shell, *given(shell, server, 30), columns=160) as (process, seen):
        seen.read_until(r"· waiting \d+ s: too many requests · .*\d+ throttled · ")
        process.send_signal(signal.SIGINT)
        seen.read_until("finishing what is in flight: ")
        let_go(seen)
        seen.read_to_end()
        assert 130 == process.wait()


@pytest.mark.anyio
async def test_the_time_left_waits_for_the_next_days(tmp_path):
    """With a daily limit that is known, what does not fit today is counted from midnight on, and the line says why."""
    async with AsyncNebula(KEY, base_url="http://127.0.0.1:9/api/v1", tier="engineer-1") as nebula:
        quota, now = nebula._wiring.gate.account.quota, time.time()
        per_day, to_midnight = quota.per_day, DAY_SECONDS - now % DAY_SECONDS
        items = [f"cat {number}" for number in range(2 * per_day)]
        async with BulkJob(items, tmp_path / "out", nebula, defaults={"model": "m"}) as job:
            plan = make_plan((await job.rest())[0], nebula.config, name="cats", now=now)
            tally = await Tally.of(job, nebula, plan)
            assert to_midnight < tally.standing().seconds_left < DAY_SECONDS
            quota.count(now, per_day)
            standing = (await Tally.of(job, nebula, plan)).standing()
    assert ("quota", per_day, per_day) == (standing.course, standing.used_today, standing.per_day)
    assert to_midnight + DAY_SECONDS < standing.seconds_left < 2 * DAY_SECONDS + 3_600
    assert standing.course_seconds == pytest.approx(to_midnight, abs=60)


@pytest.mark.anyio
async def test_holds_without_end_promise_no_end(tmp_path):
    """Where hold follows hold and nothing comes of it, no time left is made up; the first may be one that ends."""
    async with (
        AsyncNebula(KEY, base_url="http://127.0.0.1:9/api/v1", rate_limit=1 / 60) as nebula,
        BulkJob(["a cat", "two cats"], tmp_path / "out", nebula, defaults={"model": "m"}) as job,
    ):
        plan = make_plan((await job.rest())[0], nebula.config, name="cats", now=time.time())
        tally, told = await Tally.of(job, nebula, plan), []
        for held in (110.0, 0.0) * 5:
            tally.nebula = SimpleNamespace(limits=evolve(nebula.limits, held_seconds=held))
            tally._looked_at, tally._ended_at = -math.inf, tally._ended_at - 55
            told.append(tally.standing().seconds_left is not None)
    assert [True] * 6 + [False] * 4 == told


def test_an_api_that_does_not_answer_is_said(shell, start):
    """While nobody is answered, the line says so, and no time left is made up."""
    server = start(faults=["503:1"])
    with on_terminal(shell, *given(shell, server, 30), columns=120) as (process, seen):
        line = seen.read_until(r"the API does not answer: asking now and then · [^\r]*\x1b\[K")
        assert None is re.search(r"\d s left", line.rpartition("the API does not answer: ")[2])
        process.send_signal(signal.SIGINT)
        let_go(seen)
        seen.read_to_end()
        assert 130 == process.wait()


def test_failures_are_told_up_to_a_number(shell, start):
    """When a whole job fails, twenty lines are enough; each has its item, its prompt, the cause and what it cost."""
    server = start(faults=["400:1"])
    result = shell.run(*given(shell, server, 30), key=KEY)
    told = [line for line in result.err.splitlines() if line.startswith("failed: ")]
    assert (1, 20) == (result.code, len(told))
    line = re.fullmatch(r"failed: item (\d+), 'cat (\d+)': the API answered: .*\(HTTP 400.*\); not charged", told[0])
    assert line[1] == line[2]  # the number in names of files, metadata and events, which begins at 0
    assert "more failures are noted in the job's ledger, and not told one by one\n" in result.err


def test_lines_on_a_terminal_are_wrapped_at_words(shell, start):
    """Plan, notes and failures go on further in, below their own beginning; a failure takes two rows at most."""
    server = start(faults=["400:@2"])
    prompts = shell.write("prompts.txt", "a moon number one above the sea of tranquility", "two moons, in oil")
    given = ("bulk", prompts, *SMALL, "--seed", 7, "--model", "stabilityai/stable-diffusion-xl-base-1.0")
    given += ("--no-gallery", "--base-url", server.base_url, "--concurrency", 1)
    with on_terminal(shell, *given, columns=60) as (process, seen):
        let_go(seen)
        written = uncoloured(seen.read_to_end())
        assert 1 == process.wait()
    rows = Screen(60).feed(written).rows
    at = next(number for number, row in enumerate(rows) if row.startswith("failed: item 1, 'two moons,…': the API"))
    assert [True, False] == [row.startswith("  ") for row in rows[at + 1 : at + 3]]
    assert rows[at + 1].endswith("; not charged")
    told = rows[: rows.index("1 of 2 items done, 1 refused")]
    wrapped = [row for row in told if row.startswith("  ") and not row.startswith("  stabilityai")]
    assert 3 <= len(wrapped)
    assert written.count("\n") >= len(told)  # the terminal itself broke none


def test_a_model_that_is_not_known_is_told_once(shell, start):
    """The plan says what is doubtful about it, and the run does not say it again."""
    server = start()
    result = shell.run(*given(shell, server, 3), "--model", "no/such-model", key=KEY)
    assert 1 == result.err.count("note: "), result.err
    assert "note: no/such-model is not in the API's list of models (3 items)\n" in result.err


def test_quiet_says_nothing_but_what_failed(shell, start):
    """With --quiet a good run is silent on both streams; a failure, and what stops a job, are told on stderr."""
    server = start(faults=["400:@3", "402:@7-99"])
    good = shell.run(*given(shell, server, 8), "--quiet", "--max-images", 2, key=KEY)
    assert (3, "") == (good.code, good.out)
    assert re.fullmatch(r"nebula-async: stopped: the budget of 2 pictures .*\n", good.err)
    failed = shell.run(*given(shell, server, 8), "--quiet", key=KEY)
    assert (3, "") == (failed.code, failed.out)
    assert ["failed: item", "nebula-async: stopped:"] == sorted(
        {re.match(r"failed: item|nebula-async: \w+:|", line)[0] for line in failed.err.splitlines()}
    )


def test_a_silent_run_that_is_good_is_silent(shell):
    """Nothing at all is said of a job that went well, its emulator included."""
    result = shell.run("bulk", prompts(shell, 3), *SMALL, "--emulator", "--quiet")
    assert (0, "", "") == (result.code, result.out, result.err)


def test_one_picture_that_takes_long_is_waited_for_aloud(shell, start):
    """After a few seconds `generate` says how long it waits, on a terminal's stderr alone."""
    server = start(faults=["delay=60:@1-2"])
    arguments = ("generate", "a cat", *SMALL, "--base-url", server.base_url)
    read, write = os.pipe()
    with on_terminal(shell, *arguments, stdout=write) as (process, seen):
        seen.read_until(r"waiting for the picture: 4 s")
        process.send_signal(signal.SIGINT)
        let_go(seen)
        seen.read_to_end()
        assert 130 == process.wait()
    os.close(write)
    assert b"" == os.read(read, 100)
    os.close(read)
    last = Screen(80).feed(uncoloured(seen.written)).rows
    assert ["nebula-async: interrupted; a request that was under way may have been paid for", ""] == last
