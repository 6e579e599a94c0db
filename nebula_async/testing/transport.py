"""A Nebula Block without a socket: an httpx transport that answers by itself."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from inspect import isawaitable
from typing import Any, TypeAlias

import anyio
import httpx
from anyio.lowlevel import checkpoint
from attrs import define, field, frozen

from nebula_async.errors import ConfigurationError
from nebula_async.testing.replies import FakeFailure, FakeReply, Phase, inference_reply, picture, serverless_reply
from nebula_async.testing.seconds import check_seconds

STORAGE = "https://pictures.nebula-fake.invalid/"
PIECE_BYTES = 16 * 1024

EVENTS: dict[Phase, tuple[str, ...]] = {
    "connecting": ("connection.connect_tcp.started",),
    "sending": ("http11.send_request_headers.started",),
    "waiting": ("http11.send_request_body.complete",),
    "reading": ("http11.receive_response_headers.complete", "http11.receive_response_body.started"),
}
"""What httpcore would tell of each phase: the client judges by it what may have been paid for."""

USUAL: dict[Phase, tuple[type[httpx.TransportError], str]] = {
    "connecting": (httpx.ConnectError, "the connection was refused, as scripted"),
    "sending": (httpx.WriteError, "the connection broke while the request was sent, as scripted"),
    "waiting": (httpx.ReadError, "the connection broke before a reply came, as scripted"),
    "reading": (httpx.ReadError, "the connection broke within the reply, as scripted"),
}
"""What is raised in each phase, unless something else is given."""


@frozen
class SeenRequest:
    """A request that was sent: the key is not kept."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = field(repr=lambda body: f"<{len(body)} bytes>")

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON body, empty where there is none."""
        return json.loads(self.body) if self.body else {}

    @property
    def prompt(self) -> str | None:
        """What was asked for, in words."""
        return self.fields.get("prompt")

    @property
    def is_generation(self) -> bool:
        """Whether it asks for pictures."""
        return self.method == "POST"


Answer: TypeAlias = "str | int | FakeReply | FakeFailure | Exception"
Step: TypeAlias = "Answer | Callable[[SeenRequest], Answer | Awaitable[Answer]]"


_PROBLEM = (
    "a fake transport cannot answer with {!r}; give a status from 400 to 599, a FakeReply, a FakeFailure, an exception,"
    " a callable that returns one of these, or 'ok'"
)


def _checked(steps: Step | Iterable[Step]) -> deque[Step]:
    is_many = isinstance(steps, Iterable) and not isinstance(steps, str)
    given = deque[Any](steps if is_many else (steps,))  # type: ignore[arg-type]
    wrong = [step for step in given if not (_is_answer(step) or callable(step))]
    if wrong:
        raise ValueError(_PROBLEM.format(wrong[0]))
    return given


def _is_answer(step: object) -> bool:
    is_status = type(step) is int and 400 <= step <= 599
    return is_status or step == "ok" or isinstance(step, FakeReply | FakeFailure | Exception)


@define(eq=False)
class FakeTransport(httpx.AsyncBaseTransport):
    """An httpx transport for `AsyncNebula(transport=…)` that answers without a socket, on asyncio and trio.

    Each request for pictures takes the next of `steps`: a status, a `FakeReply`, a `FakeFailure`, an exception to
    raise, a callable that is handed the `SeenRequest` and returns one of these (or awaits it), or `"ok"`. Then, and for
    `"ok"`, each is answered with pictures: PNG files of the size that was asked for, in colours that follow from the
    request, streamed in pieces. `seconds` is how long each reply takes. `requests` is what was sent.

    What a callable raises ends the call with a `ConfigurationError` that says it, an assertion too; what connections
    raise, an `OSError` or an error of httpx, is taken for that. Raises `ValueError` for what is no step.
    """

    steps: deque[Step] = field(factory=deque, converter=_checked)
    seconds: float = field(default=0.0, kw_only=True, validator=lambda *given: check_seconds(given[-1]))
    requests: list[SeenRequest] = field(factory=list, init=False)
    _stored: dict[str, bytes] = field(factory=dict, init=False)

    def then(self, *steps: Step) -> FakeTransport:
        """Add steps, and return this transport."""
        self.steps.extend(_checked(steps))
        return self

    @property
    def generations(self) -> list[SeenRequest]:
        """The requests for pictures."""
        return [request for request in self.requests if request.is_generation]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request. Cancellation ends it where it is."""
        seen = _seen(request, await request.aread())
        self.requests.append(seen)
        exchange = _Exchange(request)
        reply = await self._answer(seen, exchange)
        await exchange.reach("waiting")
        await anyio.sleep(self.seconds)
        if isinstance(reply, FakeReply):
            return await exchange.reply(reply)
        if reply.phase == "reading":
            return await exchange.reply(self._pictures(seen), _error_of(reply))
        raise _error_of(reply)

    async def _answer(self, seen: SeenRequest, exchange: _Exchange) -> FakeReply | FakeFailure:
        if not seen.is_generation:
            return self._read(seen)
        answer = self._as_reply(await _decided(self.steps.popleft() if self.steps else "ok", seen), seen)
        if isinstance(answer, FakeFailure) and answer.phase in ("connecting", "sending"):
            await exchange.reach(answer.phase)
            raise _error_of(answer)
        return answer

    def _as_reply(self, step: Answer, seen: SeenRequest) -> FakeReply | FakeFailure:
        match step:
            case "ok":
                return self._pictures(seen)
            case FakeReply() | FakeFailure():
                return step
            case Exception():
                return FakeFailure("waiting", step)
            case int():
                return FakeReply.error(step)
        raise ConfigurationError(_PROBLEM.format(step))

    def _pictures(self, seen: SeenRequest) -> FakeReply:
        fields = seen.fields
        files = [picture(fields, index) for index in range(fields.get("n") or fields.get("num_images") or 1)]
        if "/images/generation" in seen.url:
            return serverless_reply(fields, files)
        urls = None if fields.get("response_format") == "b64_json" else [self._store(file) for file in files]
        return inference_reply(fields, files, urls)

    def _store(self, file: bytes) -> str:
        url = f"{STORAGE}{len(self._stored)}.png"
        self._stored[url] = file
        return url

    def _read(self, seen: SeenRequest) -> FakeReply:
        if seen.url in self._stored:
            return FakeReply(200, self._stored[seen.url], {"Content-Type": "image/png"})
        if seen.url.endswith("/users/credits"):
            return FakeReply(body={"data": {"available_balance": "100.00000"}, "status": "success"})
        if seen.url.endswith("/serverless/models"):
            return FakeReply(body={"data": {"models": []}, "status": "success"})
        return FakeReply.error(404)


@define(eq=False)
class _Exchange:
    """One request on its way, which tells the client how far it came as httpcore would."""

    request: httpx.Request

    async def reach(self, phase: Phase) -> None:
        trace = self.request.extensions.get("trace")
        for reached, events in EVENTS.items():
            for event in events:
                if trace is not None:
                    await trace(event, {})
            if reached == phase:
                break
        await checkpoint()

    async def reply(self, reply: FakeReply, error: Exception | None = None) -> httpx.Response:
        await self.reach("reading")
        headers = {**reply.headers, "Content-Length": str(len(reply.body))}
        return httpx.Response(reply.status, headers=headers, stream=_Pieces(reply.body, error))


@define(eq=False)
class _Pieces(httpx.AsyncByteStream):
    """A body in pieces, or its first half and an error."""

    body: bytes
    error: Exception | None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        end = len(self.body) if self.error is None else len(self.body) // 2
        for start in range(0, end, PIECE_BYTES):
            await checkpoint()
            yield self.body[start : min(start + PIECE_BYTES, end)]
        if self.error is not None:
            raise self.error


async def _decided(step: Step, seen: SeenRequest) -> Answer:
    if isinstance(step, str | int | FakeReply | FakeFailure | Exception):
        return step
    try:
        given = step(seen)
        return await given if isawaitable(given) else given
    except (httpx.TransportError, OSError):
        raise
    except Exception as error:  # a client takes whatever a transport raises for a broken connection, and tries again
        raise ConfigurationError(f"a step of the fake transport raised {error!r}") from error


def _error_of(failure: FakeFailure) -> Exception:
    kind, text = USUAL[failure.phase]
    return failure.error or kind(text)


def _seen(request: httpx.Request, body: bytes) -> SeenRequest:
    headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
    return SeenRequest(request.method, str(request.url), headers, body)
