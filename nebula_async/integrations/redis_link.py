"""The way to Redis: the scripts that run there, and one error for everything that can go wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from attrs import define, field
from coredis import Redis
from coredis.commands import Script
from coredis.exceptions import AuthenticationError, AuthorizationError

from nebula_async.integrations.redis_address import Address

ANSWER_SECONDS = 0.6
"""Redis answers within a millisecond; one that takes so long is not there."""

CONNECT_SECONDS = 1.0
"""A connection takes several times as long, with TLS to another continent."""

KEYS = ("turns", "members", "marks", "policy")
MEET, AGREE, LEAVE = (
    Script[str](script=Path(__file__).with_name(f"redis_{name}.lua").read_text()) for name in ("meet", "agree", "leave")
)


class LinkLostError(Exception):
    """Redis cannot be used now; the text says why. Whether it did what it was asked is unknown.

    `is_silent`: nothing was heard, so others may well reach it.
    """

    def __init__(self, text: str, *, is_silent: bool = False) -> None:
        super().__init__(text)
        self.is_silent = is_silent


class LinkRefusedError(LinkLostError):
    """Redis answers, and lets nobody in with what the URL says."""


@define(eq=False, repr=False)
class Link:
    """What an account's scripts are called through. Its keys lie in one slot of a cluster."""

    address: Address
    account: str
    _client: Redis[str] | None = field(default=None, init=False)

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

    async def leave(self, member: str, mine: int) -> None:
        """Be no member any more. Raises `LinkLostError`."""
        await self._call(LEAVE, member, mine)

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
            raise LinkLostError(
                f"Redis at {self.address} did not answer within {seconds:g} s", is_silent=True
            ) from None
        except (AuthenticationError, AuthorizationError) as error:
            raise LinkRefusedError(f"Redis at {self.address} refuses: {error}") from error
        except Exception as error:  # coredis has many, and those of sockets go through it
            raise LinkLostError(f"Redis at {self.address} cannot be used: {_said(error)}") from error


def _written(values: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in values.items() if value is not None})  # Lua knows no null


def _said(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
