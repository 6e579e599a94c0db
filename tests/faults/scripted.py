"""A server in the test's own event loop: what it answers is scripted, and its delays pass on that loop's clock."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import httpx
import pybase64
import pytest
from attrs import define, field, frozen
from invariants import SMALL, assert_covers, end_of, running
from PIL import Image
from trio.testing import MockClock

from nebula_async import AsyncNebula, Charges, Config, Failure, Generation, NebulaError, RetryPolicy

VIRTUAL = pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])
"""An hour of waiting takes no time. (Decoding is in a thread, which this clock does not wait for: where a time matters
the last answer is none with a picture.)
"""

NO_WAITS = RetryPolicy(backoff=0)


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(file, format="PNG")
    return json.dumps({"data": [{"b64_json": pybase64.b64encode_as_string(file.getvalue())}]}).encode()


PICTURE = _picture()


@frozen
class Asked:
    """A request as it came: which one of all, when, for what, and under which key of the call and of the account."""

    number: int
    at: float
    prompt: str
    idempotency_key: str | None
    authorization: str


@frozen(kw_only=True)
class Answer:
    """What a request meets after so many `seconds`: a reply, one whose body breaks off, or no reply at all.

    `is_billed` says that the picture was made and paid for when the reply was begun.
    """

    status: int = 200
    body: bytes = PICTURE
    headers: Mapping[str, str] = field(factory=dict)
    seconds: float = 0.0
    is_billed: bool = False
    is_cut: bool = False
    is_dropped: bool = False


MADE = Answer(is_billed=True)
REFUSED = Answer(status=400, body=b'{"error": {"code": "invalid_prompt", "message": "said so"}}')
CUT = Answer(is_billed=True, is_cut=True)
DROPPED = Answer(is_dropped=True)
PAGE = b"<html><h1>Bad Gateway</h1></html>"


def says(status: int, code: str | None = None, **options) -> Answer:
    """Return an answer in the API's own envelope."""
    body = {"status": "failed", "message": "said so"} if code is None else {"error": {"code": code, "message": "so"}}
    return Answer(status=status, body=json.dumps(body).encode(), **options)


def throttled(seconds: float | None = None, **options) -> Answer:
    """Return a refusal as one too many, which asks to wait so long."""
    return says(429, headers={} if seconds is None else {"Retry-After": f"{seconds}"}, **options)


Script = Callable[[Asked], Answer]


def in_turn(*answers: Answer, then: Answer = MADE) -> Script:
    """Return the script of these answers, one for each request, and another one for all that follow."""
    return lambda asked: answers[asked.number - 1] if asked.number <= len(answers) else then


@define(eq=False)
class Scripted(httpx.AsyncBaseTransport):
    """An httpx transport that answers by itself; `asked` and `charged`, by prompt, are its journal."""

    script: Script
    asked: list[Asked] = field(factory=list, init=False)
    charged: Counter[str] = field(factory=Counter, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        asked = Asked(
            number=len(self.asked) + 1,
            at=anyio.current_time(),
            prompt=json.loads(request.content)["prompt"],
            idempotency_key=request.headers.get("Idempotency-Key"),
            authorization=request.headers["Authorization"],
        )
        self.asked.append(asked)
        answer = self.script(asked)
        await anyio.sleep(answer.seconds)
        self.charged[asked.prompt] += answer.is_billed
        if answer.is_dropped:
            raise httpx.ReadError("the line is dead")
        content = _breaking_off() if answer.is_cut else answer.body
        return httpx.Response(answer.status, headers=dict(answer.headers), content=content)


async def _breaking_off() -> AsyncIterator[bytes]:
    yield PICTURE[:20]
    raise httpx.ReadError("the line is dead")


@asynccontextmanager
async def client_of(
    server: Scripted, *, api_key="sk-emulator", observer=None, **settings
) -> AsyncIterator[AsyncNebula]:
    """Return a client of a scripted server, its own waits included; once it is closed no task of it is left."""
    config, before = Config(base_url="http://localhost", **settings), running()
    async with AsyncNebula(api_key, config=config, transport=server, observer=observer) as nebula:
        yield nebula
    assert before == running()


async def meet(server: Scripted, **settings) -> Generation | NebulaError:
    """Make the only call of a server, check what it says against what the server counted, and return its end."""
    async with client_of(server, **settings) as nebula:
        ended = await end_of(nebula)
    check_all([ended], server)
    return ended


async def all_of(server: Scripted, prompts: Sequence[str], **settings) -> list[Generation | Failure]:
    """Ask for many pictures, check all that is said of them against what the server counted, and return the ends."""
    async with client_of(server, **settings) as nebula:
        ends = await nebula.generate_all(prompts, **SMALL)
    check_all(ends, server)
    return ends


def check_all(ends: Sequence[Generation | Failure | NebulaError], server: Scripted) -> None:
    """Check all calls of a server together, and each that says its prompt by itself."""
    calls = [ended.error if isinstance(ended, Failure) else ended for ended in ends]
    assert_covers(sum((call.charges for call in calls), Charges()), server.charged.total())
    assert len(server.asked) == sum(call.attempts for call in calls)
    for ended, call in zip(ends, calls, strict=True):
        if not isinstance(ended, NebulaError):
            assert_covers(call.charges, server.charged[ended.request.prompt])
