"""`nebula-async report` tells how a job stands, whatever became of it, and its commands work as they are pasted."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

KEY = "sk-emulator"
SMALL = ("--width", 64, "--height", 64)
ODD = "it's my [red]prompts[bold] $HOME"
HOSTILE = "\x1b]0;owned\x07\x1b[31m[bold red]\u202e:smile:\r\n"


def at(server) -> tuple[object, ...]:
    """Return the options that lead to a server."""
    return ("--base-url", server.base_url, "--inference-url", server.inference_url, *SMALL)


def commands_in(text: str) -> list[str]:
    """Return the command lines that a summary tells."""
    return re.findall(r"^(?:cd .+ && )?\S*nebula-async bulk .+$", text, flags=re.MULTILINE)


def paste(shell, command: str, *, cwd: Path) -> int:
    """Run a line as a shell does into which it is pasted, and return its exit code."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NEBULA_")}
    environ |= {"NEBULA_API_KEY": KEY, "PATH": f"{shell.command.parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", command], cwd=cwd, env=environ, capture_output=True, check=False).returncode


def killed_job(shell, server, name: str = "prompts.txt", *, charged: int = 1) -> None:
    """Leave a job of three prompts that was killed while a request was under way."""
    shell.write(name, "a cat", "a dog", "an eel")
    process = shell.start("bulk", name, *at(server), "--concurrency", 1, key=KEY)
    until(lambda: server.journal.charged >= charged)
    process.kill()
    assert -signal.SIGKILL == shell.ended(process).code


def until(condition) -> None:
    """Wait for what happens in another process."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)  # the emulator's thread has no event of ours


def json_of(shell, out: str) -> dict:
    """Return what the command tells programs."""
    told = shell.run("report", out, "--json")
    assert (0, 1) == (told.code, told.out.count("\n"))
    return json.loads(told.out)


def test_a_finished_job_is_told_as_its_report_is(shell, start):
    """The table is plain in a pipe, and `--json` prints what report.json holds."""
    given = at(start())
    assert 0 == shell.run("bulk", shell.write("prompts.txt", "a cat", "a dog"), *given, key=KEY).code
    told = shell.run("report", "prompts")
    assert (0, "") == (told.code, told.err)
    assert re.search(
        r"^2 of 2 items done\nthe last run ended 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC$", told.out, re.MULTILINE
    )
    assert re.search(r"^black-forest-labs/FLUX.1-schnell +2 +2 +\$0\.0038$", told.out, re.MULTILINE)
    assert [] == commands_in(told.out)
    written = json.loads((shell.folder / "prompts/report.json").read_text())
    assert {**written, "written": None} == {**json_of(shell, "prompts"), "written": None}


def test_a_killed_job_is_told_with_the_command_that_goes_on(shell, start):
    """What is done, what may be paid for, and a line that, pasted, finishes the job, also with odd names."""
    server = start(faults=["delay=60:@2"])
    killed_job(shell, server, f"{ODD}.txt", charged=2)
    told = shell.run("report", ODD)
    assert "1 of 3 items done, 1 perhaps paid for, 1 to be sent\nthe last run was killed" in told.out
    assert "1: under way (perhaps paid for)" in told.out
    report = json_of(shell, ODD)
    assert (3, 1, None) == (report["items"], report["done"], report["this_run"])
    (command,) = commands_in(told.out)
    assert 0 == paste(shell, command, cwd=shell.folder)
    assert "3 of 3 items done" in shell.run("report", ODD).out


def test_the_command_works_from_another_folder(shell, start, tmp_path_factory):
    """Who looks at a job from elsewhere gets a line that goes where it was begun."""
    server = start(faults=["delay=60:@2"])
    killed_job(shell, server, charged=2)
    elsewhere = tmp_path_factory.mktemp("else where")
    told = subprocess.run(
        [shell.command, "report", str(shell.folder / "prompts")],
        cwd=elsewhere, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (command,) = commands_in(told.stdout)
    assert command.startswith("cd ")
    assert 0 == paste(shell, command, cwd=elsewhere)


def test_prompts_from_a_pipe_are_kept_for_the_command_that_goes_on(shell, start):
    """A job of standard input goes on without what was piped into it."""
    server = start(faults=["400:@1"])
    line = f"printf 'a cat\\na dog\\n' | nebula-async bulk - --out 'my cats' {' '.join(map(str, at(server)))}"
    assert 1 == paste(shell, f"{line} --concurrency 1", cwd=shell.folder)
    (command,) = commands_in(shell.run("report", "my cats").out)
    assert command.endswith(" < 'my cats/.nebula/input.txt' --retry-failed")
    assert 0 == paste(shell, command, cwd=shell.folder)


def test_what_is_asked_for_once_is_not_repeated_by_the_command(shell, start):
    """`--retry-failed` pays again: a line that only goes on does not have it, and one that has it says what it does."""
    server = start(faults=["400:@1-2"])
    given = ("bulk", shell.write("prompts.txt", "a cat"), *at(server), "--retry-failed")
    told = shell.run(*given, key=KEY)
    (command,) = commands_in(told.out)
    assert 1 == command.count("--retry-failed")
    assert "To send again what failed:\n" in told.out


def test_a_job_that_has_moved_is_gone_on_with_where_it_is(shell, start):
    """The line of a job that lies elsewhere now names that place, with the same prompts, server and sizes."""
    server = start(faults=["400:1"])
    assert 1 == shell.run("bulk", shell.write("prompts.txt", "a cat"), *at(server), key=KEY).code
    shutil.move(shell.folder / "prompts", shell.folder / "moved here")
    (command,) = commands_in(shell.run("report", "moved here").out)
    assert "nebula-async bulk prompts.txt --base-url " in command
    assert command.endswith(" --width 64 --height 64 --out 'moved here' --retry-failed")


def test_a_job_that_runs_is_told_beside_it(shell, start):
    """Another terminal sees how far it is, and no command that would be refused now."""
    server = start(faults=["delay=60:@2"])
    process = shell.start(
        "bulk", shell.write("prompts.txt", "a cat", "a dog"), *at(server), "--concurrency", 1, key=KEY
    )
    until(lambda: server.journal.charged == 2)
    told = shell.run("report", "prompts")
    assert f"1 of 2 items done, 1 perhaps paid for\na run is under way (process {process.pid})\n" in told.out
    assert [] == commands_in(told.out)
    assert None is json_of(shell, "prompts")["this_run"]


def test_a_job_of_which_all_failed_says_why(shell, start):
    """Causes are grouped, with the next step; nothing was paid, and that is said, too."""
    server = start(faults=["400=invalid_size:1"])
    told = shell.run("bulk", shell.write("prompts.txt", "a cat", "a dog"), *at(server), key=KEY)
    assert 1 == told.code
    assert "0 of 2 items done, 2 refused\n" in told.out
    assert "  2: BadRequestError invalid_size (refused, not charged)\n" in told.out
    assert "$0.00, over all runs" in told.out
    assert "Answered in" not in told.out


def test_a_job_that_sent_nothing_is_told(shell, start):
    """A budget that allows nothing leaves a job with nothing done, and a report of it."""
    server = start(faults=["401:1"])
    assert 3 == shell.run("bulk", shell.write("prompts.txt", "a cat", "a dog"), *at(server), key=KEY).code
    told = shell.run("report", "prompts")
    assert (0, True) == (told.code, "0 of 2 items done, 2 to be sent\n" in told.out)
    assert ", stopped: " in told.out


@pytest.mark.parametrize("name", ["nowhere", "prompts.txt", "."])
def test_what_is_no_job_is_refused_in_one_sentence(shell, name):
    """A wrong path is said to be none, with what to give."""
    shell.write("prompts.txt", "a cat")
    told = shell.run("report", name)
    assert (2, "", 1) == (told.code, told.out, told.err.count("\n"))
    assert "is not the folder of a job" in told.err


def test_the_url_of_a_store_is_refused_with_what_to_give(shell):
    """What is known of a job with a store is in its folder."""
    told = shell.run("report", "s3://bucket/cats")
    assert (2, 1, True) == (told.code, told.err.count("\n"), "give what --job named" in told.err)


def test_what_an_api_says_is_shown_and_not_obeyed(shell, start):
    """Codes for a terminal and markup of the table's library are letters, wherever they come from."""
    server = start()
    rows = [{"prompt": f"a cat{HOSTILE}", "model": f"no/such{HOSTILE}"}, {"prompt": "a dog"}]
    manifest = shell.write("prompts.jsonl", *map(json.dumps, rows))
    for told in (shell.run("bulk", manifest, *at(server), key=KEY), shell.run("report", "prompts")):
        assert r"no/such\x1b]0;owned\x07\x1b[31m[bold red]\u202e:smile:" in told.out
        assert set() == {char for char in told.out if not char.isprintable()} - {"\n"}


def test_a_folder_that_nobody_may_write_to_is_told(shell, start):
    """A job on a disk that is mounted for reading alone, or of somebody else, can be looked at."""
    assert 0 == shell.run("bulk", shell.write("prompts.txt", "a cat"), *at(start()), key=KEY).code
    shell.run("report", "prompts")
    for path in (shell.folder / "prompts/.nebula").glob("ledger.db-*"):
        path.unlink()
    state = shell.folder / "prompts/.nebula"
    state.chmod(0o500)
    (state / "ledger.db").chmod(0o400)
    try:
        assert 0 == shell.run("report", "prompts").code
    finally:
        state.chmod(0o700)


def test_who_reads_only_the_first_line_ends_nothing(shell, start):
    """`| head -1` is no failure."""
    assert 0 == shell.run("bulk", shell.write("prompts.txt", "a cat"), *at(start()), key=KEY).code
    line = f"set -o pipefail; '{shell.command}' report prompts | head -1; '{shell.command}' report prompts >/dev/full"
    assert 0 == paste(shell, line, cwd=shell.folder)


def test_the_key_is_not_kept_with_the_command(shell, start):
    """Where a word of the command line holds the key, the ledger keeps no command at all."""
    server = start(faults=["400:1"])
    told = shell.run("bulk", shell.write(f"{KEY}.txt", "a cat"), "--out", "prompts", *at(server), key=KEY)
    (command,) = commands_in(told.out)
    assert command.endswith("nebula-async bulk INPUT --out prompts --retry-failed")
    assert KEY.encode() not in b"".join(path.read_bytes() for path in (shell.folder / "prompts/.nebula").glob("led*db"))


def shown(shell, *words: object, columns: int, **environment: str) -> str:
    """Return what the command writes on a terminal of so many columns."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = subprocess.Popen(
        [shell.command, *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs, cwd=shell.folder,
        env=clean | {"TERM": "xterm-256color"} | environment,
    )  # fmt: skip
    os.close(theirs)
    data = b""
    with suppress(OSError):  # Linux' way of saying that the other side is closed
        while select.select([ours], [], [], 30)[0] and (piece := os.read(ours, 65_536)):
            data += piece
    os.close(ours)
    assert 0 == process.wait(30)
    return data.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [30, 40, 80, 200])
def test_a_terminal_is_never_too_narrow(shell, start, columns):
    """No line of words or figures is broken by the terminal; what is copied, paths and commands, is one line."""
    server = start(faults=["400=invalid_size:@1"])
    rows = [{"prompt": f"cat {number}", "model": model} for number, model in enumerate(["sdxl", "flux", "x" * 60])]
    rows += [{"prompt": "a cat"}]
    shell.run("bulk", shell.write("prompts.jsonl", *map(json.dumps, rows)), *at(server), "--concurrency", 1, key=KEY)
    text = shown(shell, "report", "prompts", columns=columns, NO_COLOR="1")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    copied = r"\S*nebula-async |Pictures|Gallery|Report|Not done  "
    assert [] == [line for line in plain.splitlines() if len(line) > columns and not re.match(copied, line)]
    assert 1 == len(commands_in(plain))
    assert "invalid_size" in plain


def test_colours_are_left_out_where_they_are_not_wanted(shell, start):
    """With NO_COLOR there is no code for a colour."""
    assert 0 == shell.run("bulk", shell.write("prompts.txt", "a cat"), *at(start()), key=KEY).code
    text = shown(shell, "report", "prompts", columns=80, NO_COLOR="1")
    assert [] == re.findall(r"\x1b\[(?:[0-9;]*;)?[349][0-7][0-9;]*m", text)
