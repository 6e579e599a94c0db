"""Bounded concurrent map over a lazy iterable, as a context manager that yields an iterator.

The context manager owns the task group. (An async generator that yields from inside a task group would let a `break`
cancel its caller.)
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import define, field

Item = TypeVar("Item")
Value = TypeVar("Value")


@define(eq=False)
class FanOut(Generic[Item, Value]):
    """Runs `work(index, item)` on at most `workers` items at a time: `async with FanOut(…) as results`.

    Items are taken as workers and the consumer have room: at most `2 * workers` are taken and not yet consumed. The
    first exception of the source or of `work` lets the items in flight finish and then ends the iteration, bare; so
    does what `ends_with` makes of a result, which is yielded all the same. Leaving the block cancels what is in flight;
    the block's own exception comes out bare.
    """

    work: Callable[[int, Item], Awaitable[Value]]
    items: Iterable[Item] | AsyncIterable[Item]
    workers: int
    is_ordered: bool = False
    ends_with: Callable[[Value], Exception | None] = lambda _value: None
    _stack: AsyncExitStack = field(factory=AsyncExitStack, init=False)
    _group: TaskGroup = field(init=False)

    async def __aenter__(self) -> Results[Value]:
        """Start the workers and return the iterator over what they make."""
        source = _Source(self.items)
        send, receive = anyio.create_memory_object_stream[tuple[int, Value]](math.inf)
        room = anyio.Semaphore(2 * self.workers)
        self._group = await anyio.create_task_group().__aenter__()
        with send:
            for _ in range(self.workers):
                self._group.start_soon(self._run, source, room, send.clone())
        self._stack.push_async_callback(source.aclose)
        self._stack.callback(receive.close)
        return Results(source, room, receive, self.is_ordered)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Cancel what is in flight, wait until it is gone, and let the block's own exception pass."""
        cancelled = anyio.get_cancelled_exc_class()
        self._group.cancel_scope.cancel()
        try:
            if isinstance(error, cancelled):  # it goes through the group, which knows whose cancellation it is
                return bool(await self._group.__aexit__(kind, error, trace))
            await self._group.__aexit__(None, None, None)
        except cancelled:
            if error is None or isinstance(error, cancelled):
                raise  # else the block's own exception goes first; a cancelled scope says so again
        finally:
            with anyio.CancelScope(shield=True):
                await self._stack.aclose()
        return False

    def __aiter__(self) -> NoReturn:
        raise TypeError("use it as a context manager: async with … as results, then async for result in results")

    async def _run(
        self, source: _Source[Item], room: anyio.Semaphore, results: MemoryObjectSendStream[tuple[int, Value]]
    ) -> None:
        with results:
            while True:
                await room.acquire()
                try:
                    taken = await source.take()
                    if taken is None:
                        return
                    value = await self.work(*taken)
                    results.send_nowait((taken[0], value))
                    if (end := self.ends_with(value)) is not None:
                        source.fail(end)
                except Exception as error:  # noqa: BLE001 - it comes out of the iterator, where the caller can catch it
                    source.fail(error)
                    return


@define(eq=False)
class Results(Generic[Value]):
    """The iterator over the results of a fan-out, as they finish or in the order of the items."""

    _source: _Source[Any]
    _room: anyio.Semaphore
    _receive: MemoryObjectReceiveStream[tuple[int, Value]]
    _is_ordered: bool
    _early: dict[int, Value] = field(factory=dict, init=False)
    _next: int = field(default=0, init=False)

    def __aiter__(self) -> AsyncIterator[Value]:
        return self

    async def __anext__(self) -> Value:
        while not (self._is_ordered and self._next in self._early):
            try:
                index, value = await self._receive.receive()
            except anyio.EndOfStream:
                return self._after_end()
            except anyio.ClosedResourceError:
                raise RuntimeError("the block of this iterator was left: iterate inside of async with") from None
            if not self._is_ordered:
                self._room.release()
                return value
            self._early[index] = value
        return self._in_order(self._next)

    def _in_order(self, index: int) -> Value:
        self._next = index + 1
        self._room.release()
        return self._early.pop(index)

    def _after_end(self) -> Value:
        """Offer what came after an item that failed, then end."""
        if self._early:
            return self._in_order(min(self._early))
        if self._source.error is not None:
            error, self._source.error = self._source.error, None
            raise error
        raise StopAsyncIteration


@define(eq=False)
class _Source(Generic[Item]):
    """Hands out the items, numbered, one taker at a time; dry after its end and after the first error."""

    items: Iterable[Item] | AsyncIterable[Item]
    error: Exception | None = field(default=None, init=False)
    _take: Callable[[], Awaitable[Item]] = field(init=False)
    _aclose: Callable[[], Awaitable[None]] | None = field(default=None, init=False)
    _turn: anyio.Lock = field(factory=anyio.Lock, init=False)
    _taken: int = field(default=0, init=False)
    _is_dry: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.items, AsyncIterable):
            iterator = aiter(self.items)
            self._take = iterator.__anext__
            self._aclose = getattr(iterator, "aclose", None)
        else:
            self._take = _taking(self.items)

    async def take(self) -> tuple[int, Item] | None:
        """Return the index of the next item, and the item; `None` where there is none."""
        async with self._turn:
            if self._is_dry:
                return None
            self._is_dry = True  # after its end, an error or a cancellation an iterator is not asked again
            try:
                item = await self._take()
            except StopAsyncIteration:
                return None
            self._is_dry = self.error is not None
            self._taken += 1
            return self._taken - 1, item

    def fail(self, error: Exception) -> None:
        """Hand out nothing more; the first error is kept."""
        self._is_dry = True
        self.error = self.error or error

    async def aclose(self) -> None:
        """Close an async generator, so that its own clean-up runs now."""
        if self._aclose is not None:
            await self._aclose()


def _taking(items: Iterable[Item]) -> Callable[[], Awaitable[Item]]:
    iterator = iter(items)

    async def take() -> Item:
        try:
            return next(iterator)
        except StopIteration:
            raise StopAsyncIteration from None

    return take
