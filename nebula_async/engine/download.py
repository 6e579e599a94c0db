"""A URL that a server gave us, to what lies there: without the key, from public hosts alone, repeated freely."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, parse_qsl, urldefrag, urljoin, urlsplit

import anyio
from attrs import define, field

from nebula_async.api.headers import read_delay
from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.config import Config
from nebula_async.engine.addresses import public_addresses
from nebula_async.engine.loops import PerLoop
from nebula_async.engine.phase import Progress
from nebula_async.engine.reading import ReplyReader
from nebula_async.engine.transport import ExchangeError, HttpTransport, Transport
from nebula_async.errors import DownloadError, NotSentError, UnusableReplyError, without_frames
from nebula_async.keys import without_secrets
from nebula_async.urls import host_and_port, read_url

if TYPE_CHECKING:
    from nebula_async.engine.connections import ConnectionStack
    from nebula_async.engine.proxy import Proxy

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

MOST_AT_ONCE = 64
MOST_REDIRECTS = 3
TRIES = 3
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 8.0

SECONDS_UNTIL_THERE = (3.0, 7.0)
"""An object that was just made may not be there yet: it is gone if it is missing for so long."""

PASSING = frozenset({408, 425, 429, *range(500, 600)})
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Unfetched(Exception):  # noqa: N818 - one try, not what a caller sees
    """A try that failed: it is worth as many in all as `tries` says; the server asked for a wait of `delay` seconds."""

    def __init__(self, problem: str, *, tries: float = TRIES, delay: float = 0.0, is_missing: bool = False) -> None:
        super().__init__(problem)
        self.tries = tries
        self.delay = delay
        self.is_missing = is_missing


class Forbidden(Unfetched):
    """A URL that is not called."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, tries=1)


@define(eq=False, repr=False)
class Downloader:
    """Fetches what URLs lead to, on connections of its own.

    `allowed_hosts` are exact `host:port` pairs that may be on any address, and may be called by plain http;
    `public_hosts`, unless `None`, the only others. The first change from one public host to another is logged as a
    warning: a storage seldom moves. Through a `custom` transport of the user's own, addresses are the user's own
    concern. Through a `proxy`, which finds the addresses of names by itself, names and addresses that are not public
    are refused all the same.
    """

    allowed_hosts: frozenset[str]
    random: Random
    custom: HttpTransport | None = None
    made_at: str = "an unknown place"
    proxy: Proxy | None = None
    keep_alive: bool = True
    public_hosts: tuple[str, ...] | None = None
    _transport: Transport = field(init=False)
    _known_hosts: set[str] = field(factory=set, init=False)
    _slots: PerLoop[anyio.Semaphore] = field(factory=lambda: PerLoop(lambda: anyio.Semaphore(MOST_AT_ONCE)), init=False)

    def __attrs_post_init__(self) -> None:
        self._transport = Transport(None, self.custom, self.made_at, self._open_stack, keep_alive=self.keep_alive)

    async def aclose(self) -> None:
        """Close the connections of the running event loop; nothing can be fetched any more."""
        await self._transport.aclose()

    async def fetch(
        self,
        url: str,
        open_reader: Callable[[], ReplyReader[Value]],
        config: Config,
        *,
        seconds: float,
        most_tries: float = math.inf,
    ) -> Value:
        """Fetch a URL and return what a reader makes of it; a `ValueError` of its means that what came is damaged.

        Repeats what may pass for `seconds`, what the storage itself says three times, and anything `most_tries` times.
        Raises `DownloadError`, which is `retryable` where a later try may succeed; the URL, which may be a secret, is
        not in its message.
        """
        problem, lasting = "no answer came", 0
        with anyio.move_on_after(seconds) as limit:
            for tries in itertools.count(1):
                try:
                    return await self._try(url, open_reader(), config)
                except Unfetched as error:
                    failure, problem = without_frames(error), str(error)
                lasting += math.isfinite(failure.tries)
                if lasting >= failure.tries or tries >= most_tries:
                    is_forbidden = isinstance(failure, Forbidden)
                    raise DownloadError(f"the picture cannot be fetched: {problem}", is_forbidden=is_forbidden)
                if anyio.current_time() + failure.delay > limit.deadline:
                    problem = f"{problem}, and asks for a wait of {failure.delay:.0f} s"
                    break
                await anyio.sleep(self._delay(failure, lasting if failure.is_missing else tries, config))
        raise DownloadError(f"the picture could not be fetched within {seconds:.3g} s: {problem}", retryable=True)

    async def _try(self, url: str, reader: ReplyReader[Value], config: Config) -> Value:
        try:
            async with self._slots.get():
                reply = await self._follow(url, config, reader)
            return await self._read(reply, reader)
        finally:
            await reader.discard()

    async def _read(self, reply: Reply, reader: ReplyReader[Value]) -> Value:
        if not reply.is_success:
            delay = read_delay(reply.headers, now=time.time())
            raise Unfetched(
                f"its storage answered HTTP {reply.status}",
                tries=math.inf if reply.status in PASSING else TRIES,
                delay=delay.seconds if delay else 0.0,
                is_missing=reply.status in (403, 404, 410),
            )
        try:
            return await reader.finish(reply)
        except ValueError as error:
            raise Unfetched(f"what its storage sent cannot be used: {error}") from error

    async def _follow(self, url: str, config: Config, reader: ReplyReader[object]) -> Reply:
        for _ in range(1 + MOST_REDIRECTS):
            url = self._checked(url)
            reply = await self._get(url, config, reader)
            target = _redirect(reply, url)
            if target is None:
                return reply
            url = target
        raise Unfetched(f"its URL is redirected more than {MOST_REDIRECTS} times", tries=1)

    async def _get(self, url: str, config: Config, reader: ReplyReader[object]) -> Reply:
        request = HttpRequest(method="GET", url=url, accept="image/*")
        try:
            return await self._transport.exchange(request, Progress(), {}, config.timeouts, reader)
        except (ExchangeError, NotSentError) as error:
            problem = _without_words_of(url, error.message if isinstance(error, NotSentError) else str(error))
            if isinstance(error.__cause__, PermissionError):
                raise Forbidden(f"{problem}; {_allowing(read_url(url))}") from error
            raise Unfetched(problem, tries=math.inf) from error
        except UnusableReplyError as error:
            raise Unfetched(_without_words_of(url, error.message)) from error
        except ValueError as error:
            raise Forbidden("its URL cannot be called") from error

    def _checked(self, url: str) -> str:
        """Return a URL that may be called, without its fragment."""
        try:
            parts = read_url(url)
        except ValueError as error:
            raise Forbidden(f"its URL {error}") from error
        if (place := host_and_port(parts)) not in self.allowed_hosts:
            if parts.scheme != "https":
                raise Forbidden(f"its URL must begin with https://; {_allowing(parts)}")
            if self.public_hosts is not None and place not in self.public_hosts:
                names = "public_image_hosts (NEBULA_PUBLIC_IMAGE_HOSTS)"
                raise Forbidden(f"its host is none of {names}, which may name {place}, if you trust it")
            self._tell_a_change(place)
        return urldefrag(url).url

    def _tell_a_change(self, place: str) -> None:
        if len(self._known_hosts) == 1 and place not in self._known_hosts:
            logger.warning("pictures are fetched from %s too, and were from %s alone", place, *self._known_hosts)
        if len(self._known_hosts) < 2:  # which are known beyond that makes no difference
            self._known_hosts.add(place)

    def _delay(self, failure: Unfetched, tries: int, config: Config) -> float:
        if failure.is_missing:
            return SECONDS_UNTIL_THERE[tries - 1] * config.retry.backoff
        own = self.random.uniform(0, min(LONGEST_WAIT, 2.0 ** min(tries, 10) / 4)) * config.retry.backoff
        return max(failure.delay, own, SHORTEST_WAIT)

    def _open_stack(self) -> ConnectionStack:
        from nebula_async.engine.connections import ConnectionStack  # with httpcore: nothing needs it sooner

        return ConnectionStack(find_addresses=self._find_addresses, proxy=self.proxy, keep_alive=self.keep_alive)

    async def _find_addresses(self, host: str, port: int) -> list[str]:
        name = f"[{host}]" if ":" in host else host
        if f"{name}:{port}" in self.allowed_hosts:
            return [host]
        if self.proxy is None:
            return await public_addresses(host, port)
        from nebula_async.engine.proxy import public_name  # few have a proxy

        return [public_name(host)]


def _allowing(parts: SplitResult) -> str:
    return f"allowed_image_hosts (NEBULA_ALLOWED_IMAGE_HOSTS) may name {host_and_port(parts)}, if you trust it"


def _without_words_of(url: str, problem: str) -> str:
    """Return what went wrong without the secrets of a signed URL: a storage may repeat what it was asked for."""
    query = urlsplit(url).query
    return str(without_secrets(problem, {query, *(value for _, value in parse_qsl(query))}))


def _redirect(reply: Reply, url: str) -> str | None:
    """Return where the reply of a URL sends us."""
    if reply.status not in REDIRECTS:
        return None
    place = next((value.decode("latin-1") for name, value in reply.headers if name.lower() == b"location"), None)
    try:
        return None if place is None else urljoin(url, place)
    except ValueError:
        return place  # no URL at all, and refused as such
