"""FastAPI, in three lines: the client as a dependency, its stand-in for tests, and what /docs shows."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import anyio
import pytest
from asgi import Started, started
from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.testclient import TestClient

from nebula_async import AsyncNebula, ConfigurationError
from nebula_async.emulator import Emulator, Fault
from nebula_async.integrations import fastapi as integration
from nebula_async.integrations import starlette as for_starlette
from nebula_async.integrations.fastapi import (
    ImageBody,
    Nebula,
    get_nebula,
    handle_errors,
    image_response,
    nebula_lifespan,
    progress_response,
)

pytestmark = pytest.mark.anyio
MODEL = "black-forest-labs/FLUX.1-schnell"
WISH = {"prompt": "a cat", "model": MODEL, "width": 64, "height": 64}


def application(**options) -> FastAPI:
    """Return an application as the documentation shows it."""
    app = FastAPI(lifespan=nebula_lifespan(**options))
    handle_errors(app)

    @app.post("/images")
    async def create(body: ImageBody, nebula: Nebula) -> Response:
        return image_response(await nebula.generate(body.to_request()))

    @app.get("/batch")
    async def batch(nebula: Nebula) -> Response:
        return progress_response(nebula, ["a cat", "a dog"], data=True, model=MODEL, width=64, height=64)

    return app


async def test_three_lines_make_pictures(emulator):
    """A prompt becomes a picture, with the settings of the lifespan."""
    async with started(application(api_key=emulator.key, base_url=emulator.base_url)) as running:
        answer = await running.post("/images", WISH)
    assert (200, "image/png") == (answer.status, answer.headers["content-type"])
    assert answer.body.startswith(b"\x89PNG")


async def test_the_client_of_a_test_stands_in(emulator):
    """`app.dependency_overrides[get_nebula]` needs no lifespan and no key: routes get the test's own client."""
    app = application()
    async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
        app.dependency_overrides[get_nebula] = lambda: nebula
        running = await unstarted(app)
        assert 200 == (await running.post("/images", WISH)).status
        assert 2 == (await running.get("/batch")).body.count(b"event: result")
    emulator.assert_charged(3)


async def unstarted(app: FastAPI):
    """Return an application whose lifespan does not run."""
    return Started(app, {})


@pytest.mark.parametrize("is_entered", [True, False], ids=["entered", "not entered"])
def test_the_test_client_of_starlette_has_to_be_entered(is_entered, emulator):
    """In `with TestClient(app) as client:` the lifespan runs, and pictures are made; outside the sentence says so."""
    client = TestClient(application(api_key=emulator.key, base_url=emulator.base_url))
    if is_entered:
        with client:
            assert 200 == client.post("/images", json=WISH).status_code
    else:
        answer = client.post("/images", json=WISH)
        assert (500, 0) == (answer.status_code, emulator.journal.charged)


async def test_routers_with_lifespans_of_their_own_go_with_it(emulator):
    """A router that is included begins and ends with the application, and what it yields is in the state, too."""

    @asynccontextmanager
    async def lifespan(_app):
        yield {"own": 7}

    app, router = application(api_key=emulator.key, base_url=emulator.base_url), APIRouter(lifespan=lifespan)

    @router.get("/own")
    async def own(request: Request, nebula: Nebula) -> int:
        await nebula.generate("a cat", model=MODEL, width=64, height=64)
        return request.state.own

    app.include_router(router)
    async with started(app) as running:
        assert 7 == (await running.get("/own")).json


async def test_without_the_lifespan_a_route_says_so():
    """A test client that is not entered is the usual mistake: the sentence names it."""
    running = await unstarted(FastAPI())

    @running.app.get("/")
    async def route(nebula: Nebula) -> int:
        return 1

    with pytest.raises(ConfigurationError, match=r"a test does with `with TestClient\(app\) as client:`"):
        await running.get("/")


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault("429", at=1, headers={"Retry-After": "30"}), 429),
        (Fault("402", "insufficient_quota", at=1), 402),
        (Fault("401", "invalid_api_key", at=1), 500),
        (Fault("400", "invalid_prompt", at=1), 422),
        (Fault("400", "content_policy_violation", at=1), 422),
        (Fault("malformed", at=1), 502),
        (Fault("delay", "2", at=1), 504),
    ],
    ids=lambda value: value.text if isinstance(value, Fault) else "",
)
async def test_what_the_api_does_becomes_a_status(fault, status):
    """Errors of the API reach visitors as a status, a sentence and a reference; a refused key is no 401."""
    with Emulator(latency=0, faults=[fault]) as emulator:
        app = application(api_key=emulator.key, base_url=emulator.base_url, timeout=0.5)
        async with started(app) as running:
            answer = await running.post("/images", WISH)
    assert status == answer.status
    assert {"detail", "reference"} == set(answer.json)
    assert ("retry-after" in answer.headers) == (status == 429)


async def test_the_error_of_a_body_is_fastapis_own(emulator):
    """What is wrong with a body is told as FastAPI tells it: each thing with its place, and the request's sentence."""
    async with started(application(api_key=emulator.key, base_url=emulator.base_url)) as running:
        answer = await running.post("/images", {**WISH, "width": 7, "prompt": " "})
    assert 422 == answer.status
    assert [["body", "prompt"], ["body", "width"]] == [each["loc"] for each in answer.json["detail"]]
    assert answer.json["detail"][1]["msg"].startswith("width must be a whole number from 16 to 8192; got 7")
    assert 7 == answer.json["detail"][1]["input"]
    assert 0 == len(emulator.journal.requests)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"prompt": "\\ud800", "model": "m"}', "prompt must be text"),
        (b'{"prompt": "a cat", "model": "m", "guidance_scale": Infinity}', "guidance_scale must be a number"),
        (b'{"prompt": "a cat", "model": "m", "image": "%s"}' % (b"!" * 1_000_000), "image must be a picture"),
        (b'{"image": "%s"}' % (b"aaaa" * 100_000), "Field required"),
        (b'{"prompt": ', "JSON decode error"),
        (b"[]", "Input should be"),
        (b"", "Field required"),
        (b'{"prompt": "a cat", "model": "m", "seed": %s}' % (b"7" * 4_000), "seed must be a whole number"),
        (b'{"prompt": "a cat", "model": "m", "seed": [%s]}' % (b"7," * 4_000 + b"7"), "seed must be a whole number"),
    ],
    ids=["surrogate", "infinity", "megabyte", "rest of the body", "no JSON", "list", "nothing", "number", "numbers"],
)
async def test_whatever_a_body_is_the_answer_is_a_short_422(body, message, emulator):
    """A body that no picture can be made of is a 422 of a few hundred bytes, whatever is in it."""
    async with started(application(api_key=emulator.key, base_url=emulator.base_url)) as running:
        answer = await running.ask("POST", "/images", body)
    assert 422 == answer.status
    assert message in answer.json["detail"][0]["msg"]
    assert len(answer.body) < 1_500


async def test_a_body_with_twenty_thousand_fields_too_many_is_a_short_422(emulator):
    """The first fifty things that are wrong are told, and how many more there are."""
    async with started(application(api_key=emulator.key, base_url=emulator.base_url)) as running:
        answer = await running.post("/images", WISH | {f"{number}" * 40: number for number in range(20_000)})
    *_, last = answer.json["detail"]
    assert (422, 51, "19950 more things are wrong") == (answer.status, len(answer.json["detail"]), last["msg"])
    assert len(answer.body) < 25_000


async def test_a_handler_of_ones_own_stays():
    """An application that answers refused bodies itself goes on doing so."""

    async def mine(_request, _error):
        return Response(status_code=418)

    app = FastAPI(exception_handlers={RequestValidationError: mine})
    handle_errors(app)

    @app.post("/")
    async def create(body: ImageBody) -> int:
        return 1

    assert 418 == (await (await unstarted(app)).post("/", {})).status


async def test_the_key_never_comes_from_a_request(emulator):
    """No header, parameter or field of a request changes with which key, and at which API, pictures are made."""
    async with started(application(api_key=emulator.key, base_url=emulator.base_url)) as running:
        answer = await running.ask(
            "POST",
            "/images?api_key=sk-other&base_url=http://127.0.0.1:9",
            json.dumps(WISH).encode(),
            {"Authorization": "Bearer sk-other", "X-Api-Key": "sk-other"},
        )
        assert 200 == answer.status
        assert 422 == (await running.post("/images", {**WISH, "api_key": "sk-other"})).status


async def talk(running: Started, text: str) -> list[dict]:
    """Return what a WebSocket answers to a text."""
    messages = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": text}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "subprotocols": []}
    await running.app({**scope, "root_path": "", "scheme": "ws", "state": running.state}, receive, send)
    return sent


async def test_a_web_socket_has_the_client_too(emulator):
    """A route of a WebSocket gets the client, and what its visitor sends is read by nobody else; an error closes it,
    with the reference of the log.
    """
    app = application(api_key=emulator.key, base_url=emulator.base_url)

    @app.websocket("/ws")
    async def answer(socket: WebSocket, nebula: Nebula) -> None:
        await socket.accept()
        made = await nebula.generate(await socket.receive_text(), model=MODEL, width=64, height=64)
        await socket.send_bytes(made.image.content)
        await socket.close()

    async with started(app) as running:
        sent = await talk(running, "a cat")
        assert ["websocket.accept", "websocket.send", "websocket.close"] == [message["type"] for message in sent]
        assert sent[1]["bytes"].startswith(b"\x89PNG")
        closed = (await talk(running, " "))[-1]
    assert ("websocket.close", 1011) == (closed["type"], closed["code"])
    assert 12 == len(closed["reason"])


async def test_the_documents_of_an_application_show_what_may_be_asked(emulator):
    """`/openapi.json` has the fields with their types, bounds and base64 pictures, and no dependency of ours."""
    async with started(application(api_key=emulator.key, base_url=emulator.base_url)) as running:
        schema = (await running.get("/openapi.json")).json
    body = schema["components"]["schemas"]["ImageBody"]
    assert ["prompt", "model"] == body["required"]
    assert {"anyOf": [{"type": "integer", "minimum": 16, "maximum": 8192}, {"type": "null"}]}.items() <= (
        body["properties"]["width"].items()
    )
    assert "base64" == body["properties"]["image"]["anyOf"][0]["contentEncoding"]
    assert "extra" not in body["properties"]
    assert "parameters" not in schema["paths"]["/images"]["post"]


async def test_calls_of_visitors_go_before_a_batch():
    """Who waits for one picture does not wait for a batch that came before."""
    order = []
    with Emulator(latency=0, faults=[Fault("delay", "0.2", probability=1)]) as emulator:
        app = application(api_key=emulator.key, base_url=emulator.base_url, concurrency=1)
        async with started(app) as running, anyio.create_task_group() as group:

            async def ask(path: str) -> None:
                answer = await (running.get(path) if path == "/batch" else running.post(path, WISH))
                order.append((path, answer.status))

            group.start_soon(ask, "/batch")
            while not emulator.journal.generations:  # noqa: ASYNC110 - it is in another thread
                await anyio.sleep(0.005)
            group.start_soon(ask, "/images")
    assert [("/images", 200), ("/batch", 200)] == order


def test_the_names_of_starlette_are_those_of_fastapi():
    """Whoever knows one knows the other: FastAPI adds its dependency and its body."""
    assert {"nebula_of"} == set(for_starlette.__all__) - set(integration.__all__)
    assert {"BodyLimits", "ImageBody", "Nebula", "get_nebula"} == set(integration.__all__) - set(for_starlette.__all__)
    assert all(hasattr(module, name) for module in (integration, for_starlette) for name in module.__all__)
