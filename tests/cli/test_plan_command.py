"""`nebula-async plan` says what a job takes, and `bulk` asks before it spends much."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from decimal import Decimal

import pytest

from nebula_async.cli.budget_options import BudgetOptions
from nebula_async.cli.connection import Connection
from nebula_async.cli.inputs import Inputs
from nebula_async.cli.parameters import PictureParameters
from nebula_async.cli.plan import plan
from nebula_async.cli.planning import default_out, free_bytes

SCHNELL = "black-forest-labs/FLUX.1-schnell"
KEY = "sk-emulator"

COSTS = f"""\
to be sent: 2 requests for 2 pictures
  {SCHNELL}: 2 pictures at $0.0019 (the %s price)
cost: $0.0038
at worst: $0.0076, if every reply is lost and each picture is paid for 2 times
balance: %s
"""


def test_a_plan_needs_no_key_and_no_network(shell):
    """Rows, cost, time and disk are told from what is built in."""
    result = shell.run("plan", shell.write("prompts.txt", "a cat", "two cats"))
    assert (0, "") == (result.code, result.err)
    known = COSTS % ("built-in", "not known (not asked: no key)")
    assert result.out.startswith(f"prompts.txt: 2 items\n{known}time: about 5 s with 16 at a time, if each takes 4 s")
    assert ["prompts.txt"] == shell.files()


def test_with_a_key_the_account_is_asked_and_nothing_is_sent(shell, emulator):
    """Prices and balance are the account's own; no picture is asked for."""
    result = shell.run("plan", shell.write("prompts.txt", "a cat", "two cats"), key=KEY, at=emulator)
    assert (0, "") == (result.code, result.err)
    known = COSTS % ("account's", "$100.00, of which about $99.99 will be left")
    assert result.out.startswith(f"prompts.txt: 2 items\n{known}")
    assert () == emulator.journal.generations


def test_the_tour_has_an_account_of_its_own(shell):
    """`--emulator` plans against a server of the command's own, under its tier."""
    result = shell.run("plan", shell.write("prompts.txt", "a cat"), "--emulator", "--tier", "engineer-1", "--json")
    told = json.loads(result.out)
    assert (0, 58.8, True, 200) == (
        result.code,
        told["requests_per_minute"],
        told["is_limited_by_account"],
        told["requests_per_day"],
    )
    assert "1000000" == told["balance"].partition(".")[0]


def test_an_account_that_is_not_told_is_no_reason_for_no_plan(shell, emulator):
    """A refused key or an API that is not there is said in the plan, which stands on the built-in prices."""
    prompts = shell.write("prompts.txt", "a cat", "two cats")
    refused = shell.run("plan", prompts, key="not-a-key", NEBULA_BASE_URL=emulator.base_url)
    nobody = shell.run("plan", prompts, "--base-url", "http://127.0.0.1:9/api/v1", key=KEY)
    told = "prompts.txt: 2 items\n" + (COSTS % ("built-in", "not known (%s"))[:-1]
    assert (0, True) == (
        refused.code,
        refused.out.startswith(told % "the API answered: Missing or invalid API key (HTTP 401); check"),
    ), refused
    assert (0, True) == (nobody.code, nobody.out.startswith(told % "no connection could be made")), nobody


def test_all_lines_to_mend_are_told_by_number(shell):
    """Also more than a job that is refused names, on stdout, with the rest of the plan; the exit code is 2."""
    rows = ["{", *(json.dumps({"prompt": "a cat", "id": f"{number // 2}", "seed": number}) for number in range(60))]
    result = shell.run("plan", shell.write("prompts.jsonl", *rows))
    told = result.out.splitlines()
    at = told.index("nothing can be sent; lines to mend: 31")
    assert (2, "", "prompts.jsonl: 30 items") == (result.code, result.err, told[0])
    assert [f"  prompts.jsonl:{line}" for line in (1, *range(3, 62, 2))] == [
        line.rpartition(": ")[0].partition(": ")[0] for line in told[at + 1 :]
    ]
    shown = json.loads(shell.run("plan", "prompts.jsonl", "--json").out)
    assert (31, 31, 1) == (shown["bad_lines"], len(shown["bad"]), shown["bad"][0]["line"])


MISTAKES = [
    ("nope.txt", {}, "nope.txt cannot be read (No such file or directory)"),
    (
        "p.txt",
        {"budget": BudgetOptions(max_cost="lots")},
        "max_cost must be USD above 0, such as 5 or 2.50; got 'lots'",
    ),
    ("p.txt", {"budget": BudgetOptions(max_images=0)}, "max_images must be a whole number from 1 to "),
    ("p.txt", {"inputs": Inputs(limit=0)}, "limit must be a whole number from 1 to "),
    ("p.txt", {"inputs": Inputs(sample=-1)}, "sample must be a whole number from 1 to "),
    ("p.txt", {"connection": Connection(tier="gold")}, "tier must be one of "),
    ("p.txt", {"parameters": PictureParameters(n=3)}, "no line is for an API that has n: "),
    ("p.txt", {"concurrency": 0}, "concurrency must be a whole number from 1 to "),
]


@pytest.mark.parametrize(("manifest", "options", "sentence"), MISTAKES)
def test_what_bulk_would_refuse_is_refused(tmp_path, monkeypatch, capsys, manifest, options, sentence):
    """Wrong input and wrong options end in one sentence each, and nothing is planned."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("a cat\n")
    assert 2 == plan(manifest, **options)
    told = capsys.readouterr()
    assert ("", True) == (told.out, told.err.startswith(f"nebula-async: {sentence}")), told


def test_a_budget_that_cannot_be_kept_is_refused_and_explained(shell):
    """With a limit of money, a model without a known price is named; the plan is told all the same."""
    prompts = shell.write("prompts.txt", "a cat")
    given = ("plan", prompts, "--model", "a/b", "--max-cost", "$5")
    refused, allowed = shell.run(*given), shell.run(*given, "--allow-unknown-prices")
    assert (2, 0) == (refused.code, allowed.code)
    assert "budget: the price of a/b is not known, so max_cost cannot be kept" in refused.out
    assert "budget:" not in allowed.out


def test_standard_input_and_a_part_of_it_can_be_planned(shell):
    """What comes through a pipe is planned as a file is; limit, sample and copies count."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEBULA_", "PYTHON"))}
    for options, items in (("--limit", "2"), 2), (("--sample", "1", "--repeat", "2"), 1):
        done = subprocess.run(
            [shell.command, "plan", "-", *options],
            input="a cat\ntwo cats\nthree cats\n",
            capture_output=True,
            text=True,
            cwd=shell.folder,
            env=clean,
            timeout=60,
            check=False,
        )
        assert (0, "") == (done.returncode, done.stderr)
        assert done.stdout.startswith(f"standard input: {items} item")
    assert [] == shell.files()


def test_what_a_job_has_already_is_not_planned_again(shell):
    """Beside the folder of a job, only what is still to be sent costs something."""
    prompts = shell.write("prompts.txt", "a cat", "two cats")
    small = ("--width", 64, "--height", 64)
    assert 0 == shell.run("bulk", prompts, *small, "--emulator").code
    shell.write("prompts.txt", "a cat", "two cats", "three cats")
    assert "not sent again: 2 done\nto be sent: 1 request for 1 picture\n" in shell.run("plan", prompts, *small).out


QUESTION = """
import sys, anyio
from nebula_async.bulk.manifest.census import Census
from nebula_async.bulk.plan import make_plan
from nebula_async.bulk.manifest.tally import Share
from nebula_async.cli.connection import run
from nebula_async.cli.connection import Connection
from nebula_async.cli.inputs import Inputs
from nebula_async.cli.parameters import PictureParameters
from nebula_async.cli.plan import plan
from nebula_async.cli.planning import may_go_on
from nebula_async.config import Config
items = int(sys.argv[1])
models = {("serverless", sys.argv[2]): Share(items, items, 1)}
census = Census(total=items, pictures=items, settled={}, models=models, problems={}, repeated=frozenset(), chosen=None,
                bad=(), bad_count=0)
plan = make_plan(census, Config(), name="p", now=0)
async def ask():
    return 10 if await may_go_on(plan, yes="--yes" in sys.argv) else 11
sys.exit(run(ask))
"""
ASKED, SDXL = "send 101 requests for about $0.1919: go on? [y/N] ", "stabilityai/stable-diffusion-xl-base-1.0"


def ask(*arguments, answer=None, terminal=True):
    """Ask on a terminal, or elsewhere; return the exit code and what was said."""
    leader, follower = pty.openpty()
    streams = {"stdin": follower, "stdout": follower} if terminal else {"stdin": subprocess.DEVNULL, "stdout": follower}
    with subprocess.Popen(
        [sys.executable, "-c", QUESTION, *map(str, arguments)], stderr=subprocess.PIPE, **streams
    ) as process:
        said = b""
        if answer is not None:
            said = process.stderr.read(len(ASKED))
            process.send_signal(answer) if isinstance(answer, signal.Signals) else os.write(leader, answer.encode())
        _, rest = process.communicate(timeout=30)
    os.close(leader)
    os.close(follower)
    return process.returncode, (said + rest).decode()


@pytest.mark.parametrize(("answer", "code"), [("y\n", 10), ("YES\n", 10), ("n\n", 11), ("\n", 11), ("\x04", 11)])
def test_what_costs_more_than_a_trial_is_asked_for_on_a_terminal(answer, code):
    """Only a yes goes on; an empty line and the end of the input do not."""
    asked = ask(101, SCHNELL, answer=answer)
    assert (code, True) == (asked[0], asked[1].startswith(ASKED))


def test_the_question_can_be_interrupted():
    """Ctrl-C ends it at once, with the code of an interrupted command."""
    assert 130 == ask(112, SDXL, answer=signal.SIGINT)[0]


@pytest.mark.parametrize(
    ("arguments", "terminal"),
    [((100, SCHNELL), True), ((101, SCHNELL, "--yes"), True), ((100_000, SDXL), False), ((0, SDXL), True)],
)
def test_nothing_is_asked_of_a_trial_or_where_nobody_answers(arguments, terminal):
    """Up to a hundred pictures and a dollar, with `--yes`, and without a terminal a job simply begins."""
    assert (10, "") == ask(*arguments, terminal=terminal)


def test_the_budget_options_are_a_budget():
    """What is written on the command line is what a job keeps to."""
    budget = BudgetOptions(max_cost="$2.50", max_images=3, max_requests=4, per_run=True).budget()
    assert (Decimal("2.50"), 3, 4, True, False) == (
        budget.max_cost,
        budget.max_images,
        budget.max_requests,
        budget.per_run,
        budget.allow_unknown_prices,
    )


@pytest.mark.parametrize(
    ("manifest", "folder"),
    [("a/prompts.csv", "prompts"), ("cats.jsonl.gz", "cats"), ("-", "prompts"), ("v1.2.txt", "v1.2")],
)
def test_a_job_without_a_folder_is_called_as_its_input(manifest, folder):
    """The endings of a file say what it is, and belong to no folder."""
    assert folder == str(default_out(manifest))


def test_free_room_is_that_of_the_nearest_folder(tmp_path):
    """A folder that is still to be made is on the disk of the one that it will be in; of a store nothing is known."""
    assert 0 < free_bytes(tmp_path / "not" / "there") < 10**18
    assert None is free_bytes("s3://bucket/cats")
