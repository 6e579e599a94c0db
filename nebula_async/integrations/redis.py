"""One rate for many machines: a gate whose members meet in Redis.

    async with RedisGate("redis://10.0.0.7:6379/0", config=Config(tier="expert-1")) as gate:
        async with AsyncNebula(gate=gate) as nebula:
            ...

Needs the extra `redis`. What the members decide together, and what each does while Redis is away: docs/sharing.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import SystemRandom
from types import TracebackType
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import current_token
from attrs import define

from nebula_async.config import Config
from nebula_async.engine.allowance import Allowance, Hold
from nebula_async.engine.gate import Limits, workers_for
from nebula_async.engine.lanes import Lane
from nebula_async.engine.pace import Pace
from nebula_async.errors import ConfigurationError
from nebula_async.events import Observer, guarded, log_event
from nebula_async.integrations.redis_account import LEASE_SECONDS, RedisAccount
from nebula_async.integrations.redis_address import Address
from nebula_async.integrations.redis_link import Link, LinkLostError
from nebula_async.integrations.redis_member import Membership
from nebula_async.integrations.redis_names import account_name, new_member
from nebula_async.keys import KeySource

Value = TypeVar("Value")

__all__ = ["LEASE_SECONDS", "RedisGate"]

PATIENCE_SECONDS = 3.0
"""A refusal is told for so long; by then it is known whether Redis is there."""

TOLD_AGAIN_SECONDS = 0.05


@define(eq=False, repr=False)
class _Entered:
    """A gate's life in one event loop."""

    group: TaskGroup
    member: Membership
    loop: object
    is_learning: bool = False


class RedisGate:
    """A gate whose rate, holds, day and slots are those of all members of an account that meet in one Redis.

    - `url`: `redis://`, `rediss://` or `unix://`; its password is shown nowhere
    - `account`: what the account is called in Redis; by default a digest of the key (`api_key` or `NEBULA_API_KEY`)
      and of where the API is, never the key itself
    - `config`: the limits, of which the lowest that any member was given counts, and how many requests this member
      makes at a time; by default that of the environment, as for `AsyncNebula`
    - `shared_concurrency`: how many requests all members together may have in flight; by default each its own
    - `observer`: told when Redis is lost and regained; by default that is logged

    It is an asynchronous context manager and used in the event loop in which it was entered; one of its own tasks
    speaks with Redis meanwhile. Entering it raises `ConfigurationError` where Redis refuses the password; where Redis
    cannot be reached its calls wait. One that was not entered does nothing yet, and can be pickled. Making it raises
    `ConfigurationError` for a bad argument.
    """

    def __init__(
        self,
        url: str,
        *,
        account: str | None = None,
        api_key: KeySource | None = None,
        config: Config | None = None,
        shared_concurrency: int | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.config = Config.from_env() if config is None else config
        self.account = account_name(account, api_key, self.config)
        del api_key  # a traceback that shows local variables must not show it
        self._address = Address(url)
        del url
        self.shared_concurrency = _slots(shared_concurrency)
        self.concurrency = workers_for(self.config)
        self._observer = observer
        self._entered: _Entered | None = None

    def __repr__(self) -> str:
        return f"RedisGate({str(self._address)!r}, account={self.account!r})"

    def __reduce__(self) -> Any:
        settings: dict[str, Any] = {
            "account": self.account,
            "config": self.config,
            "shared_concurrency": self.shared_concurrency,
            "observer": self._observer,
        }
        return partial(RedisGate, self._address.url, **settings), ()

    async def __aenter__(self) -> RedisGate:
        if self._entered is not None:
            raise ConfigurationError("this RedisGate is entered already; make another one")
        member = Membership(self._new_account(), guarded(self._observer or log_event), self.concurrency)
        group = anyio.create_task_group()
        await group.__aenter__()
        self._entered = _Entered(group, member, current_token().native_token)
        try:
            await group.start(member.run)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered, self._entered = self._entered, None
        if entered is None:
            return
        entered.member.end()
        try:
            await _end(entered.group, kind, error, trace)
        finally:
            await entered.member.leave()

    @property
    def limits(self) -> Limits:
        """What the members believe together; not entered, what this one would begin with."""
        entered = self._entered
        if entered is None:
            return _first_limits(self.config, self.concurrency)
        account, lanes, now = entered.member.account, entered.member.lanes, anyio.current_time()
        standing = account.standing
        return Limits(
            per_minute=account.believed,
            known_per_minute=self.config.per_minute,
            held_seconds=entered.member.turns.held_for(),
            per_day=standing.per_day if standing else self.config.per_day,
            used_today=account.used_today(),
            closed_seconds=standing.closed_for(now) if standing else 0.0,
            concurrency=self.concurrency,
            in_flight=entered.member.in_flight,
            waiting=lanes.waiting,
        )

    @asynccontextmanager
    async def slot(self, lane: Lane = "calls", *, deadline: float = math.inf) -> AsyncIterator[None]:
        """Wait for a turn and a free slot. Cancellation while waiting leaves the turn to the next of this member."""
        member = self._member()
        try:
            async with member.lanes.slot(lane, deadline):
                yield
        finally:
            member.wake()  # others may wait for the slot

    async def accepted(self) -> None:
        """An attempt was accepted. It never waits: Redis is told with the next beat."""
        if self._entered is None:
            return
        member = self._entered.member
        member.account.accepted(anyio.current_time(), is_wanted=member.lanes.is_pace_waited_for)
        member.lanes.call_first()

    async def throttled(self, *, sent_at: float, delay: float | None, is_limit: bool) -> Hold:
        """Hold everyone, or close the day; while Redis is away, only this member."""
        if self._entered is None:
            return Hold(0.0)
        member = self._entered.member

        def refuse(allowance: Allowance, now: float, today: float) -> Hold:
            sent = now - (anyio.current_time() - sent_at)
            source = member.account.random
            return allowance.throttled(now, today, sent_at=sent, delay=delay, is_limit=is_limit, source=source)

        hold = await _decide(member, refuse) or Hold(0.0)
        if hold.seconds or hold.is_daily:
            member.lanes.call_all()
        return hold

    async def learn(self, per_minute: float) -> None:
        """Let no more leave than that."""
        entered = self._entered
        if entered is None or entered.is_learning or not entered.member.account.is_news(per_minute):
            return
        account, entered.is_learning = entered.member.account, True
        try:
            await _decide(entered.member, lambda allowance, _now, _today: account.learn(per_minute, allowance))
        finally:
            entered.is_learning = False

    def _new_account(self) -> RedisAccount:
        config = self.config
        return RedisAccount(
            Link(self._address, self.account),
            new_member(),
            config.per_minute,
            config.per_day,
            self.shared_concurrency,
            config.retry.backoff,
            SystemRandom(),
        )

    def _member(self) -> Membership:
        if self._entered is None:
            raise ConfigurationError("this RedisGate is not entered; use it inside `async with RedisGate(…) as gate:`")
        if self._entered.loop is not current_token().native_token:
            raise ConfigurationError("this RedisGate was entered in another event loop; make one for each loop")
        return self._entered.member


async def _end(
    group: TaskGroup, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> None:
    """End the tasks of a group; an exception of the caller's own goes on as it is."""
    if isinstance(error, anyio.get_cancelled_exc_class()):
        await group.__aexit__(kind, error, trace)
        return
    group.cancel_scope.cancel()
    await group.__aexit__(None, None, None)


async def _decide(member: Membership, work: Callable[[Allowance, float, float], Value]) -> Value | None:
    """Decide something for all, or for a member that is alone; `None` where it could not be found out which it is."""
    with anyio.move_on_after(PATIENCE_SECONDS):
        while (alone := member.account.alone) is None:
            try:
                return await member.account.change(work)
            except LinkLostError:
                member.wake()
                await anyio.sleep(TOLD_AGAIN_SECONDS)
        return work(alone, anyio.current_time(), time.time())
    return None


def _first_limits(config: Config, concurrency: int) -> Limits:
    """Return the limits of which nothing is known but what was given."""
    return Limits(
        per_minute=Pace(config.per_minute).believed(0.0),
        known_per_minute=config.per_minute,
        held_seconds=0.0,
        per_day=config.per_day,
        used_today=0,
        closed_seconds=0.0,
        concurrency=concurrency,
        in_flight=0,
        waiting=0,
    )


def _slots(shared_concurrency: int | None) -> int | None:
    if shared_concurrency is None:
        return None
    if type(shared_concurrency) is not int or shared_concurrency < 1:
        raise ConfigurationError(f"shared_concurrency must be a whole number of at least 1; got {shared_concurrency!r}")
    return shared_concurrency
