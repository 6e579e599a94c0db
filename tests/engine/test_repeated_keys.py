"""A server that repeats the key in what it says of a failure."""

from __future__ import annotations

import json
import pickle

import pytest
from wire import RawServer, answer

from nebula_async import AsyncNebula, NebulaError, RetryPolicy
from nebula_async.config import Config

pytestmark = pytest.mark.anyio

KEY = "sk-canary-0123456789/abc"

REPLIES = {
    "in the message": (400, {"error": {"message": f"bad header: Bearer {KEY}", "code": "invalid_request"}}),
    "in the code": (400, {"error": {"message": "no", "code": KEY.replace("/", "_")}}),
    "in the details": (
        422,
        {"detail": [{"loc": ["header", KEY], "msg": f"no {KEY}", "input": {KEY: [KEY]}}]},
    ),
    "where a long message is cut": (500, {"error": {"message": "x" * 240 + KEY + "x" * 100}}),
    "in an envelope with status 200": (200, {"status": "failed", "message": f"Bearer {KEY} may not", "data": None}),
}


@pytest.mark.parametrize("where", REPLIES)
@pytest.mark.parametrize("is_escaped", [False, True])
async def test_what_the_server_repeats_of_the_key_is_not_told(where, is_escaped):
    """Neither text, details nor pickle of an error hold the key, or its beginning, wherever the reply had it."""
    status, said = REPLIES[where]
    key = KEY.replace("/", "_") if "code" in where else KEY  # as a code may be written
    body = json.dumps(said)
    body = body.replace(KEY, KEY.replace("/", "\\u002f")) if is_escaped and status == 200 else body

    def handle(connection) -> None:
        server.read_request(connection)
        connection.sendall(answer(status, body.encode(), f"x-request-id: {key}"))

    server = RawServer(handle)
    config = Config(base_url=f"{server.url}/api/v1", retry=RetryPolicy(attempts=1))
    try:
        async with AsyncNebula(key, config=config) as nebula:
            with pytest.raises(NebulaError) as caught:
                await nebula.generate("a cat", model="black-forest-labs/FLUX.1-schnell")
    finally:
        server.close()

    error = caught.value
    told = f"{error} {error!r} {error.message} {error.request_id} {error.details}".encode() + pickle.dumps(error)
    assert b"sk-canary" not in told
    assert b"***" in told or "cut" in where


async def test_a_short_key_takes_nothing_out_of_a_text():
    """A key of a few letters, which stand in ordinary words too, leaves messages as they are."""

    def handle(connection) -> None:
        server.read_request(connection)
        connection.sendall(answer(400, b'{"error": {"message": "bad size"}}'))

    server = RawServer(handle)
    try:
        async with AsyncNebula("bad", base_url=f"{server.url}/api/v1") as nebula:
            with pytest.raises(NebulaError, match="bad size"):
                await nebula.generate("a cat", model="black-forest-labs/FLUX.1-schnell")
    finally:
        server.close()
