"""Jobs from a shell: what is repeated, what is rebuilt, what is asked."""

from __future__ import annotations

import json
import re

import pytest

KEY = "sk-emulator"
SMALL = ("--width", 64, "--height", 64)


def test_nothing_is_repeated_that_may_have_been_paid_for(shell, start):
    """With --never-twice a lost reply is one charge; the item is listed, and sent again only on request."""
    server = start(faults=["drop:@1"])
    given = ("bulk", shell.write("prompts.txt", "a cat"), "--base-url", server.base_url, *SMALL, "--never-twice")
    first = shell.run(*given, key=KEY)
    assert (1, 1) == (first.code, server.journal.charged)
    assert re.search(r"^To send again what may have been paid for:\n.* --resend-unknown$", first.out, re.MULTILINE)
    assert 1 == shell.run(*given, key=KEY).code
    assert 1 == server.journal.charged
    assert 0 == shell.run(*given, "--resend-unknown", key=KEY).code
    assert 2 == server.journal.charged


def test_a_server_that_replays_is_asked_again_without_another_charge(shell, start):
    """With --idempotency replay a lost reply is asked for under the same key: one charge, one picture."""
    server = start(faults=["drop:@1"], replays=True)
    given = ("bulk", shell.write("prompts.txt", "a cat"), "--base-url", server.base_url, *SMALL)
    result = shell.run(*given, "--idempotency", "replay", key=KEY)
    assert (0, 1) == (result.code, server.journal.charged)


def test_failed_items_are_listed_with_their_cause_and_can_be_sent_as_a_job_of_their_own(shell, start):
    """`failed.jsonl` says why each item is not done, and is input for another job."""
    server = start(faults=["400:@1"])
    prompts = shell.write("prompts.txt", "a cat\na dog")
    given = ("--base-url", server.base_url, *SMALL, "--concurrency", 1)
    assert 1 == shell.run("bulk", prompts, *given, key=KEY).code
    (line,) = (shell.folder / "prompts" / "failed.jsonl").read_text().splitlines()
    assert ("a cat", "rejected") == (json.loads(line)["prompt"], json.loads(line)["failure"]["state"])
    again = shell.run("bulk", "prompts/failed.jsonl", "--out", "again", *given, key=KEY)
    assert 0 == again.code
    assert again.out.startswith("1 of 1 item done\n")


@pytest.mark.parametrize("answer", ["--max-cost", "--max-images", "--max-requests"])
def test_a_budget_ends_a_job_before_it_is_passed(shell, start, answer):
    """Each limit ends the job with exit code 3, what was made is there, and a larger one goes on."""
    server = start()
    given = ("bulk", shell.write("prompts.txt", "a cat\na dog\nan eel"), "--base-url", server.base_url, *SMALL)
    small, large = {"--max-cost": ("0.0039", "$1")}.get(answer, ("2", "9"))
    result = shell.run(*given, answer, small, key=KEY)
    assert (3, 2) == (result.code, server.journal.charged)
    assert "\nstopped: the budget of " in result.err
    assert 0 == shell.run(*given, answer, large, key=KEY).code
    assert 3 == server.journal.charged


def test_a_damaged_ledger_is_made_anew_by_the_command_that_is_named(shell, start):
    """The message of a job with a damaged ledger names a command; after it the job asks for nothing it has."""
    server = start()
    given = ("bulk", shell.write("prompts.txt", "a cat\na dog"), "--base-url", server.base_url, *SMALL)
    assert 0 == shell.run(*given, key=KEY).code
    ledger = shell.folder / "prompts" / ".nebula" / "ledger.db"
    ledger.write_bytes(ledger.read_bytes()[:5000])
    refused = shell.run(*given, key=KEY)
    assert 2 == refused.code
    assert refused.err.rstrip().endswith("nebula-async rebuild prompts")
    assert 0 == shell.run("rebuild", "prompts").code
    assert 0 == shell.run(*given, key=KEY).code
    assert 2 == server.journal.charged


def test_what_failed_is_bought_again_only_by_the_run_that_says_so(shell, start):
    """A run that is told to retry, and cannot begin, changes nothing: the plain command buys nothing again."""
    server = start(faults=["400:@1"])
    given = ("bulk", shell.write("prompts.txt", "a cat"), "--base-url", server.base_url, *SMALL)
    assert 1 == shell.run(*given, key=KEY).code
    unknown = (*given, "--retry-failed", "--max-cost", "1", "--model", "no/such")
    assert 2 == shell.run(*unknown, key=KEY).code
    assert 1 == shell.run(*given, key=KEY).code
    assert 1 == len(server.journal.generations)


def test_a_plan_refuses_lines_that_changed(shell, start):
    """What `bulk` would refuse as changed since the job was begun is no line that costs nothing."""
    server = start()
    given = ("--base-url", server.base_url, *SMALL)
    assert 0 == shell.run("bulk", shell.write("prompts.txt", "a cat\na dog"), *given, key=KEY).code
    result = shell.run("plan", shell.write("prompts.txt", "a cat\nan eel"), *given, key=KEY)
    assert 2 == result.code
    assert "was begun with other input: line 2 of prompts.txt" in result.err


def test_an_export_stays_out_of_the_job_itself(shell, start):
    """Shards do not land among the pictures, nor where the job keeps its ledger."""
    server = start()
    prompts = shell.write("prompts.txt", "a cat")
    assert 0 == shell.run("bulk", prompts, "--base-url", server.base_url, *SMALL, key=KEY).code
    for place in ("prompts", "prompts/images", "prompts/.nebula/x"):
        result = shell.run("export", "prompts", "--format", "webdataset", "--to", place)
        assert (2, True) == (result.code, "the job's own files" in result.err)
