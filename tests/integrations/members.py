"""What the tests of the gate over Redis share: members of one account, each with a connection of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import anyio
from attrs import define, field
from redis_server import RedisServer

from nebula_async.config import Config, RetryPolicy
from nebula_async.events import Event
from nebula_async.integrations.redis import RedisGate
from nebula_async.integrations.redis_account import RedisAccount
from nebula_async.integrations.redis_address import Address
from nebula_async.integrations.redis_link import Link

ACCOUNT = "cats"
SOON = 40.0


@define
class Members:
    """Makes the gates of an account's members, and hears what they tell."""

    server: RedisServer
    events: list[Event] = field(factory=list)
    url: str | None = None

    def gate(
        self,
        per_minute: float | None = None,
        *,
        account: str = ACCOUNT,
        concurrency: int = 16,
        backoff: float = 1.0,
        tier: Any = None,
        shared_concurrency: int | None = None,
    ) -> RedisGate:
        """Return the gate of one more member."""
        config = Config(rate_limit=per_minute, tier=tier, concurrency=concurrency, retry=RetryPolicy(backoff=backoff))
        return RedisGate(
            self.url or self.server.url,
            account=account,
            config=config,
            shared_concurrency=shared_concurrency,
            observer=self.events.append,
        )

    def key(self, name: str) -> str:
        """Return what something of the account is called in Redis."""
        return f"nebula:{{{ACCOUNT}}}:{name}"

    @property
    def names(self) -> list[str]:
        """Those who are members, as Redis knows."""
        return self.server.run("HKEYS", self.key("members"))


def account_at(
    url: str,
    per_minute: float | None = 600,
    *,
    name: str = "one",
    per_day: int | None = None,
    shared: int | None = None,
) -> RedisAccount:
    """Return what a member knows of an account."""
    return RedisAccount(Link(Address(url), ACCOUNT), name, per_minute, per_day, shared, 1.0, Random(1))  # noqa: S311


@asynccontextmanager
async def met(*accounts: RedisAccount) -> AsyncIterator[None]:
    """Let each of them be a member that has heard of those before it."""
    async with AsyncExitStack() as stack:
        for account in accounts:
            await stack.enter_async_context(account.link.opened())
            await account.hear()
            await account.settle()
        yield


async def attempt(gate: RedisGate, left: list[float]) -> None:
    """Enter the gate, note when, and be accepted."""
    async with gate.slot():
        left.append(anyio.current_time())
        await gate.accepted()


async def attempts(gate: RedisGate, count: int) -> list[float]:
    """Queue so many at once; return when they left."""
    left: list[float] = []
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(attempt, gate, left)
    return left


async def until(condition: Callable[[], object], seconds: float = SOON) -> None:
    """Wait until something is so."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - of what Redis says there is no event
            await anyio.sleep(0.01)
