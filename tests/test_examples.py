"""The examples, each run as its first lines say."""

from __future__ import annotations

import ast
import http.client
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image as Pillow
from places import announced

from nebula_async.emulator import Emulator, Fault

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
INDEX = (EXAMPLES / "README.md").read_text()

SAID = {
    "after_a_job.py": ["3 of 4 done", "a-cat.png a cat ", "'a fox' of no/such-model: ", "1 more with a model"],
    "cancellation.py": ["the deadline is over", "charged: 0-1", "task is cancelled: True", "the client goes on: 256"],
    "error_codes.py": ["BadRequestError invalid_prompt", "ContentPolicyError", "QuotaExhaustedError"],
    "expired_url.py": ["the picture cannot be fetched", "its URL is valid until"],
    "image_to_image.py": ["before.png", "after.png", "give a mask of the image's size"],
    "into_a_folder.py": ["a-red-hat.png 256 None", "{'Generation': 12}"],
    "job_that_resumes.py": ["first run: ", "second run: ", "12 of 12, exit code 0", "charged: 12-12 pictures"],
    "job_with_a_budget.py": ["stopped by: ", "5 of 20 for 0.0095 USD; 15 wait", "20 of 20, exit code 0"],
    "legacy_model_name.py": ["legacy.png"],
    "metrics.py": ["Generated            2", "failed: BadRequestError 1", "slowest, seconds"],
    "never_pay_twice.py": ["1-2 charges; the API charged 2", "0-1; the API charged 1", "1-1; the API charged 1"],
    "on_trio.py": ["trio-cat.png", "trio-dog.png", "trio-fish.png"],
    "one_picture.py": ["one-picture.png 512x512 seed ", "USD 0.0019"],
    "pictures_by_url.py": ["valid until 20", "lake-5.png"],
    "provenance.py": ["a reading cat ", "the same pixels: True"],
    "python_sample.py": [],
    "serverless_reply.py": ["model: black-forest-labs/FLUX.1-schnell", "bytes of image/png, 512 x 512"],
    "shared_limit.py": ["10 pictures in ", "allowed are 300", "10 requests today; True"],
    "ten_at_once.py": ["ten/07.png", "number 8 failed, 0-0 pictures charged", "number 9 failed"],
    "without_async.py": ["without-async.png", "1 True", "4 from threads; balance: "],
}
"""What each script that ends by itself says, among other things."""

SERVED = {"fastapi_app.py", "object_store.py", "ray_bulk.py", "test_cats.py"}
"""Examples that need a server, or are one, or are run by pytest: they have tests of their own, one in tests/heavy."""

STARTED = re.compile(r"running on http://127\.0\.0\.1:(\d+)")

KEPT = 60
"""Lines that an example has at most."""


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    """The environment of someone with a key, whose API is an emulator that knows the documents' key."""
    with Emulator(keys=["YOUR_API_KEY"]) as emulator:
        yield os.environ | announced(emulator)


def run(words: list[str], folder: Path, environ: dict[str, str]) -> str:
    """Run a command with the examples beside it, and return what it says; it has to end well, and without a warning."""
    shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("javascript"))
    done = subprocess.run(
        [sys.executable, "-W", "error", *words], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_each_example_has_its_test():
    """What lies there is what is run."""
    assert set(SCRIPTS) == set(SAID) | SERVED


@pytest.mark.parametrize("name", SAID)
def test_an_example_does_what_it_says(name, environ, tmp_path):
    """The script runs to its end, and says what it promises; each picture that it leaves can be opened."""
    said = run([f"examples/{name}"], tmp_path, environ)
    assert [] == [words for words in SAID[name] if words not in said]
    for path in tmp_path.glob("*.png"):
        with Pillow.open(path) as picture:
            picture.load()


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_is_short_and_says_how_it_is_run(name):
    """Sixty lines, and on top what it shows, and the command that runs it."""
    text = (EXAMPLES / name).read_text()
    assert text.count("\n") <= KEPT
    if name != "python_sample.py":  # which is as its page prints it
        told = ast.get_docstring(ast.parse(text))
        assert re.search(rf"^[^\n]+[.:]\n\n(?s:.*){name.removesuffix('.py')}", told or "")


def test_the_index_names_every_example():
    """Nobody has to open the files to find the one that is wanted, and nothing is named that is not there."""
    there = {path.name + "/" * path.is_dir() for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__/"}
    assert there == set(re.findall(r"^\| \[`([^`]+)`\]\([^)]+\) \|", INDEX, flags=re.MULTILINE))


def test_the_test_that_one_copies_passes(environ, tmp_path):
    """The example of a test of one's own is green, and needs no key."""
    without = {name: value for name, value in environ.items() if not name.startswith("NEBULA_")}
    said = run(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "examples/test_cats.py"], tmp_path, without
    )
    assert "2 passed" in said


# FastAPI


@contextmanager
def served(environ: dict[str, str]) -> Iterator[str]:
    """Serve the application as its first lines say, on a free port, and give its URL."""
    words = ["-m", "uvicorn", "--port", "0", "--app-dir", str(EXAMPLES), "fastapi_app:app"]
    with subprocess.Popen([sys.executable, *words], env=environ, stderr=subprocess.PIPE, text=True) as process:
        started = next((found for line in process.stderr if (found := STARTED.search(line))), None)
        try:
            assert started is not None
            yield f"http://127.0.0.1:{started[1]}"
        finally:
            process.terminate()
            process.stderr.read()


def post(url: str, *, seconds: float = 30, **body: object) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Return status, headers and body of the answer to a JSON body; who gets none in so many seconds leaves."""
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    return get(urllib.request.Request(url, data, headers), seconds)  # noqa: S310


def get(url: str | urllib.request.Request, seconds: float = 30) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Return status, headers and body of what is there."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as reply:  # noqa: S310 - our own server
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_the_web_service_answers_with_a_picture(environ, tmp_path):
    """One request gives one picture, with its type and seed; what the user can mend is a 422 that says what it was."""
    with served(environ) as url:
        status, headers, body = post(f"{url}/images", prompt="a flying cat", width=128, height=128)
        assert (200, "image/png") == (status, headers["content-type"])
        assert headers["x-image-seed"].isdecimal()
        (tmp_path / "cat.png").write_bytes(body)
        with Pillow.open(tmp_path / "cat.png") as picture:
            assert (128, 128) == picture.size

        status, _, body = post(f"{url}/images", prompt="a cat", width=7)
        assert 422 == status
        assert "width must be a whole number" in json.loads(body)["detail"][0]["msg"]
        assert 422 == post(f"{url}/images", prompt="a cat", width=2048)[0]


def test_the_web_service_tells_of_many_and_finds_what_is_stored(environ, tmp_path):
    """Each picture of a batch is told with its URL, and a picture whose visitor left is found by the request's id."""
    with served(environ | {"PICTURES": str(tmp_path / "pictures")}) as url:
        _, headers, body = get(f"{url}/batch?prompt=a+red+cat&prompt=a+blue+cat")
        assert headers["content-type"].startswith("text/event-stream")
        results = [json.loads(data) for data in re.findall(r"^data: (.+)$", body.decode(), flags=re.MULTILINE)]
        assert "complete" == results[-1]["state"]
        for result in results[1:-1]:
            status, headers, _ = get(url + result["images"][0]["url"])
            assert (200, "image/png") == (status, headers["content-type"])
        assert 200 == get(f"{url}/health/ready")[0]

        with pytest.raises(TimeoutError):
            post(f"{url}/images", seconds=0.05, prompt="a cat", id="Order 17")
        deadline = time.monotonic() + 20
        while get(f"{url}/finished?wish=Order%2017")[0] == 404 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert 200 == get(f"{url}/finished?wish=Order%2017")[0]


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        (Fault("429", at=1, headers={"Retry-After": "7"}), 429, {"6", "7"}),
        (Fault("402", "insufficient_quota", at=1), 402, {None}),
        (Fault("delay", "1", at=1), 504, {None}),
    ],
    ids=["too many requests", "no credit", "too slow"],
)
def test_the_web_service_tells_what_the_api_did(fault, status, retry_after, environ):
    """Too many requests are a 429 that says when to come again; what only the operator can mend says so."""
    with Emulator(faults=[fault]) as emulator:
        environ |= {"NEBULA_API_KEY": emulator.key, "NEBULA_BASE_URL": emulator.base_url, "NEBULA_TIMEOUT": "0.5"}
        with served(environ) as url:
            found, headers, body = post(f"{url}/images", prompt="a cat")
    assert (status, {"detail", "reference"}) == (found, set(json.loads(body)))
    assert headers["retry-after"] in retry_after


# An object store


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """The environment of someone who has a bucket, on a server of this machine."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("PUT", "/pictures")
    assert 200 == connection.getresponse().status
    connection.close()
    yield {
        "AWS_ACCESS_KEY_ID": "AKIDTEST",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    server.stop()


def test_pictures_go_into_a_bucket(environ, bucket, tmp_path):
    """Calls and a job store their pictures there and tell the URLs; what the job knows lies in its folder."""
    said = run(["examples/object_store.py", "s3://pictures/cats"], tmp_path, environ | bucket)
    assert 2 == said.count("s3://pictures/cats/many/")
    assert "2 of 2 are in s3://pictures/cats/job" in said
    assert 2 == json.loads((tmp_path / "owl-and-fox/report.json").read_text())["done"]
