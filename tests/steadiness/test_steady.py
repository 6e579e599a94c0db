"""The search for flakes: what it takes for one, and where it goes on."""

from __future__ import annotations

import json

import pytest
import steady
from attrs import asdict, evolve

STEADY = steady.Run(exit_code=0, seconds=400.0, passed=3, skipped=1, failed=[])

TOLD = """
........................................................................ [ 50%]
=========================== short test summary info ============================
SKIPPED [1] tests/test_a.py:3: no redis-server here
FAILED tests/test_a.py::test_b[FAILED c-asyncio] - AssertionError: assert 1 - 2 == 3
ERROR tests/test_a.py::test_d
1 failed, 7 passed, 1 skipped, 1 error in 65.05s (0:01:05)
"""


def test_what_failed_is_named():
    """Each test that failed, or whose fixtures did, is named, beside how many passed and were skipped."""
    failed = ["tests/test_a.py::test_b[FAILED c-asyncio]", "tests/test_a.py::test_d"]
    assert steady.Run(1, 65.0, 7, 1, failed) == steady.run_of(1, 65.04, TOLD)


@pytest.mark.parametrize(
    ("change", "exit_code"),
    [
        ({}, 0),
        ({"failed": ["tests/test_a.py::test_b"], "exit_code": 1}, 1),
        ({"exit_code": 3}, 1),
        ({"seconds": 481.0}, 1),
    ],
)
def test_one_run_that_is_not_steady_is_enough(change, exit_code, capsys):
    """A test that failed once, a run that ended oddly or took too long is told, and ends the command with 1."""
    assert exit_code == steady.tell([STEADY, evolve(STEADY, **change), STEADY])
    assert f"{exit_code} of 3 runs were not steady" in capsys.readouterr().out


def test_what_a_failing_run_said_is_kept(tmp_path):
    """A flake may not come again: what pytest said of it lies beside the notes, and of a run without one nothing."""
    notes = tmp_path / "abc.jsonl"
    list(steady.all_runs(notes, 1, ["-c", "print('1 passed in 0.1s')"]))
    list(steady.all_runs(notes, 2, ["-c", "print('E  assert 1'); raise SystemExit(1)"]))
    assert {"abc.jsonl", "abc-2.log"} == {path.name for path in tmp_path.iterdir()}
    assert "E  assert 1\n" == (tmp_path / "abc-2.log").read_text()


def test_runs_that_are_noted_are_not_run_again(tmp_path):
    """Who goes on with a search is told the runs that there were, and none is run anew."""
    notes = tmp_path / "abc.jsonl"
    notes.write_text("".join(json.dumps(asdict(evolve(STEADY, seconds=each))) + "\n" for each in (1.0, 2.0, 3.0)))
    assert [1.0, 2.0] == [run.seconds for run in steady.all_runs(notes, 2, [])]
    assert 3 == len(list(steady.all_runs(notes, 3, [])))
