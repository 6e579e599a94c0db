"""The second API from a shell: `--dialect inference`, several pictures of one request, and those that come as URLs."""

from __future__ import annotations

import io
import json
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path

import anyio
import attrs
import httpx
import pytest
from engine.wire import RawServer, answer, closed_url
from PIL import Image
from trio.testing import MockClock

from nebula_async.cli.account import learn_prices
from nebula_async.client import AsyncNebula
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
    """Has these models, answers a request for pictures with these URLs, and has a picture at /red.png."""

    key = "sk-raw"

    def __init__(self, *urls: str, models: Sequence[Mapping] = ()) -> None:
        self.urls, self.models = urls, models
        super().__init__(self.talk)

    base_url = inference_url = property(lambda self: self.url)
    storage_host = property(lambda self: self.url.partition("://")[2])

    def talk(self, connection: socket.socket) -> None:
        """Answer whatever comes."""
        while True:
            connection.sendall(self.reply(self.read_request(connection).partition(b"\r\n")[0]))

    def reply(self, line: bytes) -> bytes:
        """Return the answer to a request by its first line."""
        if b" /red.png " in line:
            return answer(200, RED)
        if line.startswith(b"GET"):
            return answer(200, json.dumps({"data": {"models": self.models}}).encode())
        images = [{"url": url if "://" in url else f"{self.url}{url}"} for url in self.urls]
        return answer(200, json.dumps({"status": "success", "data": {"images": images}}).encode())


@pytest.fixture
def script() -> Iterator[Callable[..., Scripted]]:
    """Start a server that answers so; it stops when the test ends."""
    with ExitStack() as stack:

        def begin(*urls: str, **options: Sequence[Mapping]) -> Scripted:
            server = Scripted(*urls, **options)
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


def noted_urls(out: Path) -> list[str]:
    """Return the URLs that the ledger of a job knows."""
    with closing(sqlite3.connect(out / ".nebula" / "ledger.db")) as ledger:
        return [url for (url,) in ledger.execute("SELECT url FROM output WHERE url IS NOT NULL ORDER BY seq, idx")]


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
        time.sleep(0.01)


OUTPUTS = {
    "file": (("-o", "pics.png"), ["pics.png", "pics-1.png", "pics-2.png"]),
    "folder": (("-o", "there"), ["there/a-cat-1.png", "there/a-cat-1-2.png", "there/a-cat-1-3.png"]),
}


@pytest.mark.parametrize(("output", "files"), OUTPUTS.values(), ids=list(OUTPUTS))
def test_all_pictures_of_one_request_are_saved_and_told_with_their_own_cost(shell, emulator, output, files):
    """`--n 3` leaves three files under free names like the one that was asked for, each told on a line."""
    (shell.folder / "there").mkdir()
    mine = [shell.write(f"there/{name}", "mine") for name in ("a-cat.png", "a-cat-1-1.jpg")]
    result = shell.run("generate", "a cat", *SMALL, "--n", 3, *output, at=emulator)
    assert (0, [f"{file} (64x64, $0.0019)" for file in files], "") == (
        result.code,
        [re.sub(r"[\d.]+ kB, ", "", line) for line in result.out.splitlines()],
        result.err,
    )
    assert 3 == emulator.journal.charged == len({(shell.folder / file).read_bytes() for file in files})
    assert ["mine\n"] * 2 == [(shell.folder / name).read_text() for name in mine]


def test_overwriting_replaces_the_file_that_was_named_and_no_other(shell, emulator):
    """With --overwrite a file of the name is replaced, and its likes are kept: further pictures get free names."""
    for name in ("pics.png", "pics-1.png"):
        shell.write(name, "mine")
    result = shell.run("generate", "a cat", *SMALL, "--n", 2, "-o", "pics", "--overwrite", at=emulator)
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
        re.sub(r"[\d.]+ kB, ", "", result.out),
    )
    (sent,) = emulator.journal.generations
    assert options | {"prompt": "a cat", "model": "sdxl", "negative_prompt": "dogs"} == dict(sent.fields)
    assert {"api"} == {record.origin for record in emulator.journal.requests}


WRONG = {
    ("--dialect", "inference", "--width", 64): "the inference API has no width: give dialect serverless",
    ("--size", "64x64"): "the serverless API has no size: give dialect inference",
    ("--dialect", "inference", "--n", 11): "n must be a whole number from 1 to 10; got 11",
    ("--dialect", "inference", "--n", 2.5): 'Invalid value for --n: unable to convert "2.5" into a whole number',
    ("--dialect", "inference", "--size", "1024X1024"): "size must be width x height in pixels, such as 1024x1024; got",
    ("--dialect", "inferance"): 'Invalid value "inferance" for --dialect. Choose from: "serverless", "inference"',
    ("--inference-url", "http://pictures.example/v1"): "inference_url must begin with https://: the key would travel",
    ("--inference-url", "http://127.0.0.1:1", "--emulator"): "--emulator and --inference-url name two servers; give",
}


def test_options_that_do_not_fit_are_one_sentence_and_end_with_2(shell, emulator):
    """An option of the other API, and a value that no API takes, is named before anything is sent."""
    results = {given: shell.run("generate", "a cat", *given, at=emulator) for given in WRONG}
    assert {given: f"nebula-async: {said}" for given, said in WRONG.items()} == {
        given: result.err[: len(f"nebula-async: {WRONG[given]}")] for given, result in results.items()
    }
    assert {(2, "", 1)} == {(result.code, result.out, result.err.count("\n")) for result in results.values()}
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
    objects = shell.write(
        "wrong.jsonl",
        '{"prompt": "a cat", "dialect": 3}',
        '{"prompt": "a cat", "dialect": "inference", "n": true}',
        '{"prompt": "a cat", "dialect": "inference", "extra": {"size": "64x64"}}',
    )
    processes = [shell.start("bulk", manifest, at=emulator) for manifest in (table, objects)]
    result = shell.ended(processes[0])
    assert (2, "") == (result.code, result.out)
    assert [
        "nebula-async: wrong.csv cannot be used, nothing was sent; lines to mend: 7",
        "  wrong.csv:2: dialect must be one of inference, serverless; got 'inferance'",
        "  wrong.csv:3: the serverless API has no n: give dialect inference (InferenceRequest), or leave that out",
        "  wrong.csv:4: the inference API has no width: give dialect serverless (ImageRequest), or leave that out",
        "  wrong.csv:5: n must be a whole number from 1 to 10; got 11 (int)",
        "  wrong.csv:6: n must be a whole number; got '2.0'",
        "  wrong.csv:7: size must be width x height in pixels, such as 1024x1024; got '1024X1024'",
        "  wrong.csv:8: quality must be one of hd, standard; got 'high'",
    ] == result.err.splitlines()
    result = shell.ended(processes[1])
    assert (2, "") == (result.code, result.out)
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
    assert re.fullmatch(
        r"nebula-async: the picture cannot be fetched: .* may name .*, if you trust it; .*\. Paid for: 2 pictures\."
        r" Fetching it later costs nothing\.",
        reason,
    )
    assert ["a picture that was not fetched: "] * 2 == [line.partition("http")[0] for line in told]
    assert [64, 64] == [read_media(fetched(url)).width for url in urls("\n".join(told))]


def test_the_pictures_that_are_here_are_saved_although_others_are_not(shell, script):
    """Of several pictures those that arrive are saved, the others told with their URLs; the exit code is 1."""
    lost = [f"{closed_url()}/gone.png", "https://169.254.169.254/secret"]
    server = script("/red.png", *lost)
    hosts = f"{server.storage_host},{lost[0].split('/')[2]}"
    result = shell.run(
        "generate", "a cat", *SMALL, "--n", 3, "--timeout", 2, at=server, NEBULA_ALLOWED_IMAGE_HOSTS=hosts
    )
    assert (1, "a-cat.png (16x16, 80 bytes, $0.0019)\n", ["a-cat.png"]) == (result.code, result.out, shell.files())
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
    result = attrs.evolve(shell, command=small_disk).run_alone("generate", "a cat", *SMALL, "--n", 2, at=emulator)
    assert (3, "", []) == (result.code, result.out, shell.files())
    assert 2 == result.err.count("cannot save the picture as a-cat: File too large\n")
    assert (
        "could not be saved; make room, or give another --output, and ask for it again. Paid for: 2 pictures.\n"
        in result.err
    )
    assert [64, 64] == [read_media(fetched(url)).width for url in urls(result.err)]


def test_a_name_without_room_for_a_number_loses_no_picture(shell, emulator):
    """Where the name of a second picture would be too long, it is in the folder for temporary files, and told."""
    spare = shell.folder / "spare"
    spare.mkdir()
    name = "x" * 250
    result = shell.run_alone("generate", "a cat", *SMALL, "--n", 2, "-o", name, at=emulator, TMPDIR=str(spare))
    assert (0, [f"{name}.png", f"{spare}/{'x' * 60}.png"]) == (
        result.code,
        [line.split()[0] for line in result.out.splitlines()],
    )
    assert f"cannot save the picture as {name}-1: File name too long\n" == result.err
    assert 2 == len(shell.files())


def test_the_content_policy_refuses_one_prompt_and_costs_nothing(shell, emulator):
    """What is refused says what to do, in one sentence, with the exit code of one failure."""
    result = shell.run("generate", "some gore", *SMALL, at=emulator)
    assert (1, "", 0) == (result.code, result.out, emulator.journal.charged)
    assert result.err.endswith(
        "our content policy (HTTP 400, content_policy_violation). Not charged."
        " Trying again does not help. Change the prompt.\n"
    )


def test_the_price_is_the_one_that_the_api_lists(shell, script):
    """What a picture costs is told by the account's own list, also for a model that is not built in."""
    server = script("/red.png", models=[{"model_name": "sdxl", "model_type": "Image", "price": 0.25}])
    result = shell.run("generate", "a cat", *SMALL, "--model", "sdxl", at=server)
    assert (0, "a-cat.png (16x16, 80 bytes, $0.25)\n", "") == (result.code, result.out, result.err)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])
async def test_a_price_list_that_does_not_come_keeps_no_picture_waiting_for_more_than_two_seconds():
    """Where the list does not answer, the built-in price stands, and the picture can be asked for soon."""

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _request: httpx.Request) -> httpx.Response:
            await anyio.sleep_forever()
            raise AssertionError

    async with AsyncNebula("sk-raw", transport=Silent()) as nebula:
        started = anyio.current_time()
        await learn_prices(nebula)
        assert 2.0 == pytest.approx(anyio.current_time() - started)
        assert Decimal("0.0019") == nebula.generator.price_of(SCHNELL)


def test_an_interrupted_request_for_several_pictures_may_have_been_paid_for(shell, start):
    """Ctrl-C says so, with 130, also where the pictures would have come as URLs."""
    server = start(faults=["delay=60:@1"])
    process = shell.start("generate", "a cat", *SMALL, "--n", 2, at=server)
    until(lambda: server.journal.charged, process)
    process.send_signal(signal.SIGINT)
    result = shell.ended(process)
    told = "nebula-async: interrupted; a request that was under way may have been paid for\n"
    assert (130, told) == (result.code, result.err)


def test_a_mixed_job_resumes_without_sending(shell, emulator):
    """Rows of both APIs are one job, in a folder whose notes are its owner's; a second run asks for nothing."""
    rows = shell.write("mixed.csv", *MIXED)
    result = shell.run("bulk", rows, at=emulator)
    assert (0, STORED, 7) == (result.code, stored(shell, "mixed"), emulator.journal.charged)
    assert re.search(r"^4 of 4 items done\n(.*\n)*This run +7 pictures in [\d.]+ s.*\$0\.0133\n", result.out)
    assert "0o700" == oct((shell.folder / "mixed/.nebula").stat().st_mode & 0o777)

    emulator.reset()
    result = shell.run("bulk", rows, at=emulator)
    assert (0, ()) == (result.code, emulator.journal.requests)
    assert result.out.startswith("4 of 4 items done\n")


def test_options_fill_in_a_file_of_prompts_for_the_inference_api(shell):
    """A text file has no columns: --dialect and the options say it all, against the command's own emulator too."""
    prompts = shell.write("prompts.txt", "a cat", "two cats")
    result = shell.run("bulk", prompts, *SMALL, "--n", 2, "--emulator")
    assert 0 == result.code
    assert 4 == len(stored(shell, "prompts"))
    assert "the emulator's journal: generation requests 2, pictures charged 4, USD 0.0076\n" in result.err


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
    assert (1, STORED[:3] + STORED[-1:], 6 + 1) == (result.code, stored(shell, "mixed"), server.journal.charged)
    assert "under way when a run was stopped, and not sent again: 1; --resend-unknown does\n" in result.err
    result = shell.run(*given, "--resend-unknown", at=server)
    assert (0, STORED, 6 + 4) == (result.code, stored(shell, "mixed"), server.journal.charged)


def test_a_job_tells_what_it_could_not_fetch_and_keeps_the_urls(shell, emulator):
    """What was paid for and not fetched is told at once, and where it lies can be read in the ledger."""
    prompts = shell.write("prompts.txt", "a cat")
    result = shell.run("bulk", prompts, *SMALL, "--n", 2, at=emulator, NEBULA_ALLOWED_IMAGE_HOSTS="")
    assert (3, []) == (result.code, stored(shell, "prompts"))
    reason = r"^failed: item 0, 'a cat': the picture cannot be fetched: .*; paid for: 2 pictures$"
    assert re.search(reason, result.err, re.MULTILINE)
    assert result.out.startswith("0 of 1 item done, 1 to be fetched\n")
    assert [] == urls(result.err.replace("https://;", ""))
    assert [64, 64] == [read_media(fetched(url)).width for url in noted_urls(shell.folder / "prompts")]
