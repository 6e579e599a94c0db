"""The commands as people call them: results on stdout, all else on stderr, one clear sentence for each mistake."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import closing

import httpx
import pytest
from attrs import fields

from nebula_async.charges import Charges
from nebula_async.cli.app import app
from nebula_async.cli.budget_options import BudgetOptions
from nebula_async.cli.bulk import RunOptions, TellOptions, bulk
from nebula_async.cli.connection import Connection, exit_code
from nebula_async.cli.emulator import emulator as emulator_command
from nebula_async.cli.export import export
from nebula_async.cli.generate import generate
from nebula_async.cli.inputs import Inputs
from nebula_async.cli.inspect import inspect as inspect_command
from nebula_async.cli.models import models
from nebula_async.cli.parameters import PictureParameters
from nebula_async.cli.plan import plan
from nebula_async.cli.rebuild import rebuild
from nebula_async.cli.reproduce import reproduce
from nebula_async.emulator import Fault
from nebula_async.errors import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    InvalidRequestError,
    JobError,
    NotFoundError,
    NotSentError,
    QuotaExhaustedError,
    RateLimitError,
)
from nebula_async.images.media import read_media
from nebula_async.printing import printable

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SMALL = ("--width", 64, "--height", 64)
KEY = "sk-emulator"


def journal_line(requests: int, cost: str) -> str:
    """Return what an emulator of the command's own says at the end."""
    return f"the emulator's journal: generation requests {requests}, pictures charged {requests}, USD {cost}\n"


def until(condition) -> None:
    """Wait for what happens in another process."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read_until(process, text: str) -> str:
    """Return what a command says on stderr up to the line that begins with a text."""
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith(text):
            return said
    raise AssertionError(said)


def test_generate_saves_a_picture_and_prints_its_file(shell):
    """One line on stdout names the file, its size in pixels and bytes, its seed and what it cost."""
    result = shell.run("generate", "A flying cat!", *SMALL, "--seed", 7, "--emulator")
    data = (shell.folder / "a-flying-cat.png").read_bytes()
    told = f"a-flying-cat.png (64x64, {len(data) / 1000:.3g} kB, seed 7, $0.0019)\n"
    assert (0, told, journal_line(1, "0.0019")) == (result.code, result.out, result.err)
    assert 64 == read_media(data).width


def test_a_picture_is_kept_whatever_its_name(shell):
    """A name with the extension of another type is no reason to lose a picture, nor is a folder's."""
    result = shell.run("generate", "a cat", *SMALL, "--emulator", "-o", "cat.jpg")
    assert (0, True) == (result.code, result.out.startswith("cat.png (64x64, "))
    assert "the picture is image/png: cat.jpg is saved with the extension .png\n" in result.err
    result = shell.run_alone("generate", "a cat", *SMALL, "--emulator", "--output", ".", PYTHONIOENCODING="ascii")
    assert (0, True) == (result.code, result.out.startswith("a-cat.png (64x64"))
    assert ["a-cat.png", "cat.png"] == shell.files()


def test_an_existing_file_is_refused_before_anything_is_sent_unless_it_may_be_replaced(shell, emulator):
    """A picture is not paid for that could not be saved, and no file is replaced unasked."""
    shell.write("cat.png", "mine")
    given = ("generate", "a cat", *SMALL, "-o", "cat", "--base-url", emulator.base_url)
    result = shell.run(*given, key=KEY)
    assert (2, "", "nebula-async: cat.png exists; give another --output, or --overwrite\n") == (
        result.code,
        result.out,
        result.err,
    )
    assert () == emulator.journal.requests
    assert 0 == shell.run(*given, "--overwrite", key=KEY).code
    read_media((shell.folder / "cat.png").read_bytes())


def test_bulk_stores_all_and_the_same_command_asks_for_nothing(shell):
    """The second run of a job sends no request at all."""
    prompts = shell.write("prompts.txt", "a cat", "two cats")
    first, second = (shell.run("bulk", prompts, *SMALL, "--emulator") for _ in range(2))
    assert first.out.startswith("2 of 2 items done\n")
    assert (0, True) == (first.code, first.err.endswith(journal_line(2, "0.0038")))
    assert second.out.startswith("2 of 2 items done\n")
    assert (0, journal_line(0, "0.0000")) == (second.code, second.err)


def test_what_a_model_does_not_honour_is_said(shell):
    """A parameter that would do nothing is named, with those that would do something; the picture is made."""
    result = shell.run("generate", "a cat", *SMALL, "--emulator", "--model", SDXL, "--seed", 7)
    honoured = "width, height, num_steps, guidance_scale, negative_prompt"
    assert (0, f"note: {SDXL} does not honour seed; it honours {honoured}\n") == (
        result.code,
        result.err.replace(journal_line(1, "0.0090"), ""),
    )


def test_a_preview_shows_the_picture(shell):
    """With --preview the picture is drawn on stderr, and stdout has the result alone."""
    arguments = ("generate", "a cat", *SMALL, "--emulator", "--preview", "--output", "cat")
    result = shell.run_alone(*arguments, PYTHONWARNINGS="ignore")  # what draws it uses what Pillow will drop one day
    assert (0, 1) == (result.code, len(result.out.splitlines()))
    assert "" != result.err.replace(journal_line(1, "0.0019"), "").strip()


def test_models_lists_what_there_is(shell):
    """The table has a line for each model, with its price."""
    result = shell.run("models", "--emulator")
    assert 0 == result.code
    assert result.out.startswith("model ")
    assert re.search(r"^black-forest-labs/FLUX\.1-schnell +text to image +\$0\.0019 +width, ", result.out, re.MULTILINE)


BAD_INPUT = {
    "no key": (("generate", "x"), "no API key: set NEBULA_API_KEY"),
    "blank prompt": (("generate", " \u200b", "--emulator"), "prompt must be text that is not blank"),
    "wrong type": (
        ("generate", "x", "--width", "wide", "--emulator"),
        "Invalid value for --width: unable to convert",
    ),
    "out of range": (("generate", "x", "--num-steps", "0", "--emulator"), "num_steps must be a whole number from 1 to"),
    "no number": (
        ("bulk", "good.txt", "--guidance-scale", "nan", "--emulator"),
        "guidance_scale must be a number from",
    ),
    "unknown tier": (("generate", "x", "--tier", "gold", "--emulator"), 'Invalid value "gold" for --tier. Choose from'),
    "two servers": (("models", "--base-url", "http://127.0.0.1:1", "--emulator"), "--emulator and --base-url name two"),
    "concurrency": (
        ("bulk", "good.txt", "--concurrency", "0", "--emulator"),
        "concurrency must be a whole number from",
    ),
    "unknown option": (("generate", "x", "--\x1b[31mnope"), r"there is no option --\x1b[31mnope"),
    "unknown command": (("[/paint]",), "'[/paint]' is no command; for a picture of that: nebula-async generate"),
    "no manifest": (("bulk", "none.txt", "--emulator"), "none.txt cannot be read (No such file or directory)"),
    "bad line": (("bulk", "bad.jsonl", "--emulator"), "bad.jsonl cannot be used, nothing was sent; lines to mend: 1"),
    "file as folder": (
        ("bulk", "good.txt", "--out", "good.txt", "--emulator"),
        "cannot write to the output folder",
    ),
    "unwritable": (
        ("bulk", "good.txt", "--out", "/dev/null/x", "--emulator"),
        "cannot write to the output folder",
    ),
    "unwritable file": (("generate", "x", "-o", "/dev/null/x", "--emulator"), "cannot write to the folder /dev/null: "),
    "long name": (("generate", "x", "-o", "x" * 300, "--emulator"), "nothing can be saved as xxx"),
    "wrong port": (("emulator", "--port", "99999"), "port is 99999; allowed is a whole number from 0 to 65535"),
    "wrong fault": (("emulator", "--fault", "429"), "fault '429' cannot be read; allowed is KIND[=ARGUMENT]:WHEN"),
}


def test_what_is_wrong_is_said_in_one_sentence_and_ends_with_2(shell):
    """Wrong use is named before anything is sent, on stderr, with exit code 2."""
    shell.write("good.txt", "a cat")
    shell.write("bad.jsonl", '{"prompt": "a cat"}', '{"prompt": "a dog", "width": "wide"}')
    results = {name: shell.run(*arguments) for name, (arguments, _) in BAD_INPUT.items()}
    assert dict.fromkeys(BAD_INPUT, (2, "")) == {name: (result.code, result.out) for name, result in results.items()}
    for name, (arguments, said) in BAD_INPUT.items():
        account, *others = [line for line in results[name].err.splitlines() if "journal" not in line]
        assert account.startswith(f"nebula-async: {said}")
        assert ["  bad.jsonl:2: width must be a whole number from 16 to 8192; got 'wide'"] * (
            "bad.jsonl" in arguments
        ) == others
        assert "pictures charged 0" in results[name].err or "journal" not in results[name].err


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-sécret"])
def test_a_malformed_key_is_refused_and_never_shown(shell, key):
    """A key that no request can carry is refused by what is wrong with it, without showing it."""
    result = shell.run("models", key=key)
    assert 2 == result.code
    assert result.err.startswith("nebula-async: the API key ")
    assert "sec" not in result.err
    assert "cret" not in result.err


def test_a_server_that_is_not_there_is_named(shell):
    """A connection that is refused names the host and port, and costs nothing; the items of a job wait."""
    with closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        given = ("--base-url", f"http://{host}/api/v1", *SMALL)
        result = shell.run("generate", "a cat", *given, key=KEY)
        assert (1, True, False) == (result.code, host in result.err, "paid" in result.err)
        process = shell.start("bulk", shell.write("prompts.txt", "a cat"), *given, key=KEY)
        said = read_until(process, "the API does not answer (no connection could be made: ")
        assert host in said
        process.send_signal(signal.SIGINT)
        result = shell.ended(process, said)
    assert 130 == result.code
    assert result.out.startswith("0 of 1 item done, 1 to be sent\n")
    assert re.search(r"^To go on:\n\S*nebula-async bulk prompts.txt ", result.out, re.MULTILINE)


@pytest.mark.parametrize(("status", "code"), [(401, 3), (402, 3), (400, 1), (500, 1)])
def test_the_exit_code_tells_whether_anything_would_succeed_now(shell, start, status, code):
    """3 is the key or the credit, 1 this one request; both say what the API answered."""
    server = start(faults=[f"{status}:1"])
    given = ("--base-url", server.base_url, *SMALL, "--timeout", 5)
    result = shell.run("bulk", shell.write("prompts.txt", "a cat"), *given, key=KEY)
    assert code == result.code
    assert f"HTTP {status}" in result.err
    assert ("\nstopped: " in result.err) == (code == 3)
    if status != 500:
        assert code == shell.run("generate", "a cat", *given, key=KEY).code


def test_a_model_that_the_server_refuses_is_said_for_each_prompt(shell):
    """What failed is told with its prompt, and how to send it again."""
    prompts = shell.write("prompts.txt", "a cat")
    result = shell.run("bulk", prompts, "--model", "no/such", "--emulator")
    assert 1 == result.code
    assert "failed: item 0, 'a cat': the API answered: Model not found (HTTP 400); not charged\n" in result.err
    assert "nebula-async bulk prompts.txt --model no/such --emulator --retry-failed\n" in result.out


def test_nothing_that_others_wrote_reaches_the_terminal_as_it_is(shell, start):
    """Codes that a terminal obeys are shown, not obeyed: in prompts, in names and in what a server says (B9)."""
    body = json.dumps({"message": "\x1b[31mred\x07", "status": "failed"}).encode()
    server = start(faults=[Fault(400, at=range(1, 9), body=body)])
    given = ("--base-url", server.base_url, *SMALL)
    prompts = shell.write("prompts.txt", "a \x1b]0;title\x07 cat [red]")
    result = shell.run("bulk", prompts, *given, "--out", "\x1b[2Jout", key=KEY)
    assert r"[31mred" in result.err
    assert r"a \x1b]0;title\x07 cat [red]" in result.err
    assert r"\x1b[2Jout/images" in result.out
    result = shell.run("generate", "a cat", *given, key=KEY)
    assert r"[31mred" in result.err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_is_in_flight_finish(shell, start, signum):
    """The first signal ends a job without loss, with 130 as there is more to do; the same command finishes (F57)."""
    server = start(latency=0.06)
    prompts = shell.write("prompts.txt", *(f"cat {number}" for number in range(8)))
    given = ("bulk", prompts, *SMALL, "--base-url", server.base_url, "--concurrency", 2)
    process = shell.start(*given, key=KEY)
    until(lambda: server.journal.charged)
    process.send_signal(signum)
    result = shell.ended(process)
    assert 130 == result.code
    assert re.search(r"^finishing what is in flight: [12]; once more stops at once$", result.err, re.MULTILINE)
    charged = server.journal.charged
    assert result.out.startswith(f"{charged} of 8 items done, {8 - charged} to be sent\n")

    result = shell.run(*given, key=KEY)
    assert (0, 8) == (result.code, server.journal.charged)
    assert f"not sent again: {charged} done\n" in result.err


def test_a_second_signal_stops_at_once_and_what_may_be_paid_twice_is_said(shell, start):
    """A job that was stopped in mid-flight resumes, and says what it sends again (F57)."""
    server = start(faults=["delay=60:@3-4"])
    prompts = shell.write("prompts.txt", *(f"cat {number}" for number in range(4)))
    given = ("bulk", prompts, *SMALL, "--base-url", server.base_url, "--concurrency", 2)
    process = shell.start(*given, key=KEY)
    until(lambda: server.journal.charged == 4)
    process.send_signal(signal.SIGINT)
    said = read_until(process, "finishing what is in flight: 2; once more stops at once\n")
    process.send_signal(signal.SIGINT)
    result = shell.ended(process, said)
    assert (130, True) == (result.code, result.out.startswith("2 of 4 items done, 2 perhaps paid for\n"))
    assert "\nstopped at once: what was in flight may be paid for" in result.err

    result = shell.run(*given, key=KEY)
    assert (1, 5) == (result.code, server.journal.charged)
    assert "under way when a run was stopped, and sent again: 1; these may be paid for twice\n" in result.err
    assert "under way when a run was stopped, and not sent again: 1; --resend-unknown does\n" in result.err
    result = shell.run(*given, "--resend-unknown", key=KEY)
    assert (0, 6) == (result.code, server.journal.charged)
    assert result.out.startswith("4 of 4 items done\n")


def test_more_signals_keep_nobody_from_being_told_the_end(shell, start):
    """Who presses Ctrl-C three times or more is told what became of the job, and the command that goes on with it."""
    server = start(faults=["delay=60:@3-4"])
    prompts = shell.write("prompts.txt", *(f"cat {number}" for number in range(4)))
    process = shell.start("bulk", prompts, *SMALL, "--base-url", server.base_url, "--concurrency", 2, key=KEY)
    until(lambda: server.journal.charged == 4)
    process.send_signal(signal.SIGINT)
    said = read_until(process, "finishing what is in flight: 2; once more stops at once\n")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
    until((shell.folder / "prompts/report.json").is_file)
    process.send_signal(signal.SIGINT)
    result = shell.ended(process, said)
    assert (130, True) == (result.code, result.out.startswith("2 of 4 items done, 2 perhaps paid for\n")), result.text
    assert f"bulk prompts.txt --width 64 --height 64 --base-url {server.base_url}" in result.out


def test_a_picture_that_is_interrupted_may_have_been_paid_for(shell, start):
    """Ctrl-C while one picture is made says so, and ends with 130."""
    server = start(faults=["delay=60:@1"])
    process = shell.start("generate", "a cat", "--base-url", server.base_url, key=KEY)
    until(lambda: server.journal.charged)
    process.send_signal(signal.SIGINT)
    result = shell.ended(process)
    told = "nebula-async: interrupted; a request that was under way may have been paid for\n"
    assert (130, told) == (result.code, result.err)


def test_the_emulator_announces_itself_serves_and_ends_at_a_signal(shell):
    """Its lines on stdout can be evaluated by a shell, for both APIs; faults, limits and the journal are there."""
    process = shell.start("emulator", "--port", 0, "--latency", 0, "--fault", "429:@1", "--key", "sk-mine")
    announced = [process.stdout.readline().removeprefix("export ").strip().split("=") for _ in range(4)]
    assert ["NEBULA_BASE_URL", "NEBULA_API_KEY", "NEBULA_INFERENCE_URL", "NEBULA_ALLOWED_IMAGE_HOSTS"] == [
        name for name, _value in announced
    ]
    base_url, key, inference_url, storage = (value for _name, value in announced)
    host = re.fullmatch(r"http://(127\.0\.0\.1:\d+)/api/v1", base_url)[1]
    assert ("sk-mine", f"http://{host}/v1") == (key, inference_url)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", storage)

    busy = shell.run("emulator", "--port", httpx.URL(base_url).port)
    assert 2 == busy.code
    assert re.fullmatch(
        r"nebula-async: cannot listen on 127\.0\.0\.1:\d+: Address already in use; choose another --port or --host\n",
        busy.err,
    )
    assert 0 == shell.run("generate", "a cat", *SMALL, **dict(announced)).code
    assert 0 == shell.run("generate", "a dog", "--dialect", "inference", "--size", "64x64", **dict(announced)).code
    with httpx.Client(trust_env=False) as http:
        journal = http.get(httpx.URL(base_url).copy_with(path="/_emulator/journal")).json()
    told = [(record["path"], record["status"]) for record in journal["requests"] if record["method"] == "POST"]
    assert [
        ("/api/v1/images/generation", 429),
        ("/api/v1/images/generation", 200),
        ("/v1/images/generate", 200),
    ] == told
    process.terminate()
    result = shell.ended(process)
    assert (0, "", "# Nebula Block emulator; Ctrl-C ends it\n") == (result.code, result.out, result.err)


OPTIONS = {
    "generate": (generate, PictureParameters, Connection),
    "bulk": (bulk, RunOptions, TellOptions, Inputs, PictureParameters, BudgetOptions, Connection),
    "plan": (plan, Inputs, PictureParameters, BudgetOptions, Connection),
    "export": (export,),
    "rebuild": (rebuild,),
    "inspect": (inspect_command,),
    "reproduce": (reproduce, Connection),
    "models": (models, Connection),
    "emulator": (emulator_command,),
}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_mentions_every_option(command, capsys):
    """What can be given is said by `--help`."""
    function, *groups = OPTIONS[command]
    names = {name for name, given in inspect.signature(function).parameters.items() if given.kind is given.KEYWORD_ONLY}
    names -= {"parameters", "connection", "inputs", "budget", "running", "telling"}
    names |= {field.name for group in groups for field in fields(group)}
    with pytest.raises(SystemExit) as caught:
        app([command, "--help"])
    assert 0 == caught.value.code
    told = capsys.readouterr().out
    names = {"json" if name == "as_json" else name for name in names}
    options = {f"--{name.removeprefix('image_' if command == 'emulator' else ' ').replace('_', '-')}" for name in names}
    assert set() == {option for option in options if f"{option} " not in told}


def test_a_result_that_nobody_reads_is_a_result_all_the_same(shell):
    """With a reader that has gone (`| head -0`) the picture is saved, and the exit code says so."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        done = subprocess.run(
            [shell.command, "generate", "a cat", *map(str, SMALL), "--emulator"],
            cwd=shell.folder,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (0, ["a-cat.png"], journal_line(1, "0.0019")) == (done.returncode, shell.files(), done.stderr)


def test_help_and_version_of_the_whole(shell):
    """Called without anything, the command says what it can do."""
    result = shell.run()
    assert (0, "") == (result.code, result.err)
    assert all(re.search(rf"^│ {command} +\w", result.out, re.MULTILINE) for command in OPTIONS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (InvalidRequestError("x"), 2),
        (JobError("x"), 2),
        (JobError("x", charges=Charges(1, 1)), 3),
        (BudgetExceededError("x"), 3),
        (AuthenticationError("x"), 3),
        (QuotaExhaustedError("x"), 3),
        (NotFoundError("x"), 3),
        (NotFoundError("x", code="model_not_found"), 1),
        (RateLimitError("x", scope="day"), 3),
        (RateLimitError("x"), 1),
        (NotSentError("x"), 1),
        (BadRequestError("x"), 1),
    ],
)
def test_each_error_has_its_exit_code(error, code):
    """2 is wrong use, 3 is nothing that another request would change, 1 is this request alone."""
    assert code == exit_code(error)


def test_a_terminal_is_shown_text_and_not_told_anything():
    """Letters of all scripts are shown as they are, codes and half characters as they are escaped."""
    assert "富士山 é ☕\n" == printable("富士山 é ☕\n")
    assert r"\x1b[31m\r\x07\u202e\udce9\x9b" == printable("\x1b[31m\r\x07\u202e\udce9\x9b")
