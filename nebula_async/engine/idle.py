"""Idle connections of one event loop: last in, first out for each origin, and closed with the loop if not before."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Hashable
from contextlib import AsyncExitStack
from typing import Generic, Protocol, TypeVar
from weakref import ref

from attrs import define, field


class Connection(Protocol):
    """What can be kept."""

    def is_idle(self) -> bool:
        """Whether its last reply was read to the end, and it is still open."""
        ...

    def has_expired(self) -> bool:
        """Whether it has been idle for too long, or the server has closed it."""
        ...

    async def aclose(self) -> None:
        """Close it, whatever happens."""
        ...


Kept = TypeVar("Kept", bound=Connection)


@define(eq=False, repr=False)
class IdleConnections(Generic[Kept]):
    """Keeps the connections that may be used again; nothing ever waits for one. With `keeps` false, each is closed."""

    keeps: bool = True
    _idle: dict[Hashable, deque[Kept]] = field(factory=dict, init=False)
    _until_closed: AsyncGenerator[None, None] | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    async def take(self, origin: Hashable) -> Kept | None:
        """Return the newest connection to an origin, if there is one that is still good."""
        if not self.keeps:
            return None
        await self._close_with_loop()
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_idle() and not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def give_back(self, origin: Hashable, connection: Kept) -> None:
        """Keep a connection if it can be used again, else close it."""
        if self._closed or not self.keeps or not connection.is_idle():
            await connection.aclose()
            return
        idle = self._idle.setdefault(origin, deque())
        idle.append(connection)
        if idle[0].has_expired():  # the oldest lies at the bottom: one look for each reply keeps the stack small
            await idle.popleft().aclose()

    async def aclose(self) -> None:
        """Close all; what is given back from now on is closed at once."""
        self._closed = True
        if self._until_closed is not None:
            await self._until_closed.aclose()

    async def _close_with_loop(self) -> None:
        # The one thing that an ending loop waits for and that is no task: asyncio and trio close async generators.
        if self._until_closed is None:
            self._until_closed = _closing(self._idle, ref(self))
            await anext(self._until_closed)


async def _closing(
    idle: dict[Hashable, deque[Kept]], owner_of: ref[IdleConnections[Kept]]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        if (owner := owner_of()) is not None:
            owner._until_closed = None  # a generator holds its loop, and with it all that the loop holds
        async with AsyncExitStack() as stack:  # closes every one, whatever happens to another
            for connection in [connection for connections in idle.values() for connection in connections]:
                stack.push_async_callback(connection.aclose)
            idle.clear()
