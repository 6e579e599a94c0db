"""The way to Redis: the scripts that run there, and one error for everything that can go wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLEOFError
from typing import Any
from urllib.parse import urlsplit

import anyio
from attrs import define, field
from coredis import Redis
from coredis.commands import Script
from coredis.exceptions import AuthenticationError, AuthenticationRequiredError, AuthorizationError

from nebula_async.integrations.redis_address import Address

ANSWER_SECONDS = 0.6
"""Redis answers within a millisecond; one that takes so long is not there."""

CONNECT_SECONDS = 1.0
"""A connection takes several times as long, with TLS to another continent."""

KEYS = ("turns", "members", "marks", "policy")
MEET, AGREE, LEAVE = (
    Script[str](script=Path(__file__).with_name(f"redis_{name}.lua").read_text()) for name in ("meet", "agree", "leave")
)


NOBODY_LISTENS = (ConnectionRefusedError, FileNotFoundError)
HUNG_UP = (anyio.EndOfStream, anyio.BrokenResourceError, ConnectionResetError, BrokenPipeError, SSLEOFError)


class LinkLostError(Exception):
    """Redis cannot be used now; the text says why. Whether it did what it was asked is unknown.

    `is_ended`: the other end hung up. `is_refused`: nobody listens, at any address that Redis' name has. Whatever else
    it was, others may well reach Redis.
    """

    def __init__(self, text: str, error: BaseException | None = None) -> None:
        super().__init__(text)
        origins = list(_origins(error)) if error is not None else []
        self.is_ended = any(isinstance(origin, HUNG_UP) for origin in origins)
        self.is_refused = bool(origins) and all(isinstance(origin, NOBODY_LISTENS) for origin in origins)


class LinkRefusedError(LinkLostError):
    """Redis answers, and lets nobody in with what the URL says."""


@define(eq=False, repr=False)
class Link:
    """What an account's scripts are called through. Its keys lie in one slot of a cluster."""

    address: Address
    account: str
    _client: Redis[str] | None = field(default=None, init=False)

    @property
    def is_near(self) -> bool:
        """Whether what listens is on this machine: Redis, or the near end of a way to it."""
        parts = urlsplit(self.address.url)
        host = parts.hostname or ""
        return parts.scheme == "unix" or host in ("localhost", "::1") or host.startswith("127.")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold connections inside the block; what waits for an answer at its end is told that the link is lost."""
        async with self.address.client(CONNECT_SECONDS) as self._client:
            try:
                yield
            finally:
                self._client = None

    async def connect(self) -> None:
        """Connect, for which there is more time than for an answer. Raises `LinkLostError`."""
        await self._guarded(lambda client: client.ping(), CONNECT_SECONDS)

    async def meet(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Be heard of and reserve turns; return the answer. Raises `LinkLostError`."""
        answer: dict[str, Any] = json.loads(await self._call(MEET, _written(request)))
        return answer

    async def agree(self, decision: Mapping[str, Any]) -> bool:
        """Write what was decided; return whether it stands, since nobody had decided meanwhile."""
        return bool(await self._call(AGREE, _written(decision)))

    async def leave(self, member: str, mine: int, told: int) -> None:
        """Be no member any more. Raises `LinkLostError`."""
        await self._call(LEAVE, member, mine, told)

    async def _call(self, script: Script[str], *arguments: str | int) -> Any:
        keys = [f"nebula:{{{self.account}}}:{key}" for key in KEYS]
        return await self._guarded(lambda client: script(keys=keys, args=arguments, client=client), ANSWER_SECONDS)

    async def _guarded(self, ask: Callable[[Redis[str]], Awaitable[Any]], seconds: float) -> Any:
        if self._client is None:
            raise LinkLostError(f"Redis at {self.address} is not connected")
        try:
            with anyio.fail_after(seconds):
                return await ask(self._client)
        except TimeoutError:
            raise LinkLostError(f"Redis at {self.address} did not answer within {seconds:g} s") from None
        except (AuthenticationError, AuthorizationError) as error:
            raise LinkRefusedError(f"Redis at {self.address} {self._refusal(error)}") from error
        except Exception as error:  # coredis has many, and those of sockets go through it
            raise LinkLostError(f"Redis at {self.address} cannot be used: {said(error)}", error) from error

    def _refusal(self, error: Exception) -> str:
        if isinstance(error, AuthenticationRequiredError) and not self.address.names_password:
            return "refuses whoever gives no password; the URL names none: redis://user:password@host:port/0"
        return f"refuses: {error}"


def _written(values: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in values.items() if value is not None})  # Lua knows no null


def _origins(error: BaseException) -> Iterator[BaseException]:
    """Return what an error came of in the end: each error of a group, and of those its cause."""
    causes = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__,)
    for cause in causes:
        yield from (error,) if cause is None else _origins(cause)


def said(error: BaseException) -> str:
    """Return an error as one line: of a group, its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
