"""What users of the synchronous client rely on: it answers, it ends, and it never hangs."""

from __future__ import annotations

import base64
import contextvars
import gc
import inspect
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import anyio
import attrs
import pytest
from anyio.lowlevel import current_token
from engine.wire import PATIENCE, RawServer, answer
from places import announced

from nebula_async import (
    AsyncNebula,
    Charges,
    Config,
    ConfigurationError,
    Failure,
    Generation,
    ImageRequest,
    InferenceRequest,
    InvalidRequestError,
    NotFoundError,
    RetryPolicy,
    Timeouts,
)
from nebula_async.emulator import Emulator
from nebula_async.images.provenance import read_provenance
from nebula_async.sync import NebulaClient

ROOT = Path(__file__).parent.parent
SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 16, "height": 16}
BALANCE = answer(200, json.dumps({"data": {"available_balance": "1.5"}, "status": "success"}).encode())
PNG = b"\x89PNG\r\n\x1a\n"

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal on POSIX")


@pytest.fixture
def connect() -> Iterator[Callable[..., NebulaClient]]:
    """Make clients of an emulator or of a server, which are closed in the end."""
    with ExitStack() as stack:

        def make(server: Emulator | RawServer, **options) -> NebulaClient:
            key, url = ("sk-raw", server.url) if isinstance(server, RawServer) else (server.key, server.base_url)
            settings = {"retry": RetryPolicy(backoff=0), "base_url": url} | places(server)
            return stack.enter_context(NebulaClient(options.pop("api_key", key), config=Config(**settings), **options))

        yield make


def places(server: Emulator | RawServer) -> dict:
    """Return the settings of an emulator's other places."""
    if isinstance(server, RawServer):
        return {}
    return {"inference_url": server.inference_url, "allowed_image_hosts": [server.storage_host]}


@pytest.fixture
def client(emulator, connect) -> NebulaClient:
    """A client of the emulator."""
    return connect(emulator)


class Silent(RawServer):
    """A server that answers the first `ignored` requests never, and all others with a balance."""

    def __init__(self, ignored: int = 1) -> None:
        self.asked = threading.Semaphore(0)
        self._turns = iter(range(ignored))
        super().__init__(self._listen)

    def _listen(self, connection: socket.socket) -> None:
        while self.read_request(connection):
            if next(self._turns, None) is None:
                connection.sendall(BALANCE)
            else:
                self.asked.release()
                connection.recv(1)
                return

    def wait_for(self, semaphore: threading.Semaphore, times: int = 1) -> None:
        """Wait until something has happened that often."""
        for _ in range(times):
            assert semaphore.acquire(timeout=PATIENCE)


@pytest.fixture
def silence() -> Iterator[Callable[..., Silent]]:
    """Start servers that do not answer."""
    with ExitStack() as stack:

        def start(ignored: int = 1) -> Silent:
            server = Silent(ignored)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """Other threads."""
    with ThreadPoolExecutor() as pool:
        yield pool


def environ(server: Emulator | RawServer) -> dict[str, str]:
    """Return the environment of a program whose API is this."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NEBULA_"))}
    if isinstance(server, RawServer):
        return given | {"NEBULA_API_KEY": "sk-raw", "NEBULA_BASE_URL": server.url}
    return given | announced(server)


def run(server: Emulator | RawServer, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run Python; it has to end by itself."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, env=environ(server), cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def said(stderr: str) -> list[str]:
    """Return what a program wrote on stderr, but for how long asyncio's debug mode found something to take."""
    return [line for line in stderr.splitlines() if not line.startswith("Executing <")]


STRICT = ("-X", "dev", "-W", "error")

# The documented call


@pytest.mark.parametrize("flags", [(), STRICT], ids=["as it is", "strict"])
def test_the_documented_sample(flags, tmp_path):
    """The API's Python sample runs with only its import line changed: it saves the picture, says nothing and ends."""
    pytest.importorskip("requests")
    with Emulator(keys=["YOUR_API_KEY"]) as emulator:
        done = run(emulator, *flags, ROOT / "examples" / "python_sample.py", cwd=tmp_path)

    assert (0, "", []) == (done.returncode, done.stdout, said(done.stderr))
    assert (tmp_path / "generated_image.png").read_bytes().startswith(PNG)
    assert 1 == emulator.journal.charged


def test_the_sample_is_the_documented_one():
    """What the test above runs is what the API's page shows, but for its import line."""
    documented = (ROOT / "tests" / "samples" / "client_sample.py.txt").read_text()
    ours = (ROOT / "examples" / "python_sample.py").read_text()
    assert documented.replace("from nebula_block import", "from nebula_async.sync import", 1) == ours


def test_a_response_as_documented(client, emulator):
    """`generate_image` gives the documented shape, its pictures at URLs that work, and what the call cost."""
    response = client.generate_image(model="dall-e-3", prompt="a lake", n=2, size="64x32", quality="hd")
    first, second = response.data["images"]

    assert "success" == response.status
    assert (None, None) == (first["b64_json"], second["b64_json"])
    assert first["url"] != second["url"]
    assert {"images", "usage"} == response.data.keys()
    assert 2 == response.data["usage"]["images_generated"]
    assert (Charges(2, 2), 1) == (response.generation.charges, response.generation.attempts)
    assert (64, 32) == pixels(client.download(response.generation.images[1]))
    assert [{"model": "dall-e-3", "prompt": "a lake", "n": 2, "size": "64x32", "quality": "hd"}] == [
        dict(record.fields) for record in emulator.journal.requests if record.is_generation
    ]


def pixels(image) -> tuple[int, int]:
    """Return the size of a picture."""
    return image.width, image.height


def test_a_response_in_base64(client):
    """With `response_format="b64_json"` there is the picture itself, as text, and no URL."""
    response = client.generate_image(model="sdxl", prompt="a lake", size="32x32", response_format="b64_json")
    (image,) = response.data["images"]

    assert image["url"] is None
    assert response.generation.image.data == base64.b64decode(image["b64_json"], validate=True)
    assert image["b64_json"] not in repr(response)
    assert response == pickle.loads(pickle.dumps(response))  # noqa: S301 - our own


def test_a_wrong_parameter_is_not_sent(client, emulator):
    """A parameter that the page does not allow is refused by name, and so is a prompt by position."""
    with pytest.raises(InvalidRequestError, match="quality"):
        client.generate_image(model="dall-e-3", prompt="a lake", quality="best")
    with pytest.raises(TypeError):
        client.generate_image("a lake", model="dall-e-3")

    assert () == emulator.journal.requests


def test_a_refusal_is_an_error(client):
    """What the API refuses is the error that it is for `AsyncNebula`."""
    with pytest.raises(NotFoundError) as caught:
        client.generate_image(model="no/such", prompt="a lake")

    assert Charges(0, 0) == caught.value.charges


def test_the_keywords_of_generate_image_are_the_fields_of_a_request():
    """Whatever the page documents can be given, under its name, by name only."""
    given = inspect.signature(NebulaClient.generate_image).parameters.values()
    names = set(attrs.fields_dict(InferenceRequest)) - {"id", "extra"}

    assert names == {each.name for each in given} - {"self"}
    assert {inspect.Parameter.KEYWORD_ONLY} == {each.kind for each in given if each.name != "self"}


# The verbs of AsyncNebula


def test_every_verb_is_there():
    """What `AsyncNebula` can do, this client can, but for `inside`, which takes a coroutine function."""
    verbs = {name for name in vars(AsyncNebula) if not name.startswith("_")}
    assert {"aclose", "inside"} == verbs - set(vars(NebulaClient))
    assert hasattr(NebulaClient, "close")


@pytest.mark.parametrize(
    "verb",
    ["__init__", "generate", "generate_all", "generate_many", "download", "models", "credits", "with_options"],
)
def test_a_verb_takes_what_the_asynchronous_one_takes(verb):
    """`help` shows the parameters, which are those of `AsyncNebula`, and says what the verb does."""
    ours, theirs = getattr(NebulaClient, verb), getattr(AsyncNebula, verb)

    assert inspect.signature(theirs).parameters == inspect.signature(ours).parameters
    assert not inspect.iscoroutinefunction(ours)
    assert verb == "__init__" or ours.__doc__


def test_one_picture(client):
    """Prompt, name and request ask for the same, and the picture is here when the call returns."""
    parameters = SMALL | {"seed": 11}
    cats = [
        client.generate("a cat", **parameters),
        client.generate(prompt="a cat", **parameters),
        client.generate(ImageRequest("a cat", **parameters)),
        client.generate(InferenceRequest("a cat", model="sdxl", size="16x16")),
    ]

    assert [(16, 16)] * 4 == [pixels(cat.image) for cat in cats]
    assert 1 == len({cat.image.data for cat in cats[:3]})
    assert cats[3].image.data.startswith(PNG)


def test_wrong_use_raises_as_ever(client, emulator):
    """Wrong arguments raise in the thread that gave them."""
    with pytest.raises(TypeError, match="colour"):
        client.generate("a cat", colour="red", **SMALL)
    with pytest.raises(InvalidRequestError, match="width"):
        client.generate("a cat", **SMALL | {"width": 5})
    with pytest.raises(TypeError, match="for one picture use generate"):
        client.generate_all("a cat", **SMALL)
    with pytest.raises(TypeError, match="for one picture use generate"):
        client.generate_many("a cat", **SMALL)

    assert () == emulator.journal.requests


def test_many_pictures_at_once(client):
    """`generate_all` gives the results in the order of the prompts; an iterator is read in the caller's own thread."""
    readers = []

    def prompts() -> Iterator[str]:
        for prompt in ("a", " ", "c"):
            readers.append(threading.current_thread())
            yield prompt

    results = client.generate_all(prompts(), **SMALL)

    assert [Generation, Failure, Generation] == [type(result) for result in results]
    assert [0, 1, 2] == [result.index for result in results]
    assert {threading.main_thread()} == set(readers)
    assert ["d"] == [result.request.prompt for result in client.generate_all(["d"], **SMALL)]


def test_money_and_models(client):
    """Balance and price list are read as by `AsyncNebula`."""
    assert Decimal(100) == client.credits()
    assert "stabilityai/stable-diffusion-xl-base-1.0" in [model.id for model in client.models()]


def test_a_picture_is_saved(client, tmp_path):
    """`save` writes a picture and gives its path; one that is there is not overwritten unasked."""
    cat = client.generate("a cat", **SMALL)
    path = client.save(cat.image, tmp_path / "cat")

    assert (tmp_path / "cat.png", cat.image.data) == (path, path.read_bytes())
    with pytest.raises(FileExistsError):
        client.save(cat.image, path)
    assert path == client.save(cat.image, path, overwrite=True)
    client.save(cat.image, path, overwrite=True, provenance=True)
    assert cat.request.to_dict() == read_provenance(path.read_bytes()).request


def test_siblings_share_the_loop(client, emulator):
    """`with_options` gives a client with other settings, over the same connections; closing one closes both."""
    sibling = client.with_options(timeout=5)
    for each in (client, sibling):
        each.credits()
    sibling.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.credits()

    assert (Timeouts(total=5), Timeouts()) == (sibling.config.timeouts, client.config.timeouts)
    assert 1 == len({record.connection for record in emulator.journal.requests})


# Many pictures


def test_results_in_a_plain_loop(client):
    """`generate_many` is a plain context manager around a plain iterator, of what came and of what failed."""
    with client.generate_many(["a", " ", "c"], **SMALL) as results:
        assert iter(results) is results
        kinds = {result.index: type(result) for result in results}
        assert [] == list(results)

    assert {0: Generation, 1: Failure, 2: Generation} == kinds


def test_results_in_order(client):
    """`ordered=True` gives them in the order of the prompts."""
    with client.generate_many(map(str, range(20)), ordered=True, concurrency=4, **SMALL) as results:
        assert list(range(20)) == [result.index for result in results]


def test_prompts_are_taken_lazily(client):
    """An endless iterator is read no further than there is room for what comes of it."""
    taken = []

    def prompts() -> Iterator[str]:
        while True:
            taken.append(None)
            yield "a cat"

    with client.generate_many(prompts(), concurrency=2, **SMALL) as results:
        for _ in range(3):
            next(results)

    assert 3 + 2 * 2 >= len(taken)


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), StopIteration()])
def test_an_exception_of_the_block_comes_out_bare(client, error):
    """What the block raises comes out as it is, and nothing runs on."""

    def leave() -> None:
        with client.generate_many(["a", "b"], **SMALL) as results:
            next(results)
            raise error

    with pytest.raises(type(error)) as caught:
        leave()

    assert error is caught.value


def test_leaving_the_block_cancels_what_is_in_flight(connect, silence):
    """When the block is left, its connections are closed, and the client stays usable."""
    server = silence(2)
    client = connect(server)
    with client.generate_many(["a", "b", "c", "d"], concurrency=2, model="m"):
        server.wait_for(server.asked, 2)
    server.wait_for(server.gone, 2)

    assert Decimal("1.5") == client.credits()
    assert 3 == len(server.requests)


def test_an_iterator_that_is_left_says_so(client):
    """Results are there inside of the block only."""
    with client.generate_many(["a", "b"], **SMALL) as results:
        next(results)
    with pytest.raises(RuntimeError, match="the block of this iterator was left"):
        next(results)


def test_prompts_that_fail(client):
    """What the iterable raises comes out of the loop, after the results of what was taken; and so does what is none."""

    def prompts() -> Iterator[str]:
        yield "a"
        raise ValueError("no more")

    done = []
    with pytest.raises(ValueError, match="no more"), client.generate_many(prompts(), **SMALL) as results:
        done.extend(results)
    with pytest.raises(TypeError, match="not iterable"), client.generate_many(5, **SMALL) as results:
        list(results)

    assert [0] == [result.index for result in done]


def test_prompts_that_block_hold_nothing_else_up(client):
    """While an iterable waits, results come and other calls run; it may itself use the client; one thread reads it."""
    may_go_on, readers = threading.Event(), set()

    def prompts() -> Iterator[str]:
        readers.add(threading.current_thread())
        yield f"a cat for {client.credits()} dollars"
        assert may_go_on.wait(PATIENCE)
        for _ in range(10):
            readers.add(threading.current_thread())
            yield "another"

    with client.generate_many(prompts(), **SMALL) as results:
        assert "a cat for 100.00000 dollars" == next(results).request.prompt
        assert client.credits() < Decimal(100)
        may_go_on.set()
        assert 10 == len(list(results))

    assert 1 == len(readers)
    assert {threading.main_thread()} != readers


def test_leaving_while_prompts_block(client):
    """The block is left at once even if the iterable waits for something; its thread ends when that has come."""
    waiting, may_go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def prompts() -> Iterator[str]:
        try:
            waiting.set()
            assert may_go_on.wait(PATIENCE)
            yield "never asked for"
        finally:
            closed.set()

    source = prompts()
    with client.generate_many(source, **SMALL):
        assert waiting.wait(PATIENCE)
    client.close()
    may_go_on.set()
    for thread in threading.enumerate():
        if thread.name == "nebula-prompts":
            thread.join(PATIENCE)
    source.close()
    assert closed.is_set()


def test_asynchronous_prompts(client):
    """An async iterable is taken, too."""

    async def prompts():
        for prompt in "ab":
            yield prompt

    with client.generate_many(prompts(), **SMALL) as results:
        assert {"a", "b"} == {result.request.prompt for result in results}


def test_results_without_a_block(client):
    """Without `with` there is nothing to iterate, and the error says what to write."""
    with pytest.raises(TypeError, match=r"use it as a context manager: with … as results"):
        list(client.generate_many(["a"], **SMALL))


# Lifetime


DESTRUCTOR = (
    "class Late:\n    def __del__(self): client = self.client; client.{}()\nlate = Late(); late.client = client"
)
TOO_LATE = "RuntimeError: the interpreter is ending, and has ended the thread of this NebulaClient"

ENDINGS = {
    "left open": ("", 0, []),
    "closed": ("client.close()", 0, []),
    "collected": ("import gc; del client; gc.collect()", 0, []),
    "an exit code": ("import sys; sys.exit(3)", 3, []),
    "an exception": ("raise ValueError('mine')", 1, ["ValueError: mine"]),
    "inside a block of many": ("with client.generate_many(['a'], model='m') as many: raise SystemExit(4)", 4, []),
    "in the middle of many": ("many = client.generate_many(['a'] * 9, model='m'); next(many.__enter__())", 0, []),
    "in a cycle": ("client.itself = client; del client", 0, []),
    "closed by a destructor": (DESTRUCTOR.format("close"), 0, []),
    "used by a destructor": (DESTRUCTOR.format("credits"), 0, [TOO_LATE]),
}


@pytest.mark.parametrize(("ending", "code", "last_line"), ENDINGS.values(), ids=ENDINGS)
def test_a_program_ends_at_once_and_quietly(emulator, ending, code, last_line):
    """However a program ends that has used a client, nothing is waited for, and nothing is said about the client."""
    program = (
        "from nebula_async.sync import NebulaClient\n"
        "client = NebulaClient()\n"
        "client.generate('a cat', model='black-forest-labs/FLUX.1-schnell', width=16, height=16)\n" + ending
    )
    done = run(emulator, *STRICT, "-c", program)

    assert code == done.returncode, done.stderr
    assert last_line == said(done.stderr)[-1:]
    assert len(last_line) == done.stderr.count("Traceback")


def test_a_program_ends_while_a_thread_waits(silence):
    """A daemon thread that waits for its answer keeps no program from ending."""
    server = silence()
    program = (
        "import sys, threading\n"
        "from nebula_async.sync import NebulaClient\n"
        "client = NebulaClient()\n"
        "threading.Thread(target=client.credits, daemon=True).start()\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, *STRICT, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environ(server), text=True, **pipes) as process:
        server.wait_for(server.asked)
        _, stderr = process.communicate(timeout=60)

    assert (0, []) == (process.returncode, said(stderr))


def test_closing_leaves_nothing(emulator):
    """After `close` all threads and descriptors are gone that were not there before; a second `close` does nothing."""
    program = (
        "import os, threading\n"
        "from nebula_async.sync import NebulaClient\n"
        "NebulaClient().close()\n"
        "client = NebulaClient()\n"
        "before = os.listdir('/dev/fd')\n"
        "client.generate_all(list('abc'), model='black-forest-labs/FLUX.1-schnell', width=16, height=16)\n"
        "with client.generate_many(iter('abc'), model='black-forest-labs/FLUX.1-schnell') as results: next(results)\n"
        "print(len(os.listdir('/dev/fd')) > len(before), threading.active_count() > 1)\n"
        "client.close()\n"
        "client.close()\n"
        "[thread.join(10) for thread in threading.enumerate() if thread is not threading.main_thread()]\n"
        "print(os.listdir('/dev/fd') == before, threading.active_count())\n"
    )
    done = run(emulator, *STRICT, "-c", program)

    assert (["True True", "True 1"], []) == (done.stdout.splitlines(), said(done.stderr))


def test_with_a_block(emulator, connect):
    """`with` closes the client; the next call is an error that says what to do."""
    with connect(emulator) as client:
        client.credits()
    for call in (client.credits, lambda: client.generate_many(["a"], **SMALL).__enter__()):
        with pytest.raises(RuntimeError, match="this NebulaClient is closed; make a new one"):
            call()


def test_a_client_that_nobody_holds_closes_itself(emulator, connect):
    """A client that is dropped ends its thread and closes its connections, without a warning."""
    client = NebulaClient(emulator.key, base_url=emulator.base_url)
    client.credits()
    thread = own_thread()
    del client
    gc.collect()
    thread.join(PATIENCE)

    assert not thread.is_alive()


def own_thread() -> threading.Thread:
    """Return the thread of the one client there is."""
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "nebula-client"]
    return thread


def test_a_client_that_is_collected_in_its_own_thread(emulator):
    """Garbage is collected in any thread: in the client's own it neither blocks nor warns."""
    loops = []
    client = NebulaClient(emulator.key, base_url=emulator.base_url, observer=lambda _: loops.append(current_token()))
    client.credits()
    thread = own_thread()
    client.itself = client
    gc.disable()
    try:
        del client
        loops[0].native_token.call_soon_threadsafe(gc.collect)
        thread.join(PATIENCE)
    finally:
        gc.enable()

    assert not thread.is_alive()


def test_a_sibling_keeps_the_loop(emulator):
    """A sibling whose elder is dropped goes on, and ends the thread when it goes itself."""
    client = NebulaClient(emulator.key, base_url=emulator.base_url)
    sibling = client.with_options(timeout=5)
    client.credits()
    thread = own_thread()
    del client
    gc.collect()
    sibling.credits()
    del sibling
    gc.collect()
    thread.join(PATIENCE)

    assert not thread.is_alive()


def test_an_unused_client_starts_nothing(emulator):
    """Making a client costs no thread, and dropping it says nothing."""
    before = threading.active_count()
    client = NebulaClient(emulator.key)
    assert before == threading.active_count()
    del client
    gc.collect()


@pytest.mark.parametrize("key", [None, "", "sk-1\n", 5])
def test_a_missing_or_malformed_key(key):
    """Without a usable key no client is made, as with `AsyncNebula`."""
    with pytest.raises(ConfigurationError) as caught:
        NebulaClient(key)

    assert "sk-" not in str(caught.value)


def test_wrong_options(emulator):
    """An unknown option is refused, and so is a config that is none."""
    with pytest.raises(TypeError, match="colour"):
        NebulaClient("sk-1", colour="red")
    with pytest.raises(ConfigurationError, match="config must be a Config"):
        NebulaClient("sk-1", config=5)


def test_the_key_is_nowhere_to_be_seen():
    """The client shows where it sends, never with which key; nor does a report of local variables."""
    client = NebulaClient("sk-secret", base_url="https://localhost")
    with pytest.raises(ConfigurationError) as caught:
        NebulaClient("sk-secret", base_url="nowhere")

    assert "NebulaClient('https://localhost')" == repr(client)
    assert "sk-secret" not in repr(vars(client))
    assert "sk-secret" not in repr([frame.frame.f_locals for frame in caught.traceback[1:]])


def test_a_callable_that_exits(emulator):
    """What `sys.exit` in an `api_key` raises comes out of the call, and the next one works."""
    program = (
        "import sys\n"
        "from nebula_async.sync import NebulaClient\n"
        "keys = ['sk-emulator', None, 'sk-emulator']\n"
        "client = NebulaClient(lambda: keys.pop() or sys.exit(5))\n"
        "try: client.credits()\n"
        "except SystemExit as error: print(error)\n"
        "print(client.credits())\n"
    )
    done = run(emulator, "-c", program)

    assert ["5", "100.00000"] == done.stdout.splitlines(), done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors as Linux does")
def test_no_descriptors_for_a_loop(emulator):
    """Where no event loop can be opened the call says why, and a later one tries again."""
    program = (
        "import os, resource\n"
        "from nebula_async.sync import NebulaClient\n"
        "client = NebulaClient()\n"
        "with NebulaClient() as other: other.credits()\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "held = [os.dup(0) for _ in range(100)]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (max(held), hard))\n"
        "try: client.credits()\n"
        "except OSError as error: print(error.strerror)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "print(client.credits())\n"
    )
    done = run(emulator, "-c", program)

    assert ["Too many open files", "100.00000"] == done.stdout.splitlines(), done.stderr


# Threads and loops


def test_calls_of_several_threads_run_side_by_side(connect, elsewhere):
    """Each thread's call is under way while the others' are: none waits for another."""
    together = threading.Barrier(3, timeout=PATIENCE)

    def handle(connection: socket.socket) -> None:
        server.read_request(connection)
        together.wait()
        connection.sendall(BALANCE)

    server = RawServer(lambda connection: handle(connection))
    client = connect(server)
    try:
        waiting = [elsewhere.submit(client.credits) for _ in range(3)]
        assert [Decimal("1.5")] * 3 == [each.result(PATIENCE) for each in waiting]
    finally:
        server.close()


def test_many_threads_start_one_loop(client, elsewhere):
    """Threads that make the first call all at once share one event loop."""
    together = threading.Barrier(8, timeout=PATIENCE)

    def first() -> Decimal:
        together.wait()
        return client.credits()

    with ThreadPoolExecutor(8) as pool:
        assert 8 == len([each.result(PATIENCE) for each in [pool.submit(first) for _ in range(8)]])
    assert own_thread().is_alive()


@pytest.mark.anyio
async def test_in_a_running_loop(client):
    """In a coroutine, on asyncio and trio, a call blocks its loop and returns: notebooks run code like this."""
    assert Decimal(100) == client.credits()
    with client.generate_many(["a"], **SMALL) as results:
        assert 1 == len(list(results))


def test_in_a_loop_that_anyio_started(client):
    """A loop whose library is written down in a context variable is not mistaken for the client's own."""

    async def use() -> Decimal:
        return client.credits()

    assert [Decimal(100)] * 2 == [anyio.run(use, backend=backend) for backend in ("trio", "asyncio")]


def test_from_its_own_loop(emulator, connect):
    """An observer that calls the client gets an error at once instead of waiting for itself for ever."""
    errors = []

    def observe(event: object) -> None:
        for call in (client.credits, client.close, client.generate_many(["a"], **SMALL).__enter__):
            with pytest.raises(RuntimeError, match="cannot be called from its own event loop") as caught:
                call()
            errors.append(caught.value)

    client = connect(emulator, observer=observe)
    assert Decimal(100) == client.credits()
    assert 3 <= len(errors)


def test_context_variables_reach_the_call(emulator, connect):
    """What a caller has set in a context variable is seen by the observer, and by the prompts."""
    which, seen = contextvars.ContextVar("which", default="none"), set()
    client = connect(emulator, observer=lambda _: seen.add(which.get()))
    client.credits()
    which.set("mine")
    client.credits()
    with client.generate_many((which.get() for _ in range(1)), **SMALL) as results:
        assert ["mine"] == [result.request.prompt for result in results]

    assert {"none", "mine"} == seen


def test_closing_ends_the_calls_of_other_threads(connect, silence, elsewhere):
    """A call in flight when another thread closes the client ends in an error that says so."""
    server = silence()
    client = connect(server)
    waiting = elsewhere.submit(client.credits)
    server.wait_for(server.asked)
    client.close()
    with pytest.raises(RuntimeError, match="closed during the call; what was sent by then may have been paid for"):
        waiting.result(PATIENCE)
    server.wait_for(server.gone)


def test_closing_ends_the_blocks_of_other_threads(connect, silence, elsewhere):
    """An iteration is ended like a call, and its block is left without waiting for anything."""
    server = silence(2)
    client = connect(server)

    def many() -> list:
        with client.generate_many(["a", "b"], model="m") as results:
            return list(results)

    waiting = elsewhere.submit(many)
    server.wait_for(server.asked, 2)
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        waiting.result(PATIENCE)


def test_closing_in_several_threads_while_others_call(emulator, connect, elsewhere):
    """Whoever calls and whoever closes, everyone gets an answer or an error."""

    def call_until_closed() -> str:
        while True:
            try:
                client.credits()
            except RuntimeError as error:
                return str(error)

    for _ in range(10):
        client = connect(emulator)
        callers = [elsewhere.submit(call_until_closed) for _ in range(4)]
        client.credits()
        for each in [elsewhere.submit(client.close) for _ in range(2)]:
            each.result(PATIENCE)
        assert all("closed" in each.result(PATIENCE) for each in callers)


# Ctrl-C


INTERRUPTED = {
    "a call": "client.credits()",
    "one picture": "client.generate('a cat', model='m')",
    "many": "with client.generate_many(['a'], model='m') as results: list(results)",
    "all": "client.generate_all(['a'], model='m')",
    "the block": "with client.generate_many(['a'], model='m'): threading.Event().wait()",
}


@needs_posix
@pytest.mark.parametrize("call", INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_ends_the_call(silence, call):
    """Ctrl-C closes the connection of the call that waits and comes out as itself; the client stays usable."""
    server = silence()
    program = (
        "import threading\n"
        "from nebula_async.sync import NebulaClient\n"
        "client = NebulaClient()\n"
        f"try:\n    {call}\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
        "input()\n"
        "print(client.credits())\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], env=environ(server), text=True, **pipes) as process:
        server.wait_for(server.asked)
        process.send_signal(signal.SIGINT)
        assert "interrupted\n" == process.stdout.readline()
        server.wait_for(server.gone)
        rest, _ = process.communicate("\n", timeout=60)

    assert (0, "1.5\n") == (process.returncode, rest)


@needs_posix
def test_ctrl_c_that_nobody_catches(silence):
    """A program that is interrupted in a call ends as any other does: at once, by the signal, with one traceback."""
    server = silence()
    program = "from nebula_async.sync import NebulaClient\nNebulaClient().generate('a cat', model='m')\n"
    command = [sys.executable, *STRICT, "-c", program]
    with subprocess.Popen(command, env=environ(server), text=True, stderr=subprocess.PIPE) as process:
        server.wait_for(server.asked)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)

    assert -signal.SIGINT == process.returncode
    assert ["KeyboardInterrupt"] == said(stderr)[-1:]
    assert 1 == stderr.count("Traceback")


@needs_posix
def test_a_signal_handler_may_close(silence):
    """A handler that closes the client, as servers do to shut down, ends the very call that it interrupts."""
    server = silence()
    program = (
        "import signal\n"
        "from nebula_async.sync import NebulaClient\n"
        "client = NebulaClient()\n"
        "signal.signal(signal.SIGTERM, lambda *_: client.close())\n"
        "try: client.credits()\n"
        "except RuntimeError as error: print(error)\n"
    )
    command = [sys.executable, *STRICT, "-c", program]
    with subprocess.Popen(command, env=environ(server), text=True, stdout=subprocess.PIPE) as process:
        server.wait_for(server.asked)
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=60)

    assert (0, True) == (process.returncode, stdout.startswith("this NebulaClient was closed during the call"))


@needs_posix
def test_any_signal_handler_can_end_a_call(connect, silence):
    """What a signal handler raises, as a time limit does, ends the call like Ctrl-C."""

    def give_up(*_) -> None:
        raise TimeoutError("it took too long")

    def ring() -> None:
        server.wait_for(server.asked)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    server = silence()
    client = connect(server)
    before = signal.signal(signal.SIGUSR1, give_up)
    bell = threading.Thread(target=ring)
    try:
        bell.start()
        with pytest.raises(TimeoutError, match="too long"):
            client.credits()
    finally:
        bell.join()
        signal.signal(signal.SIGUSR1, before)
    server.wait_for(server.gone)
    assert Decimal("1.5") == client.credits()


# Fork


FORKED = {
    "made": "",
    "used": "client.credits()",
    "in use": (
        "asked = threading.Event()\n"
        "def forever():\n    asked.set()\n    while True: client.credits()\n"
        "threading.Thread(target=forever, daemon=True).start(); asked.wait(); client.credits()"
    ),
    "a sibling": "client.credits(); client = client.with_options(timeout=20)",
    "between results": "many = client.generate_many(['a'] * 9, **SMALL); next(many.__enter__())",
}


@needs_fork
@pytest.mark.parametrize("before", FORKED.values(), ids=FORKED)
def test_a_forked_process_has_a_loop_of_its_own(emulator, before):
    """A client made or used before a fork works in the child, over connections of its own, and on in the parent."""
    program = (
        "import gc, os, signal, sys, threading\n"
        "from nebula_async.sync import NebulaClient\n"
        f"SMALL = {SMALL}\n"
        "client = NebulaClient()\n"
        f"{before}\n"
        "child = os.fork()\n"
        "signal.alarm(30)\n"
        "if child == 0:\n"
        "    client.generate('a child', **SMALL)\n"
        "    with client.generate_many(['b', 'c'], **SMALL) as results: assert len(list(results)) == 2\n"
        "    client.close()\n"
        "    del client\n"
        "    gc.collect()\n"
        "    sys.exit(7)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "client.generate('a parent', **SMALL)\n"
    )
    done = run(emulator, "-c", program)

    assert (0, 0) == (done.returncode, done.stderr.count("Traceback")), done.stderr
    prompts = {record.prompt: record.connection for record in emulator.journal.requests}
    assert prompts["a child"] != prompts["a parent"]


@needs_fork
def test_blocks_end_in_the_process_that_began_them(emulator):
    """A child that leaves a block of its parent waits for nothing and ends nothing; going on there is an error."""
    program = (
        "import os, signal, sys\n"
        "from nebula_async.sync import NebulaClient\n"
        f"SMALL = {SMALL}\n"
        "with NebulaClient() as client, client.generate_many(['a'] * 9, concurrency=1, **SMALL) as results:\n"
        "    next(results)\n"
        "    child = os.fork()\n"
        "    signal.alarm(30)\n"
        "    if child == 0:\n"
        "        try: next(results)\n"
        "        except RuntimeError as error: print(error, flush=True)\n"
        "        sys.exit(7)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "    print(len(list(results)))\n"
    )
    done = run(emulator, "-c", program)

    assert (0, 0) == (done.returncode, done.stderr.count("Traceback")), done.stderr
    assert ["this was begun in the process that forked this one, and cannot be continued here", "8"] == (
        done.stdout.splitlines()
    )


def test_both_clients_are_made_alike():
    """Whatever `AsyncNebula` can be told when it is made, `NebulaClient` can be told, under the same name."""
    assert inspect.signature(AsyncNebula) == inspect.signature(NebulaClient)
