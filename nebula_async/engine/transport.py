"""One attempt: a request sent, its reply read, within bounds of time and size."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import suppress
from functools import lru_cache
from ssl import SSLError
from typing import Any, TypeAlias, cast

import anyio
import httpcore
import httpx
from attrs import define, field

from nebula_async.api.envelope import MAX_BODY
from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.config import VERSION, Timeouts
from nebula_async.engine.body import PLAIN, BoundedBody
from nebula_async.engine.connections import ConnectionStack, ReplyBody
from nebula_async.engine.loops import PerLoop
from nebula_async.engine.phase import Progress
from nebula_async.engine.reading import BodyReader, ReplyReader, WholeBody, feed_all
from nebula_async.engine.repeated_keys import RepeatedKeys
from nebula_async.engine.withheld import withheld
from nebula_async.errors import ConfigurationError, NebulaError, NotSentError, UnusableReplyError
from nebula_async.keys import ApiKey

USER_AGENT = f"nebula-async/{VERSION}"

MAX_DOWNLOAD_BYTES = 64 * 2**20
"""Of a picture: 4096 x 4096 pixels of noise, which nothing packs, have 48 MiB, and as many again fit into 96 MiB."""

MAX_REPLY_BYTES = 88 * 2**20
"""Of a reply for each picture that was asked for: in base64 it has a third more, and some JSON stands beside it."""

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


PROXY_AUTHENTICATION_REQUIRED = "407"


@define(eq=False)
class Credentials:
    """The key of an account, the URLs whose servers are told it, and what tells the account from others."""

    urls: tuple[str, ...]
    key: Callable[[], ApiKey]
    account: Hashable = None
    _origins: frozenset[Origin] = field(init=False)
    repeated: RepeatedKeys = field(factory=RepeatedKeys, init=False)

    def __attrs_post_init__(self) -> None:
        try:
            self._origins = frozenset(_origin(_parsed(url)) for url in self.urls)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    def header(self, url: httpx.URL) -> tuple[str, str]:
        """Return the header that a request to this URL carries the key in."""
        if _origin(url) not in self._origins:
            raise RuntimeError(f"the key is only sent to {' and '.join(self.urls)}, not to {url.host}")
        key = self.key()
        self.repeated.remember(key)
        return "Authorization", f"Bearer {key.reveal()}"


@define(eq=False)
class Transport:
    """Sends requests over connections that belong to the running event loop; the key goes along where there is one.

    `custom` is a user's own httpx transport, which is theirs to close; `make_stack` makes the connections of a loop.
    With `accept_gzip` replies are asked for packed; one that comes so unasked is read as well. Without `keep_alive`,
    for which `make_stack` makes connections that close by themselves, nobody has to close it.
    """

    credentials: Credentials | None = None
    custom: httpx.AsyncBaseTransport | None = None
    made_at: str = "an unknown place"
    make_stack: Callable[[], ConnectionStack] = ConnectionStack
    accept_gzip: bool = False
    keep_alive: bool = True
    _is_open: bool = field(default=False, init=False)
    is_closed: bool = field(default=False, init=False)
    _stacks: PerLoop[ConnectionStack] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._stacks = PerLoop(self.make_stack)

    async def exchange(
        self,
        request: HttpRequest,
        progress: Progress,
        headers: dict[str, str],
        timeouts: Timeouts,
        reader: ReplyReader[object],
    ) -> Reply:
        """Send the request and return the reply; `progress` follows how far it came.

        The body of a success is fed to `reader`, to its end; that of an error comes with the reply.

        Raises `ExchangeError` where no complete reply came, `NotSentError` where a proxy lets nothing pass,
        `UnusableReplyError` for a 2xx that breaks a bound, and `ValueError` for a URL that cannot be called.
        Cancellation closes the connection.
        """
        outgoing, http = self._outgoing(request, progress, headers, timeouts), self._http()
        progress.is_traced = self.custom is None
        most = MAX_REPLY_BYTES * request.pictures or MAX_DOWNLOAD_BYTES
        try:
            if self.custom is not None:
                await outgoing.aread()  # a transport of the user's own may look at its content
            with withheld():
                reply = await _exchange(http, outgoing, progress, timeouts.attempt, most, reader)
            return reply if self.credentials is None else self.credentials.repeated.concealed(reply)
        except (httpx.ProxyError, httpcore.ProxyError) as error:
            raise _refused_by_proxy(error) from error
        except Exception as error:  # a transport of the user's own may raise anything
            if not isinstance(error, FAILURES) and (self.custom is None or isinstance(error, NebulaError)):
                raise
            raise ExchangeError(f"{_describe(error, timeouts)} ({outgoing.url.netloc.decode()})") from error

    async def aclose(self) -> None:
        """Close the connections of the running event loop; nothing can be sent any more.

        Those of a loop that has ended were closed with it.
        """
        self._is_open, self.is_closed = False, True
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
        fixed = [
            ("Host", url.netloc.decode("ascii")),
            ("Accept", request.accept),
            ("Accept-Encoding", "gzip" if self.accept_gzip else "identity"),
            ("User-Agent", USER_AGENT),
        ]
        if self.credentials:
            fixed.append(self.credentials.header(url))
        if request.size:
            fixed += [("Content-Type", "application/json"), ("Content-Length", str(request.size))]
        extensions: dict[str, Any] = {
            "timeout": {"connect": timeouts.connect, "write": timeouts.write, "read": timeouts.read},
            "trace": progress.trace,
        }
        body = request.body  # as `content` it would take ten times as long
        stream = httpx.ByteStream(body) if isinstance(body, bytes) else _Pieces(body.pieces())
        return httpx.Request(
            request.method, url, headers=[*fixed, *headers.items()], stream=stream, extensions=extensions
        )

    def _http(self) -> httpx.AsyncBaseTransport:
        if self.is_closed:
            raise RuntimeError("this AsyncNebula is closed; make a new one")
        if self.custom is not None:
            return self.custom
        self._is_open = self.keep_alive
        return self._stacks.get()


@define(eq=False)
class _Pieces(httpx.AsyncByteStream):
    """The body of one attempt; closing it lets go of what the rest is read from."""

    pieces: AsyncGenerator[bytes, None]

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self.pieces

    async def aclose(self) -> None:
        await self.pieces.aclose()


async def _exchange(
    http: HttpTransport,
    outgoing: httpx.Request,
    progress: Progress,
    seconds: float,
    most: int,
    reader: ReplyReader[object],
) -> Reply:
    with anyio.CancelScope(deadline=anyio.current_time() + seconds) as limit:
        response = await http.handle_async_request(outgoing)
        progress.status, progress.headers = response.status_code, tuple(response.headers.raw)
        if not response.is_success:
            limit.deadline = math.inf  # what it says is known; the body of an error has a limit of its own
        try:
            body = await _read(response, progress, most, reader)
            await response.aclose()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            raise
        return Reply(status=response.status_code, headers=progress.headers, body=body)
    raise TimeoutError


async def _read(response: httpx.Response, progress: Progress, most: int, reader: ReplyReader[object]) -> bytes:
    if not response.is_success:
        return await _read_error(response, progress)
    size, coding = _size(response.headers.raw), _coding(response.headers.raw)
    is_plain = size is not None and size <= most and coding in PLAIN  # no more comes than was said
    reader.begin(size if is_plain else None)
    if is_plain:
        await _feed(response, reader)
        return b""
    body = BoundedBody(coding, most, reader)
    await _feed(response, body)
    body.finish()
    return b""


def _size(headers: list[tuple[bytes, bytes]]) -> int | None:
    said = [value for name, value in headers if name.lower() == b"content-length"]
    return int(said[0]) if len(said) == 1 and said[0].isdigit() else None


def _coding(headers: list[tuple[bytes, bytes]]) -> str:
    layers = [value for name, value in headers if name.lower() == b"content-encoding"]
    return b", ".join(layers).decode("latin-1").strip().lower()


@lru_cache(maxsize=16)
def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        _ = parsed.host  # decoded when it is asked for
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"{url!r} is no URL that can be called: {error}") from error
    return parsed


def _origin(url: httpx.URL) -> Origin:
    return url.scheme, url.host, url.port


async def _feed(response: httpx.Response, body: BodyReader) -> None:
    if isinstance(response.stream, ReplyBody):
        await response.stream.receive(body)
    else:
        stream = cast("httpx.AsyncByteStream", response.stream)  # an async transport's stream is async
        await feed_all(stream, body, response.aclose)


async def _read_error(response: httpx.Response, progress: Progress) -> bytes:
    """Read what there is of an error body, for a while: the status has decided already."""
    whole = WholeBody()
    body = BoundedBody(_coding(response.headers.raw), MAX_BODY, whole)
    progress.is_cut = True
    with suppress(*FAILURES, UnusableReplyError), anyio.move_on_after(ERROR_SECONDS):
        await _feed(response, body)
        body.finish()
        progress.is_cut = False
    return bytes(whole.data)


def _refused_by_proxy(error: Exception) -> NotSentError:
    refused = f"the proxy refused the connection: {error}"
    if not str(error).startswith(PROXY_AUTHENTICATION_REQUIRED):
        return NotSentError(refused, retryable=True)
    return NotSentError(f"{refused}; check the user name and password in the proxy's URL")


def _describe(error: BaseException, timeouts: Timeouts) -> str:
    if type(error) is TimeoutError:
        return f"no complete reply within {timeouts.attempt:g} s"
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    # Those of TLS have numbers of another kind, those of name look-ups negative ones, which are said.
    number = (root.errno or 0) if isinstance(root, OSError) and not isinstance(root, SSLError) else 0
    reason = os.strerror(number) if number > 0 else ""
    said = str(error).rstrip(".")
    return ": ".join(filter(None, (type(error).__name__, said, "" if reason in said else reason)))
