"""`nebula-async doctor` as a user calls it: what it says, what it costs, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import ExitStack

import pytest
from doctor_servers import CREDITS_AT, MODELS_AT, REPLIES, ApiServer, mute, serving
from places import deaf
from terminals import let_go, on_terminal

CANARY = "sk-canary-5cXq0Wv7Zt2LrB8nKd4M"


@pytest.fixture
def serve():
    """Let servers answer until the test ends."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(serving(server))


@pytest.fixture
def doctor(shell, tmp_path):
    """Examine, in a home of its own; nothing that is written may hold the key."""
    (tmp_path / "home").mkdir()

    def examine(*arguments, at=None, **environment):
        urls = {} if at is None else {"NEBULA_BASE_URL": at.url, "NEBULA_INFERENCE_URL": at.url}
        environment = {"NEBULA_API_KEY": CANARY, "HOME": str(tmp_path / "home"), **urls, **environment}
        ended = shell.run("doctor", *arguments, **environment)
        assert CANARY not in ended.text
        return ended

    return examine


def findings_of(ended) -> dict:
    """Return what was found, by what it is about."""
    return {finding["about"]: finding for finding in json.loads(ended.out)["findings"]}


def line_of(ended, about: str) -> str:
    """Return the line about something, its state first."""
    return next(line for line in ended.out.splitlines() if line[9:].startswith(f"{about}:"))


def test_a_healthy_machine(doctor, serve):
    """With a good key, an API that answers and money, nothing would stop a run, and the exit code is 0."""
    server = serve(ApiServer())
    ended = doctor(at=server)

    assert (0, "") == (ended.code, ended.err)
    assert "nothing would stop a run" in ended.out.splitlines()[-1]
    assert "$12.50" in line_of(ended, "balance")
    assert "1 model for pictures, each with its price" in line_of(ended, "models")
    assert f"{len(CANARY)} characters in NEBULA_API_KEY" in line_of(ended, "key")
    assert {line.split()[0] for line in ended.out.splitlines()[:-1]} <= {"ok", "note"}


def test_what_is_asked_is_free(doctor, serve):
    """The API is asked for balance and models alone, by GET, and with the key."""
    server = serve(ApiServer())
    doctor(at=server)

    assert [("GET", CREDITS_AT), ("GET", MODELS_AT)] == [request[:2] for request in server.requests]
    assert {f"Bearer {CANARY}"} == {request[2] for request in server.requests}


def test_nothing_is_bought(shell, start):
    """A real account is charged nothing: the emulator's journal is empty afterwards."""
    emulator = start(latency=0.0)
    ended = shell.run("doctor", at=emulator)

    assert 0 == ended.code, ended.text
    assert ([], 0) == (list(emulator.journal.generations), emulator.journal.charged)


def test_an_emulator_of_its_own(doctor):
    """`--emulator` needs no key and no network, and says in its journal that nothing was bought."""
    ended = doctor("--emulator", NEBULA_API_KEY="")

    assert 0 == ended.code, ended.text
    assert "the emulator's own" in line_of(ended, "key")
    assert "generation requests 0, pictures charged 0" in ended.err


def test_json_has_every_line(doctor, serve):
    """`--json` prints one object with the same findings, counted, and facts for programs."""
    server = serve(ApiServer())
    ended, lines = doctor("--json", at=server), doctor(at=server).out.splitlines()[:-1]
    told = json.loads(ended.out)

    assert 1 == told["version"]
    assert len(lines) == len(told["findings"]) == told["ok"] + told["notes"] + told["problems"]
    assert {"about", "state", "text", "advice", "facts"} == {name for each in told["findings"] for name in each}
    assert "12.50" == findings_of(ended)["balance"]["facts"]["usd"]
    assert all(each["advice"] for each in told["findings"] if each["state"] != "ok")


def test_without_a_key(doctor, serve):
    """Without a key everything else is looked at, and no made-up key is sent."""
    server = serve(ApiServer({**REPLIES, MODELS_AT: (401, {"detail": "who are you"})}))
    ended = doctor(at=server, NEBULA_API_KEY="")

    assert 1 == ended.code
    assert line_of(ended, "key").startswith("problem")
    assert line_of(ended, "models").startswith("note")
    assert line_of(ended, "API").startswith("ok")
    assert [("GET", MODELS_AT, None)] == server.requests


def test_tiers_and_what_was_used_today(shell, doctor, start):
    """The limit in force is told, with what commands of this host have used of the day."""
    emulator = start(latency=0.0)
    shared = {"NEBULA_TIER": "engineer-1", "NEBULA_SHARED_BY": "host", "NEBULA_STATE_DIR": "state"}
    small = ("--width", 16, "--height", 16)
    assert 0 == shell.run("generate", "a cat", *small, at=emulator, **shared).code
    limits = findings_of(shell.run("doctor", "--json", at=emulator, **shared))["limits"]

    assert ("ok", 60, 200, 1) == (
        limits["state"],
        *(limits["facts"][n] for n in ("per_minute", "per_day", "used_today")),
    )
    assert "tier engineer-1: 60 requests a minute, 200 a day" in limits["text"]


def test_no_folder_is_made(doctor, serve, tmp_path):
    """Where commands would share nothing yet, nothing is made: a doctor looks, and leaves no trace."""
    before = sorted(tmp_path.rglob("*"))
    doctor(at=serve(ApiServer()), NEBULA_SHARED_BY="host", NEBULA_STATE_DIR=str(tmp_path / "state"))

    assert before == sorted(tmp_path.rglob("*"))


@pytest.mark.parametrize("place", ["127.0.0.1:99999", "[::1", "[::1]:x", "host:80/path", "ho st:80"])
def test_a_proxy_that_is_none(doctor, serve, place):
    """It is a problem in one line, whatever is wrong with it, and nobody is shown who was to be let in."""
    ended = doctor(at=serve(ApiServer()), NEBULA_PROXY=f"http://user:secret-word@{place}")

    assert (1, "") == (ended.code, ended.err)
    assert "problem" == line_of(ended, "NEBULA_PROXY").split()[0]
    assert "must be http://host:port" in line_of(ended, "NEBULA_PROXY")
    assert "secret-word" not in ended.text


def test_a_wrong_url_is_told_once(doctor, serve):
    """Beside one that is right, it is not asked for once more as if it had not been given."""
    server = serve(ApiServer())
    ended = doctor(NEBULA_BASE_URL="ftp://x", NEBULA_INFERENCE_URL=server.url)

    assert ["NEBULA_BASE_URL:"] == [line.split()[1] for line in ended.out.splitlines() if line.startswith("problem")]
    assert "give base_url as well" not in ended.out


KEY_ELSEWHERE = ("NEBULA_TIER", "NEBULA_TIMEOUT", "NEBULA_ALLOWED_IMAGE_HOSTS", "NEBULA_BASE_URL", "NEBULA_SHARED_BY")


@pytest.mark.parametrize("name", KEY_ELSEWHERE)
def test_a_key_under_another_name(doctor, shell, name):
    """A key that was exported as something else is said to be wrong there, and shown by no command."""
    told = doctor(**{name: CANARY})
    refused = shell.run("models", key="sk-other", **{name: CANARY})

    assert "problem" == line_of(told, name).split()[0]
    assert (2, True) == (refused.code, refused.err.startswith(f"nebula-async: environment variable {name}: "))
    assert CANARY[:9] not in told.text + refused.text


WRONG_USE = {
    "option": (("--bogus",), "--bogus"),
    "argument": (("now",), "not understood: now"),
    "tier": (("--tier", "gold"), "engineer-1"),
    "url": (("--base-url", "ftp://x"), "base_url must begin with https://"),
    "both": (("--emulator", "--base-url", "https://api.example"), "--emulator and --base-url name two servers"),
}


@pytest.mark.parametrize(("arguments", "text"), WRONG_USE.values(), ids=WRONG_USE)
def test_wrong_use(doctor, arguments, text):
    """What cannot be understood is one sentence and exit code 2."""
    ended = doctor(*arguments)

    assert (2, "", 1) == (ended.code, ended.out, ended.err.count("\n"))
    assert text in ended.err


def test_settings_that_cannot_be_used(doctor, serve):
    """Each wrong variable is a line of its own, and what else there is to see is looked at all the same."""
    server = serve(ApiServer())
    ended = doctor(at=server, NEBULA_TIER="gold", NEBULA_TIMEOUT="soon", NEBULA_PROXY="http://u:hunter2-canary@@")

    assert 1 == ended.code
    assert line_of(ended, "NEBULA_TIER").startswith("problem")
    assert line_of(ended, "NEBULA_TIMEOUT").startswith("problem")
    assert line_of(ended, "NEBULA_PROXY").startswith("problem")
    assert line_of(ended, "balance").startswith("ok")
    assert "hunter2" not in ended.text


def test_a_key_in_the_wrong_variable(doctor, serve):
    """A key that was put into another variable is not shown either, in whatever message it stands."""
    other = "sk-" + CANARY[::-1]
    ended = doctor(at=serve(ApiServer()), NEBULA_TIER=other, NEBULA_API_KAY=other, NEBULABLOCK_API_KEY=other)

    assert other not in ended.text
    assert "if you meant NEBULA_API_KEY, set that" in line_of(ended, "NEBULA_API_KAY")
    assert line_of(ended, "NEBULABLOCK_API_KEY").startswith("note")


def test_settings_that_count_are_shown(doctor, serve):
    """Variables that change something are shown, a proxy's password as ***."""
    proxy = "http://jane:hunter2-canary@127.0.0.1:3128"
    ended = doctor(at=serve(ApiServer()), NEBULA_PROXY=proxy, NEBULA_TIER="expert-1", HTTPS_PROXY="http://x:y@z")

    assert "NEBULA_PROXY=http://***@127.0.0.1:3128" in line_of(ended, "settings")
    assert "NEBULA_TIER=expert-1" in line_of(ended, "settings")
    assert "HTTPS_PROXY is set, and not read" in line_of(ended, "other proxies")
    assert not {"hunter2", "jane", "x:y"} & {word for word in ("hunter2", "jane", "x:y") if word in ended.text}


@pytest.mark.parametrize("trouble", [deaf, mute], ids=["deaf", "mute"])
def test_a_server_that_does_not_answer(doctor, trouble):
    """A host that drops what it gets, or accepts and says nothing, is told and does not hold up the end."""
    with trouble() as port:
        ended = doctor(
            NEBULA_BASE_URL=f"http://127.0.0.1:{port}/api/v1", NEBULA_INFERENCE_URL=f"http://[::1]:{port}/v1"
        )

    assert 1 == ended.code
    assert "no answer within 3 s" in ended.out or "no complete reply within 3 s" in ended.out


def test_a_name_server_that_is_silent(shell, tmp_path):
    """A name look-up that never ends is told, and does not hold up the end of the command."""
    (tmp_path / "silent").mkdir()
    (tmp_path / "silent" / "sitecustomize.py").write_text(
        "import socket, threading\nsocket.getaddrinfo = lambda *_, **__: threading.Event().wait()\n"
    )
    ended = shell.run_alone("doctor", key=CANARY, PYTHONPATH=str(tmp_path / "silent"))

    assert 1 == ended.code
    assert "api.nebulablock.com has no address: no answer within 4 s" in line_of(ended, "serverless: name")
    assert "api.inference.nebulablock.com has no address" in line_of(ended, "inference: name")


def test_an_interruption(shell):
    """Ctrl-C ends it at once, in one sentence, whatever it waits for."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
        process = shell.start("doctor", NEBULA_BASE_URL=url, NEBULA_INFERENCE_URL=url)
        for _ in range(2):  # to see whether it answers, and then to ask it
            stack.enter_context(listener.accept()[0])
        process.send_signal(signal.SIGINT)
        ended = shell.ended(process)

    assert (130, "", "nebula-async: interrupted; nothing was bought\n") == (ended.code, ended.out, ended.err)


def test_one_api_on_this_machine_alone(doctor, serve):
    """Where only one URL was moved to this machine, the real host of the other one is not called."""
    ended = doctor(NEBULA_BASE_URL=serve(ApiServer()).url)

    assert 0 == ended.code, ended.text
    assert "give inference_url as well" in line_of(ended, "inference API")
    assert "nebulablock.com" not in ended.text


def test_a_pipe_that_is_closed(shell, doctor, serve):
    """`doctor | head -1` ends in peace."""
    server = serve(ApiServer())
    urls = {"NEBULA_BASE_URL": server.url, "NEBULA_INFERENCE_URL": server.url}
    process = shell.start("doctor", key=CANARY, **urls)
    process.stdout.close()
    process.stdout = open(os.devnull)  # noqa: SIM115, PTH123 - the process's own end closes it

    assert "" == shell.ended(process).err


def test_each_fact_of_the_machine_has_a_line(doctor, serve):
    """The lines about the machine are there whatever the network does."""
    found = findings_of(doctor("--json", at=serve(ApiServer())))

    assert {"open files", "disk", "state", "completion", "trust", "libraries", "extra cli", "extra s3"} <= set(found)


@pytest.mark.parametrize("columns", [80, 40])
def test_lines_on_a_terminal(shell, columns):
    """On a terminal lines are wrapped under their own column, what to do on a line of its own; NO_COLOR is honoured."""
    with on_terminal(shell, "doctor", "--emulator", columns=columns, NO_COLOR="1", NEBULA_TEIR="x") as (process, given):
        let_go(given)
        lines = given.read_to_end().splitlines()
        code = process.wait()

    assert 0 == code
    assert "\x1b[3" not in given.written
    small = "note     NEBULA_TEIR            "
    at = lines.index("note     NEBULA_TEIR            it is set, and nothing reads it" if columns == 80 else small)
    assert "→ if you meant NEBULA_TIER, set that" in [line.strip() for line in lines[at + 1 : at + 3]]
    assert max(map(len, lines[1:-1])) <= columns


def test_colours_on_a_terminal(shell):
    """On a terminal the state has a colour, and the line has none."""
    with on_terminal(shell, "doctor", "--emulator") as (process, given):
        let_go(given)
        assert "\x1b[32mok       \x1b[0mkey  " in given.read_to_end()
        assert 0 == process.wait()
