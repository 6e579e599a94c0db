"""The lifespan: one client from start to end, beside what an application does there itself."""

from __future__ import annotations

import inspect
import subprocess
import sys
from contextlib import asynccontextmanager
from random import Random

import pytest
from asgi import started
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from nebula_async import AsyncNebula, Config, ConfigurationError
from nebula_async.client import AsyncNebula as Client
from nebula_async.engine.gate import local_gate
from nebula_async.integrations.starlette import handle_errors, nebula_lifespan, nebula_of
from nebula_async.integrations.web.lifespan import ClientOptions

pytestmark = pytest.mark.anyio
MODEL = "black-forest-labs/FLUX.1-schnell"


async def create(request: Request) -> JSONResponse:
    """Make a picture, and tell what the state has."""
    made = await nebula_of(request).generate("a cat", model=MODEL, width=64, height=64)
    return JSONResponse({"size": len(made.image.content), "own": getattr(request.state, "own", None)})


def application(*given, **options) -> Starlette:
    """Return an application with a route that makes pictures."""
    app = Starlette(routes=[Route("/", create)], lifespan=nebula_lifespan(*given, **options))
    handle_errors(app)
    return app


@asynccontextmanager
async def gate_of_one(told: list[str]):
    """A gate that has to be entered."""
    told.append("gate in")
    yield local_gate(Config(concurrency=1), Random(1))  # noqa: S311 - chance is no secret here
    told.append("gate out")


def own_lifespan(told: list[str], state):
    """Return a lifespan of an application's own."""

    @asynccontextmanager
    async def lifespan(_app):
        told.append("own in")
        try:
            yield state
        finally:
            told.append("own out")

    return lifespan


@pytest.mark.parametrize("state", [None, {}, {"own": 7}], ids=repr)
async def test_both_states_are_in_each_request(state, emulator):
    """What the application's own lifespan yields is there beside the client, whether it yields something or not."""
    app = application(own_lifespan([], state), api_key=emulator.key, base_url=emulator.base_url)
    async with started(app) as running:
        answer = await running.get("/")
    assert (200, (state or {}).get("own")) == (answer.status, answer.json["own"])
    assert answer.json["size"] > 0
    emulator.assert_charged(1)


async def test_the_own_lifespan_begins_first_and_ends_last(emulator):
    """What the application opens is there as long as pictures are made, and the gate as long as the client is."""
    told: list[str] = []

    @asynccontextmanager
    async def client():
        told.append("client in")
        async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
            yield nebula
        told.append("client out")

    async with started(application(own_lifespan(told, None), client=client)) as running:
        assert 200 == (await running.get("/")).status
    assert ["own in", "client in", "client out", "own out"] == told
    told.clear()
    options = {"api_key": emulator.key, "base_url": emulator.base_url, "gate": gate_of_one(told)}
    async with started(application(own_lifespan(told, None), **options)) as running:
        assert 1 == running.state["nebula"].limits.concurrency
    assert ["own in", "gate in", "gate out", "own out"] == told


async def test_machines_share_a_limit_through_the_gate(redis_server, emulator):
    """A `RedisGate` is entered with the application and left with it."""
    from nebula_async.integrations.redis import RedisGate

    gate = RedisGate(redis_server.url, account="cats", config=Config(tier="expert-1"))
    async with started(application(api_key=emulator.key, base_url=emulator.base_url, gate=gate)) as running:
        assert 200 == (await running.get("/")).status
        assert 1 == running.state["nebula"].limits.used_today


async def test_the_client_is_closed_at_the_end(emulator):
    """A client that the lifespan made is closed with it, so that no connection stays."""
    async with started(application(api_key=emulator.key, base_url=emulator.base_url)) as running:
        nebula = running.state["nebula"]
    with pytest.raises(RuntimeError, match="closed"):
        await nebula.generate("a cat", model=MODEL)


async def test_a_ready_client_stays_open(emulator):
    """A client that the application made is its own to close."""
    async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
        for _ in range(2):
            async with started(application(client=nebula)) as running:
                assert 200 == (await running.get("/")).status
        await nebula.generate("a cat", model=MODEL, width=64, height=64)
    emulator.assert_charged(3)


async def test_without_a_key_the_application_does_not_start():
    """The sentence says what is missing, and what the own lifespan has opened is closed again."""
    told: list[str] = []
    with pytest.raises(ConfigurationError, match=r"^no API key: set NEBULA_API_KEY"):
        async with started(application(own_lifespan(told, None))):
            pytest.fail("it started")
    assert ["own in", "own out"] == told


async def test_an_own_lifespan_that_fails_is_not_hidden(emulator):
    """Its exception comes out bare: at the start before a client is made, at the end after it is closed."""

    @asynccontextmanager
    async def failing(_app):
        if fails_first:
            raise LookupError("no database")
        yield
        raise LookupError("not closed")

    for fails_first in (True, False):
        with pytest.raises(LookupError):
            async with started(application(failing, api_key=emulator.key)):
                assert not fails_first


async def test_what_ends_the_block_comes_out_bare(emulator):
    """A lifespan that a test enters lets the test's own exception through as it is."""
    with pytest.raises(KeyError, match="mine"):
        async with started(application(api_key=emulator.key)):
            raise KeyError("mine")


async def test_a_name_that_is_taken_is_told(emulator):
    """Two things cannot have the same name in the state."""
    with pytest.raises(ConfigurationError, match="yields nebula: give that another name"):
        async with started(application(own_lifespan([], {"nebula": 1}), api_key=emulator.key)):
            pytest.fail("it started")


async def undecorated(_app):
    """A lifespan that lacks its decorator."""
    yield


@pytest.mark.parametrize(
    ("given", "options", "sentence"),
    [
        ((), {"timeot": 60}, "timeot is no option of AsyncNebula; those are api_key, base_url, "),
        ((), {"when_left": "finish"}, "when_left must be 'cancel', 'ignore' or Finish(sink); got 'finish'"),
        ((), {"grace_seconds": -1}, "grace_seconds must be a number of seconds, 0 or more; got -1"),
        ((), {"grace_seconds": True}, "grace_seconds must be a number of seconds, 0 or more; got True"),
        ((), {"grace_seconds": float("nan")}, "grace_seconds must be a number of seconds, 0 or more; got nan"),
        ((), {"client": 7}, "client must be an AsyncNebula, or a callable that returns one; got 7"),
        ((), {"client": Client, "timeout": 3}, "client= is made already: give timeout to it"),
        ((), {"client": Client, "gate": 1}, "client= is made already: give gate to it"),
        ((undecorated,), {}, "as @asynccontextmanager makes one; got"),
        ((7,), {}, "as @asynccontextmanager makes one; got 7"),
    ],
    ids=[
        "option",
        "policy",
        "negative",
        "bool",
        "nan",
        "no client",
        "client and option",
        "client and gate",
        "undecorated",
        "no lifespan",
    ],
)
def test_what_cannot_be_meant_is_said_when_the_application_is_made(given, options, sentence):
    """A mistake in the three lines is one sentence, before anything starts."""
    with pytest.raises(ConfigurationError) as caught:
        nebula_lifespan(*given, **options)
    assert sentence in str(caught.value)


async def test_a_client_that_is_none_is_told(emulator):
    """A factory that returns something else is found when the application starts."""

    @asynccontextmanager
    async def nothing():
        yield None

    with pytest.raises(ConfigurationError, match="client must be an AsyncNebula, or return one; got None"):
        async with started(application(client=nothing)):
            pytest.fail("it started")


async def test_a_request_without_the_lifespan_is_told_what_is_missing(caplog):
    """A route that is called before the application has started gets one sentence, in the log; its visitor a 500."""
    app = Starlette(routes=[Route("/", create)])
    async with started(app) as running:
        with pytest.raises(
            ConfigurationError, match=r"lifespan=nebula_lifespan\(\), and let it start; a test does with"
        ):
            await running.get("/")
        handle_errors(app)
        app.middleware_stack = None
        assert 500 == (await running.get("/")).status
    assert "this request has no client" in caplog.text


def test_options_are_those_of_the_client():
    """Whatever `AsyncNebula` takes, the lifespan takes, too."""
    parameters = set(inspect.signature(AsyncNebula.__init__).parameters) - {"self", "gate"}
    assert parameters == set(ClientOptions.__annotations__)


WITHOUT_FASTAPI = """
import sys
sys.modules.update(dict.fromkeys(["fastapi", "pydantic", "pydantic_core"]))
import nebula_async.integrations.starlette as starlette
missing = [name for name in starlette.__all__ if not hasattr(starlette, name)]
assert not missing, missing
"""


def test_starlette_alone_is_enough():
    """Nothing of FastAPI, nor pydantic, is needed for an application of Starlette."""
    subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_FASTAPI], check=True)


def test_the_library_alone_loads_no_framework():
    """`import nebula_async` brings neither Starlette nor FastAPI."""
    code = (
        "import sys, nebula_async; nebula_async.AsyncNebula; assert not {'starlette', 'fastapi'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
