"""`bulk --json`: a run as events for programs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess

import pytest

SMALL = ("--width", 64, "--height", 64)
KEY = "sk-emulator"


def events_of(text: str) -> list[dict]:
    """Return the events; every line has to be an object with a name and a time."""
    assert text.endswith("\n")
    events = [json.loads(line) for line in text.splitlines()]
    assert all({"event", "time"} <= event.keys() for event in events)
    return events


def named(events: list[dict], name: str) -> list[dict]:
    """Return the events of a name."""
    return [event for event in events if event["event"] == name]


def test_a_run_is_told_as_events_and_nothing_else(shell, start):
    """Plan, start, each item, progress, and the values of report.json at the end; stderr stays empty."""
    server = start(faults=["400:@2"])
    manifest = shell.write("prompts.txt", *(f"cat {number} é🐈" for number in range(5)))
    result = shell.run("bulk", manifest, *SMALL, "--base-url", server.base_url, "--json", key=KEY)
    events = events_of(result.out)
    assert (1, "", True) == (result.code, result.err, result.out.isascii())
    assert ["plan", "start"] == [event["event"] for event in events[:2]]
    assert ["progress", "report"] == [event["event"] for event in events[-2:]]
    assert (5, 0, 0, 5) == tuple(events[1][name] for name in ("total", "done", "failed", "left"))
    items = named(events, "item")
    assert {0, 1, 2, 3, 4} == {item["number"] for item in items}
    assert ["done"] * 4 + ["failed"] == sorted(item["status"] for item in items)
    (failed,) = [item for item in items if item["status"] == "failed"]
    assert ([], {"at_least": 0, "at_most": 0}, True) == (
        failed["files"],
        failed["charges"],
        failed["cause"].startswith("BadRequestError"),
    )
    for item in items:
        assert all((shell.folder / file).is_file() for file in item["files"])
    done = next(item for item in items if item["status"] == "done")
    assert ({"at_least": "0.0019", "at_most": "0.0019"}, 1, True) == (
        done["cost"],
        done["attempts"],
        isinstance(done["seed"], int),
    )
    assert (4, 1, 0, "0.0076") == (
        *(events[-2][name] for name in ("done", "failed", "left")),
        events[-2]["cost"]["at_most"],
    )
    report, written = events[-1], json.loads((shell.folder / "prompts/report.json").read_text())
    assert (1, "prompts/gallery/index.html") == (report["exit_code"], report["gallery"])
    assert {name: value for name, value in written.items() if name != "written"} == {
        name: report[name] for name in written if name != "written"
    }


def test_a_finished_job_is_told_too(shell, emulator):
    """With nothing to send there is no plan, and the report says that all is done."""
    given = ("bulk", shell.write("prompts.txt", "a cat"), *SMALL, "--base-url", emulator.base_url, "--json")
    assert 0 == shell.run(*given, key=KEY).code
    again = shell.run(*given, key=KEY)
    assert ["start", "progress", "report"] == [event["event"] for event in events_of(again.out)]


def test_a_program_that_reads_one_line_ends_no_job(shell, emulator):
    """After `| head -1` all pictures are stored, and the exit code is that of the job."""
    manifest = shell.write("prompts.txt", *(f"cat {number}" for number in range(40)))
    process = shell.start("bulk", manifest, *SMALL, "--base-url", emulator.base_url, "--json", key=KEY)
    assert "plan" == json.loads(process.stdout.readline())["event"]
    process.stdout.close()
    assert 0 == process.wait(timeout=60)
    assert (40, "") == (emulator.journal.charged, process.stderr.read())


def test_a_program_that_does_not_read_holds_nothing_up(shell, emulator):
    """All is made while nobody reads, and then all events are there."""
    manifest = shell.write("prompts.txt", *(f"cat {number} {'x' * 2000}" for number in range(150)))
    process = shell.start("bulk", manifest, *SMALL, "--base-url", emulator.base_url, "--json", key=KEY)
    report = shell.folder / "prompts" / "report.json"
    while not report.exists():
        assert None is process.poll()
    events = events_of(shell.ended(process).out)
    assert (150, "report") == (len(named(events, "item")), events[-1]["event"])


def test_a_signal_and_refusals_are_notices(shell, start):
    """What people are told meanwhile is told as notices with names that stay; the report says how it ended."""
    server = start(per_minute=6, window="fixed", retry_after="seconds")
    manifest = shell.write("prompts.txt", *(f"cat {number}" for number in range(30)))
    process = shell.start("bulk", manifest, *SMALL, "--base-url", server.base_url, "--json", key=KEY)
    said = ""
    while '"name":"held"' not in said:
        said += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    events = events_of(said + shell.ended(process).out)
    assert {"held", "draining"} <= {event["name"] for event in named(events, "notice")}
    assert (130, True) == (events[-1]["exit_code"], events[-1]["this_run"]["interrupted"])
    assert {"held", "running", "draining"} >= {event["state"] for event in named(events, "progress")}


WRONG = {
    "input": ('{"prompt": 1}', (), 2, "prompts.jsonl cannot be used"),
    "budget": ('{"prompt": "a", "model": "no/such"}', ("--max-cost", 1), 2, "the price of no/such is not known"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_that_ends_the_command_is_an_event_and_a_sentence(shell, emulator, name):
    """A program learns of it on stdout, with the exit code, and people on stderr."""
    line, options, code, said = WRONG[name]
    given = ("bulk", shell.write("prompts.jsonl", line), *options, "--base-url", emulator.base_url, "--json")
    result = shell.run(*given, key=KEY)
    event = events_of(result.out)[-1]
    assert (code, "error", code) == (result.code, event["event"], event["exit_code"])
    assert said in event["error"]
    assert result.err.startswith(f"nebula-async: {said}")


def test_two_ways_to_be_told_are_one_too_many(shell):
    """--json and --quiet together are refused in one sentence, and nothing is sent."""
    result = shell.run("bulk", shell.write("prompts.txt", "a cat"), "--emulator", "--json", "--quiet")
    assert (2, "") == (result.code, result.out)
    assert re.fullmatch(r"nebula-async: --json and --quiet .*; give one.*\n", result.err)


def test_a_closed_stdout_is_no_error(shell):
    """A job whose events nobody can get is made all the same, and nothing is mixed into another file."""
    manifest = shell.write("prompts.txt", "a cat")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEBULA_", "PYTHON"))}
    words = [shell.command, "bulk", manifest, *map(str, SMALL), "--emulator", "--json"]
    command = ["/bin/sh", "-c", '"$@" >&-', "sh", *map(str, words)]
    done = subprocess.run(command, cwd=shell.folder, env=clean, capture_output=True, timeout=60, check=False)
    assert (0, b"") == (done.returncode, done.stderr)
