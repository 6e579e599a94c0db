"""What a command does when nobody reads what it says, or when what it was told cannot be meant."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

SMALL = ("--width", 64, "--height", 64)
KEY = "sk-emulator"


def run_on(shell, redirection: str, *arguments: object) -> int:
    """Run the command with its streams as a shell redirects them, and return its exit code."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEBULA_", "PYTHON"))}
    script = f'"$@" {redirection}'
    command = ["/bin/sh", "-c", script, "sh", str(shell.command), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=shell.folder, env=clean, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    return done.returncode


REDIRECTIONS = [
    ">/dev/full",
    "2>/dev/full",
    ">/dev/full 2>&1",
    ">&-",
    "2>&-",
    ">&- 2>&-",
]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has /dev/full")
@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_a_job_does_not_depend_on_what_it_can_say(shell, redirection):
    """With a full disk under a log, or a stream that is closed, all is stored, and the exit code is as ever."""
    prompts = shell.write("prompts.txt", "a cat", "two cats")
    code = run_on(shell, redirection, "bulk", prompts, *SMALL, "--negative-prompt", "dogs", "--emulator")

    assert 0 == code
    assert ["000000000-a-cat.png", "000000001-two-cats.png", "metadata.jsonl"] == [
        name.rpartition("/")[2] for name in shell.files() if name.startswith("prompts/images/")
    ]


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ">/dev/full"])
def test_failures_that_cannot_be_told_are_in_the_exit_code(shell, redirection):
    """The exit code of a job with failures is the same where they cannot be told."""
    prompts = shell.write("prompts.txt", "a cat")
    assert 1 == run_on(shell, redirection, "bulk", prompts, "--model", "no/such", "--emulator")


@pytest.mark.parametrize(("redirection", "code"), [("2>/dev/full", 2), ("2>&-", 2), (">&-", 2)])
def test_wrong_use_that_cannot_be_told_ends_with_2(shell, redirection, code):
    """So is that of a command that was used wrongly."""
    assert code == run_on(shell, redirection, "generate", "x", "--width", "wide", "--emulator")
    assert code == run_on(shell, redirection, "generate", "x")


def test_a_prompt_without_quotes_is_refused_with_the_remedy(shell, emulator):
    """Words that the shell has split are not dropped: one sentence says to use quotes, and nothing is sent."""
    result = shell.run("generate", "a", "flying", "cat", "--base-url", emulator.base_url, key=KEY)

    said = "nebula-async: not understood: flying cat; a prompt of several words is written in quotes\n"
    assert (2, "", said) == (result.code, result.out, result.err)
    assert ((), []) == (emulator.journal.requests, shell.files())
    assert 2 == shell.run("generate", "a", "cat", "--emulator").code


def test_pictures_of_an_emulator_are_not_mixed_with_those_of_a_server(shell, emulator):
    """A folder that was tried out with --emulator is refused for a server in one sentence, and nothing is sent."""
    prompts = shell.write("prompts.txt", "a cat")
    assert 0 == shell.run("bulk", prompts, *SMALL, "--emulator").code
    result = shell.run("bulk", prompts, *SMALL, "--base-url", emulator.base_url, key=KEY)

    assert (2, "") == (result.code, result.out)
    assert re.fullmatch(
        rf"nebula-async: prompts was begun with the command's own emulator, and this is {emulator.base_url} and \S+;"
        r" use another output folder\n",
        result.err,
    )
    assert () == emulator.journal.requests
    assert 0 == shell.run("bulk", prompts, *SMALL, "--emulator").code
