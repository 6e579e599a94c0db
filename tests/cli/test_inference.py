"""The second API from a shell: `--dialect inference`, several pictures of one request, and those that come as URLs."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import attrs
import httpx
import pytest
from engine.wire import RawServer, answer, closed_url
from PIL import Image

from nebula_async.images.media import read_media

SMALL = ("--dialect", "inference", "--size", "64x64")
SCHNELL = "black-forest-labs/FLUX.1-schnell"
MIXED = (
    "prompt,dialect,width,height,n,size,response_format",
    "a cat,,64,64,,,",
    "two cats,inference,,,2,64x64,",
    "three cats,inference,,,3,64x64,b64_json",
    "four cats,serverless,64,64,,,",
)
STORED = [
    "000000000-a-cat.png",
    "000000001-two-cats-1.png",
    "000000001-two-cats.png",
    "000000002-three-cats-1.png",
    "000000002-three-cats-2.png",
    "000000002-three-cats.png",
    "000000003-four-cats.png",
]


def red_picture() -> bytes:
    """Return a small picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "PNG")
    return buffer.getvalue()


RED = red_picture()


class Scripted(RawServer):
    """Answers a request for pictures with these, a request for a picture with one, and all else with `list_models`."""

    key = "sk-raw"

    def __init__(self, pictures: Sequence[Mapping], list_models: Callable[[socket.socket], bytes]) -> None:
        self.pictures, self.list_models = pictures, list_models
        super().__init__(self.talk)

    base_url = inference_url = property(lambda self: self.url)
    storage_host = property(lambda self: self.url.partition("://")[2])

    def talk(self, connection: socket.socket) -> None:
        """Answer whatever comes."""
        while True:
            connection.sendall(self.reply(self.read_request(connection), connection))

    def reply(self, request: bytes, connection: socket.socket) -> bytes:
        """Return the answer to one request."""
        if request.startswith(b"POST"):
            pictures = [{name: self.written(value) for name, value in one.items()} for one in self.pictures]
            return answer(200, json.dumps({"status": "success", "data": {"images": pictures}}).encode())
        return answer(200, RED) if b" /red.png " in request.partition(b"\r\n")[0] else self.list_models(connection)

    def written(self, value: str) -> str:
        """Return a URL, of this server where it has no host."""
        return f"{self.url}{value}" if value.startswith("/") else value


def no_models(_connection: socket.socket) -> bytes:
    """There is no list of models."""
    return answer(404)


@pytest.fixture
def script() -> Iterator[Callable[..., Scripted]]:
    """Start a server of these pictures; it stops when the test ends."""
    with ExitStack() as stack:

        def begin(*pictures: Mapping, list_models: Callable[[socket.socket], bytes] = no_models) -> Scripted:
            server = Scripted(pictures, list_models)
            stack.callback(server.close)
            return server

        yield begin


def fetched(url: str) -> bytes:
    """Fetch what a person would who was told a URL."""
    with httpx.Client(trust_env=False) as http:
        return http.get(url).content


def urls(text: str) -> list[str]:
    """Return the URLs in a text."""
    return re.findall(r"https?://[^\s;]+", text)


def notes(out: Path) -> list[str]:
    """Return what the ledger of a job says about what went wrong."""
    with closing(sqlite3.connect(out / ".nebula" / "ledger.db")) as ledger:
        return [error for (error,) in ledger.execute("SELECT error FROM item ORDER BY number")]


def stored(shell, out: str) -> list[str]:
    """Return the names of a job's pictures, each of which is whole."""
    paths = sorted((shell.folder / out / "images").rglob("*.png"))
    for path in paths:
        read_media(path.read_bytes())
    return [path.name for path in paths]


def until(condition: Callable[[], object], process) -> None:
    """Wait for what happens in the emulator's thread while a command runs."""
    while not condition():
        assert process.poll() is None


OUTPUTS = {
    "file": (("-o", "pics.png"), ["pics.png", "pics-1.png", "pics-2.png"]),
    "folder": (("-o", "there"), ["there/a-cat-1.png", "there/a-cat-1-1.png", "there/a-cat-1-2.png"]),
}


@pytest.mark.parametrize(("output", "files"), OUTPUTS.values(), ids=list(OUTPUTS))
def test_all_pictures_of_one_request_are_saved_and_told_with_their_own_cost(shell, emulator, output, files):
    """`--n 3` leaves three different files, the first under the name that was asked for, each told on a line."""
    (shell.folder / "there").mkdir()
    shell.write("there/a-cat.png", "mine")
    shell.write("there/a-cat-1-1.jpg", "mine") if "there" not in output else None
    result = shell.run("generate", "a cat", *SMALL, "--n", 3, *output, at=emulator)
    assert (0, [f"{file} (64x64, $0.0019)" for file in files], "") == (
        result.code,
        result.out.splitlines(),
        result.err,
    )
    assert 3 == emulator.journal.charged == len({(shell.folder / file).read_bytes() for file in files})
    assert "mine\n" == (shell.folder / "there/a-cat.png").read_text()


def test_overwriting_replaces_the_file_that_was_named_and_no_other(shell, emulator):
    """An existing file is refused before anything is sent; with --overwrite it is replaced, and its likes are kept."""
    for name in ("pics.png", "pics-1.png"):
        shell.write(name, "mine")
    given = ("generate", "a cat", *SMALL, "--n", 2, "-o", "pics")
    result = shell.run(*given, at=emulator)
    assert (2, "", "nebula-async: pics.png exists; give another --output, or --overwrite\n") == (
        result.code,
        result.out,
        result.err,
    )
    assert () == emulator.journal.requests

    result = shell.run(*given, "--overwrite", at=emulator)
    assert (0, ["pics.png", "pics-2.png"]) == (result.code, [line.split()[0] for line in result.out.splitlines()])
    assert "mine\n" == (shell.folder / "pics-1.png").read_text()
    read_media((shell.folder / "pics.png").read_bytes())


def test_every_option_of_the_inference_api_reaches_it(shell, emulator):
    """What is given is what is sent; with b64_json no URL is fetched."""
    options = {"n": 2, "size": "48x32", "quality": "hd", "style": "vivid", "response_format": "b64_json"}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    named = ("--model", "sdxl", "--negative-prompt", "dogs")
    result = shell.run("generate", "a cat", "--dialect", "inference", *words, *named, at=emulator)
    assert (0, "a-cat.png (48x32, price not known)\na-cat-1.png (48x32, price not known)\n") == (
        result.code,
        result.out,
    )
    (sent,) = emulator.journal.generations
    assert options | {"prompt": "a cat", "model": "sdxl", "negative_prompt": "dogs"} == dict(sent.fields)
    assert {"api"} == {record.origin for record in emulator.journal.requests}


WRONG = {
    "width": (("--dialect", "inference", "--width", 64), "width belongs to the serverless dialect"),
    "image": (("--dialect", "inference", "--image", "x.png"), "image belongs to the serverless dialect"),
    "size": (("--size", "64x64"), "size belongs to the inference dialect"),
    "too many": (("--dialect", "inference", "--n", 11), "n must be a whole number from 1 to 10; got 11"),
    "a half": (("--dialect", "inference", "--n", 2.5), 'Invalid value for --n: unable to convert "2.5" into a whole'),
    "form": (("--dialect", "inference", "--size", "1024X1024"), "size must be width x height in pixels, such as 1024x"),
    "dialect": (("--dialect", "inferance"), 'Invalid value "inferance" for --dialect. Choose from: "serverless", "inf'),
    "quality": (("--dialect", "inference", "--quality", "high"), 'Invalid value "high" for --quality. Choose from: "'),
    "two servers": (("--inference-url", "http://127.0.0.1:1", "--emulator"), "--emulator and --inference-url name two"),
    "no server": (("--inference-url", "http://pictures.example/v1"), "inference_url must begin with https://: the key"),
}


@pytest.mark.parametrize(("options", "said"), WRONG.values(), ids=list(WRONG))
def test_options_that_do_not_fit_are_one_sentence_and_end_with_2(shell, emulator, options, said):
    """An option of the other API, and a value that no API takes, is named before anything is sent."""
    result = shell.run("generate", "a cat", *options, at=emulator)
    assert (2, "", 1) == (result.code, result.out, len(result.err.splitlines()))
    assert result.err.startswith(f"nebula-async: {said}")
    assert ((), []) == (emulator.journal.requests, shell.files())


def test_lines_that_do_not_fit_their_dialect_are_listed_and_nothing_is_sent(shell, emulator):
    """Each line of a manifest is checked for the API that it is for, in cells and in JSON values."""
    table = shell.write(
        "wrong.csv",
        "prompt,dialect,n,size,quality,width",
        "a cat,inferance,,,,",
        "a cat,,2,,,",
        "a cat,inference,,,,64",
        "a cat,inference,11,,,",
        "a cat,inference,2.0,,,",
        "a cat,inference,,1024X1024,,",
        "a cat,inference,,,high,",
        "a cat,inference,2,64x64,hd,",
    )
    result = shell.run("bulk", table, at=emulator)
    foreign = "and this request is of the"
    assert (2, "") == (result.code, result.out)
    assert [
        "nebula-async: wrong.csv cannot be used, nothing was sent; lines to mend: 7",
        "  wrong.csv:2: dialect must be one of inference, serverless; got 'inferance'",
        f"  wrong.csv:3: n belongs to the inference dialect (InferenceRequest), {foreign} serverless one",
        f"  wrong.csv:4: width belongs to the serverless dialect (ImageRequest), {foreign} inference one",
        "  wrong.csv:5: n must be a whole number from 1 to 10; got 11 (int)",
        "  wrong.csv:6: n must be a whole number; got '2.0'",
        "  wrong.csv:7: size must be width x height in pixels, such as 1024x1024; got '1024X1024'",
        "  wrong.csv:8: quality must be one of hd, standard; got 'high'",
    ] == result.err.splitlines()

    objects = shell.write(
        "wrong.jsonl",
        '{"prompt": "a cat", "dialect": 3}',
        '{"prompt": "a cat", "dialect": "inference", "n": true}',
        '{"prompt": "a cat", "dialect": "inference", "extra": {"size": "64x64"}}',
    )
    result = shell.run("bulk", objects, "--model", "sdxl", at=emulator)
    assert [
        "  wrong.jsonl:1: dialect must be one of inference, serverless; got 3 (int)",
        "  wrong.jsonl:2: n must be a whole number from 1 to 10; got True (bool)",
        "  wrong.jsonl:3: extra must not hold size: give it as an argument of its own",
    ] == result.err.splitlines()[1:]
    assert ((), ["wrong.csv", "wrong.jsonl"]) == (emulator.journal.requests, shell.files())


def test_a_picture_that_cannot_be_fetched_is_told_with_its_url(shell, emulator):
    """Paid for and not here, a picture is told with its price in pictures and where it lies, and can be had there."""
    result = shell.run("generate", "a cat", *SMALL, "--n", 2, at=emulator, NEBULA_ALLOWED_IMAGE_HOSTS="")
    assert (1, "", []) == (result.code, result.out, shell.files())
    reason, *told = result.err.splitlines()
    assert re.fullmatch(r"nebula-async: the picture cannot be fetched: .* \(pictures paid for: 2\)", reason)
    assert ["a picture that was not fetched: "] * 2 == [line.partition("http")[0] for line in told]
    assert [64, 64] == [read_media(fetched(url)).width for url in urls("\n".join(told))]


def test_a_picture_that_expired_says_what_its_storage_answered(shell, start):
    """A link that works no more is named with the answer to it, and the exit code is that of one failure."""
    server = start(url_seconds=0, expired_status=403)
    result = shell.run("generate", "a cat", *SMALL, "--timeout", 1, at=server)
    assert (1, "", []) == (result.code, result.out, shell.files())
    assert "its storage answered HTTP 403" in result.err
    assert "(pictures paid for: 1)\na picture that was not fetched: http://127.0.0.1:" in result.err
    assert 1 == server.journal.charged


def test_the_pictures_that_are_here_are_saved_although_others_are_not(shell, script):
    """Of several pictures those that arrive are saved, the others are told with their URLs, and 1 says that some lack."""
    lost = [f"{closed_url()}/gone.png", "https://169.254.169.254/secret"]
    server = script({"url": "/red.png"}, {"url": lost[0]}, {"url": lost[1]})
    hosts = f"{server.storage_host},{lost[0].split('/')[2]}"
    result = shell.run(
        "generate", "a cat", *SMALL, "--n", 3, "--timeout", 1, at=server, NEBULA_ALLOWED_IMAGE_HOSTS=hosts
    )
    assert (1, "a-cat.png (16x16, $0.0019)\n", ["a-cat.png"]) == (result.code, result.out, shell.files())
    assert [
        *(f"a picture that was not fetched: {url}" for url in lost),
        "pictures asked for and not here: 2 of 3",
    ] == result.err.splitlines()
    assert [b"Authorization"] * 2 == [
        name for request in server.requests for name in re.findall(rb"(?m)^Authorization", request)
    ]


def test_pictures_that_cannot_be_saved_are_told_with_their_urls(shell, emulator, tmp_path_factory):
    """A disk that takes nothing ends with 3, one sentence for each place that was tried, and where the pictures lie."""
    small_disk = tmp_path_factory.mktemp("bin") / "nebula-async"
    small_disk.write_text(f'#!/bin/sh\nulimit -f 1\nexec {shell.command} "$@"\n')
    small_disk.chmod(0o755)
    result = attrs.evolve(shell, command=small_disk).run("generate", "a cat", *SMALL, "--n", 2, at=emulator)
    assert (3, "", []) == (result.code, result.out, shell.files())
    assert 2 == result.err.count("cannot save the picture as a-cat: File too large\n")
    assert "could not be saved (pictures paid for: 2)\n" in result.err
    assert [64, 64] == [read_media(fetched(url)).width for url in urls(result.err)]


def test_a_name_without_room_for_a_number_loses_no_picture(shell, emulator):
    """Where the name of a second picture would be too long, it is in the folder for temporary files, and told."""
    spare = shell.folder / "spare"
    spare.mkdir()
    name = "x" * 250
    result = shell.run("generate", "a cat", *SMALL, "--n", 2, "-o", name, at=emulator, TMPDIR=str(spare))
    assert (0, [f"{name}.png", f"{spare}/{'x' * 60}.png"]) == (
        result.code,
        [line.split()[0] for line in result.out.splitlines()],
    )
    assert f"cannot save the picture as {name}-1: File name too long\n" == result.err
    assert 2 == len(shell.files())


def test_the_content_policy_refuses_one_prompt_and_costs_nothing(shell, emulator):
    """What is refused says what to do, alone and in a job, where the other prompts are made."""
    result = shell.run("generate", "some gore", *SMALL, at=emulator)
    assert (1, "") == (result.code, result.out)
    assert result.err.endswith("our content policy (HTTP 400, content_policy_violation); change the prompt\n")

    prompts = shell.write("prompts.txt", "some gore", "a cat")
    result = shell.run("bulk", prompts, *SMALL, at=emulator)
    assert (1, ["000000001-a-cat.png"], 1) == (result.code, stored(shell, "prompts"), emulator.journal.charged)
    assert re.search(r"^failed: item 1, 'some gore': .* content_policy_violation\); change", result.err, re.MULTILINE)
    assert "refused: 1; --retry-failed sends them again\n" in result.err


def test_the_price_is_the_one_that_the_api_lists(shell, script):
    """What a picture costs is told by the account's own list, also for a model that is not built in."""
    listed = {"data": {"models": [{"model_name": "sdxl", "model_type": "Image", "price": 0.25}]}}
    server = script({"url": "/red.png"}, list_models=lambda _connection: answer(200, json.dumps(listed).encode()))
    result = shell.run("generate", "a cat", *SMALL, "--model", "sdxl", at=server)
    assert (0, "a-cat.png (16x16, $0.25)\n", "") == (result.code, result.out, result.err)


def test_a_price_list_that_does_not_come_keeps_no_picture_waiting(shell, script):
    """Where the list does not answer, the built-in price is told, and the picture is made all the same."""
    b64 = base64.b64encode(RED).decode()
    server = script({"b64_json": b64}, list_models=lambda connection: connection.recv(1))
    result = shell.run("generate", "a cat", *SMALL, "--timeout", 1, at=server)
    assert (0, "a-cat.png (16x16, $0.0019)\n", "") == (result.code, result.out, result.err)


def test_an_interrupted_request_for_several_pictures_may_have_been_paid_for(shell, start):
    """Ctrl-C says so, with 130, also where the pictures would have come as URLs."""
    server = start(faults=["delay=60:@1"])
    process = shell.start("generate", "a cat", *SMALL, "--n", 2, at=server)
    until(lambda: server.journal.charged, process)
    process.send_signal(signal.SIGINT)
    result = shell.ended(process)
    assert (130, "nebula-async: interrupted; what was under way may have been paid for\n") == (result.code, result.err)


def test_a_mixed_job_resumes_without_sending_and_refuses_a_changed_dialect(shell, emulator):
    """Rows of both APIs are one job: a second run asks for nothing, and a row that would change its API is named."""
    rows = shell.write("mixed.csv", *MIXED)
    result = shell.run("bulk", rows, at=emulator)
    assert (0, STORED, 7) == (result.code, stored(shell, "mixed"), emulator.journal.charged)
    assert re.match(r"4 of 4 are in mixed/images; this run: 7 pictures in \d+\.\d s for \$0\.0133\n", result.out)
    assert "0o700" == oct((shell.folder / "mixed/.nebula").stat().st_mode & 0o777)

    emulator.reset()
    result = shell.run("bulk", rows, at=emulator)
    assert (0, ()) == (result.code, emulator.journal.requests)
    assert re.match(r"4 of 4 are in mixed/images; this run: 0 pictures in \d+\.\d s for \$0\n", result.out)

    shell.write("mixed.csv", *MIXED[:3], MIXED[3].replace("inference,,,3,64x64,b64_json", ",,,,,"), MIXED[4])
    result = shell.run("bulk", rows, at=emulator)
    assert (2, "") == (result.code, result.out)
    assert result.err.startswith("nebula-async: mixed was begun with other input: line 4 of mixed.csv, or the options")
    assert () == emulator.journal.requests


def test_options_fill_in_a_file_of_prompts_for_the_inference_api(shell):
    """A text file has no columns: --dialect and the options say it all, against the command's own emulator too."""
    prompts = shell.write("prompts.txt", "a cat", "two cats")
    given = ("bulk", prompts, "--emulator")
    result = shell.run(*given, *SMALL, "--n", 2)
    assert 0 == result.code
    assert 4 == len(stored(shell, "prompts"))
    assert "the emulator's journal: generation requests 2, pictures charged 4, USD 0.0076\n" in result.err

    result = shell.run(*given, "--width", 64, "--height", 64)
    assert (2, "") == (result.code, result.out)
    assert "prompts was begun with other input: line 1, 2 of prompts.txt, or the options that fill it in" in result.err
    assert "generation requests 0, pictures charged 0" in result.err


def test_options_of_one_api_do_not_fill_in_lines_of_the_other(shell, emulator):
    """An option that a line cannot have is not dropped unseen: the line is named, and nothing is sent."""
    rows = shell.write("mixed.csv", *MIXED)
    result = shell.run("bulk", rows, "--width", 128, at=emulator)
    assert (2, "", ()) == (result.code, result.out, emulator.journal.requests)
    assert ["  mixed.csv:3: width belongs to", "  mixed.csv:4: width belongs to"] == [
        line.partition(" the serverless dialect")[0] for line in result.err.splitlines()[1:]
    ]


def test_a_mixed_job_that_is_killed_resumes_and_says_what_it_sends_again(shell, start):
    """Nothing that was stored is lost or bought again; what was under way is sent again, and that is said."""
    server = start(faults=["delay=60:@3"])
    given = ("bulk", shell.write("mixed.csv", *MIXED), "--concurrency", 1)
    process = shell.start(*given, at=server)
    until(lambda: server.journal.charged == 6, process)
    process.kill()
    assert -signal.SIGKILL == shell.ended(process).code
    assert STORED[:3] == stored(shell, "mixed")

    result = shell.run(*given, at=server)
    assert (0, STORED, 6 + 4) == (result.code, stored(shell, "mixed"), server.journal.charged)
    assert result.err.startswith(
        "under way when a run was stopped, and sent again: 1; these may be paid for twice\n"
    )


def test_a_job_tells_what_it_could_not_fetch_and_keeps_the_urls(shell, emulator):
    """What was paid for and not fetched is told at once, and where it lies can be read in the ledger."""
    prompts = shell.write("prompts.txt", "a cat")
    result = shell.run("bulk", prompts, *SMALL, "--n", 2, at=emulator, NEBULA_ALLOWED_IMAGE_HOSTS="")
    assert (1, []) == (result.code, stored(shell, "prompts"))
    assert re.search(r"^failed: item 1, 'a cat': .*; where it lies is noted in the job's ledger$", result.err, re.M)
    assert "paid for, and unusable or not stored: 1; --retry-failed sends them again\n" in result.err
    assert [] == urls(result.err.replace("https://;", ""))
    assert [64, 64] == [read_media(fetched(url)).width for url in urls(notes(shell.folder / "prompts")[0]) if "gen" in url]
