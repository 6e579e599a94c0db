"""One attempt: a request sent, its reply read, within bounds of time and size."""

from __future__ import annotations

import math
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias, cast

import anyio
import httpcore
import httpx
from attrs import define, field

from nebula_async.api.envelope import MAX_BODY
from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.config import VERSION, Timeouts
from nebula_async.engine.body import BoundedBody
from nebula_async.engine.connections import ConnectionStack
from nebula_async.engine.loops import PerLoop
from nebula_async.engine.phase import Progress
from nebula_async.errors import ConfigurationError, NebulaError, NotSentError, UnusableReplyError
from nebula_async.keys import ApiKey

USER_AGENT = f"nebula-async/{VERSION}"

MAX_REPLY_BYTES = 64 * 2**20
ERROR_SECONDS = 10.0
"""How long the body of an error is waited for."""

Origin: TypeAlias = tuple[str, str, int | None]

HttpTransport: TypeAlias = httpx.AsyncBaseTransport
"""What users hand in as their own transport."""

FAILURES = (
    httpx.TransportError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    httpcore.ProxyError,
    OSError,
)


class ExchangeError(Exception):
    """No complete reply came; the phase says what that means, `__cause__` what happened below."""


@define(eq=False)
class Credentials:
    """The key of an account, and the URLs whose servers are told it."""

    urls: tuple[str, ...]
    key: Callable[[], ApiKey]
    _origins: frozenset[Origin] = field(init=False)

    def __attrs_post_init__(self) -> None:
        try:
            self._origins = frozenset(_origin(_parsed(url)) for url in self.urls)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    def headers(self, url: httpx.URL) -> dict[str, str]:
        """Return the header that a request to this URL carries the key in."""
        if _origin(url) not in self._origins:
            raise RuntimeError(f"the key is only sent to {' and '.join(self.urls)}, not to {url.host}")
        return {"Authorization": f"Bearer {self.key().reveal()}"}


@define(eq=False)
class Transport:
    """Sends requests over connections that belong to the running event loop; the key goes along where there is one.

    `custom` is a user's own httpx transport, which is theirs to close; `make_stack` makes the connections of a loop.
    """

    credentials: Credentials | None = None
    custom: httpx.AsyncBaseTransport | None = None
    made_at: str = "an unknown place"
    make_stack: Callable[[], ConnectionStack] = ConnectionStack
    _is_open: bool = field(default=False, init=False)
    _is_closed: bool = field(default=False, init=False)
    _stacks: PerLoop[ConnectionStack] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._stacks = PerLoop(self.make_stack)

    async def exchange(
        self, request: HttpRequest, progress: Progress, headers: dict[str, str], timeouts: Timeouts
    ) -> Reply:
        """Send the request and return the complete reply; `progress` follows how far it came.

        Raises `ExchangeError` where no complete reply came, `UnusableReplyError` for a 2xx that breaks a bound, and
        `ValueError` for a URL that cannot be called.
        Cancellation closes the connection.
        """
        outgoing, http = self._outgoing(request, progress, headers, timeouts), self._http()
        progress.is_traced = self.custom is None
        try:
            with anyio.fail_after(timeouts.attempt) as limit:
                return await _exchange(http, outgoing, progress, limit, max(request.pictures, 1))
        except (httpx.ProxyError, httpcore.ProxyError) as error:
            raise NotSentError(f"the proxy refused the connection, so nothing was sent: {error}") from error
        except Exception as error:  # a transport of the user's own may raise anything
            if not isinstance(error, FAILURES) and (self.custom is None or isinstance(error, NebulaError)):
                raise
            raise ExchangeError(f"{_describe(error, timeouts)} ({outgoing.url.netloc.decode()})") from error

    async def aclose(self) -> None:
        """Close the connections of the running event loop; nothing can be sent any more.

        Those of a loop that has ended were closed with it.
        """
        self._is_open, self._is_closed = False, True
        stack = self._stacks.pop()
        if stack is not None:
            await stack.aclose()

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:  # bound: at exit the module may be gone
        if getattr(self, "_is_open", False):  # it has no attributes where its own creation failed
            text = f"unclosed AsyncNebula made at {self.made_at}: use async with, or await its aclose()"
            warn(text, ResourceWarning, source=self, stacklevel=2)

    def _outgoing(
        self, request: HttpRequest, progress: Progress, headers: dict[str, str], timeouts: Timeouts
    ) -> httpx.Request:
        url = _parsed(request.url)
        extensions: dict[str, Any] = {
            "timeout": {"connect": timeouts.connect, "write": timeouts.write, "read": timeouts.read},
            "trace": progress.trace,
        }
        fixed = {"Accept": request.accept, "Accept-Encoding": "identity", "User-Agent": USER_AGENT}
        fixed |= self.credentials.headers(url) if self.credentials else {}
        typed = {"Content-Type": "application/json"} if request.body else {}
        return httpx.Request(
            request.method, url, headers=fixed | typed | headers, content=request.body or None, extensions=extensions
        )

    def _http(self) -> httpx.AsyncBaseTransport:
        if self._is_closed:
            raise RuntimeError("this AsyncNebula is closed; make a new one")
        if self.custom is not None:
            return self.custom
        self._is_open = True
        return self._stacks.get()


async def _exchange(
    http: HttpTransport, outgoing: httpx.Request, progress: Progress, limit: anyio.CancelScope, pictures: int
) -> Reply:
    response = await http.handle_async_request(outgoing)
    progress.status = response.status_code
    if not response.is_success:
        limit.deadline = math.inf  # what it says is known; the body of an error has a limit of its own
    async with _closing(response):
        body = await _read(response, progress, MAX_REPLY_BYTES * pictures)
    return Reply(status=response.status_code, headers=tuple(response.headers.raw), body=body)


async def _read(response: httpx.Response, progress: Progress, limit: int) -> bytes:
    coding = response.headers.get("content-encoding", "").strip().lower()
    if not response.is_success:
        return await _read_error(response, coding, progress)
    body = BoundedBody(coding, limit)
    await _collect(response, body)
    if body.problem:
        raise UnusableReplyError(body.problem)
    return bytes(body.data)


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        _ = parsed.host  # decoded when it is asked for
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"{url!r} is no URL that can be called: {error}") from error
    return parsed


def _origin(url: httpx.URL) -> Origin:
    return url.scheme, url.host, url.port


async def _collect(response: httpx.Response, body: BoundedBody) -> None:
    stream = cast("httpx.AsyncByteStream", response.stream)  # an async transport's stream is async
    try:
        async for piece in stream:
            body.feed(piece)
            if body.problem:  # closed under its feet it ends by itself; `break` would leave its generators to the loop
                await response.aclose()
    except FAILURES:
        if body.problem is None:
            raise


async def _read_error(response: httpx.Response, coding: str, progress: Progress) -> bytes:
    """Read what there is of an error body, for a while: the status has decided already."""
    body = BoundedBody(coding, MAX_BODY)
    progress.is_cut = True
    with suppress(*FAILURES), anyio.move_on_after(ERROR_SECONDS):
        await _collect(response, body)
        progress.is_cut = body.problem is not None
    return bytes(body.data)


@asynccontextmanager
async def _closing(response: httpx.Response) -> AsyncIterator[None]:
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await response.aclose()


def _describe(error: BaseException, timeouts: Timeouts) -> str:
    if type(error) is TimeoutError:
        return f"no complete reply within {timeouts.attempt:g} s"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
