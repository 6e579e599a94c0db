"""Bounded concurrent map over a lazy iterable, as a context manager that yields an iterator.

The context manager owns the task group. (An async generator that yields from inside a task group would let a `break`
cancel its caller.)
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Generic, NoReturn, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from attrs import define, field

Item = TypeVar("Item")
Value = TypeVar("Value")

MOST_IN_A_ROW = 8
"""A consumer that never has to wait lets others go on once in so many results: to do so at each costs more than the
rest of a fan-out.
"""

CLOSING_SECONDS = 10.0
"""How long an async generator may take to clean up when its fan-out ends."""


@define(eq=False, repr=False)
class FanOut(Generic[Item, Value]):
    """Runs `work(index, item)` on at most `workers` items at a time: `async with FanOut(…) as results`.

    Items are taken as workers and the consumer have room: at most `2 * workers` are taken and not yet consumed. The
    first exception of the source or of `work` lets the items in flight finish and then ends the iteration, bare; so
    does what `ends_with` makes of a result, which is yielded all the same. Leaving the block cancels what is in flight;
    the block's own exception comes out bare.

    An async iterable is iterated, and an async generator closed, in one task of its own: it may hold a task group, a
    timeout or a context variable while it yields, or be fed by another fan-out. What its clean-up raises comes out of
    the block, unless the block raises itself.
    """

    work: Callable[[int, Item], Awaitable[Value]]
    items: Iterable[Item] | AsyncIterable[Item]
    workers: int
    is_ordered: bool = False
    ends_with: Callable[[Value], Exception | None] = lambda _value: None
    _source: _Listing[Item] | _Feed[Item] = field(init=False)
    _results: Results[Value] = field(init=False)
    _group: TaskGroup = field(init=False)
    _to_start: int = field(default=0, init=False)

    async def __aenter__(self) -> Results[Value]:
        """Start the workers and return the iterator over what they make."""
        workers = min(self.workers, max(len(self.items), 1)) if isinstance(self.items, Sequence) else self.workers
        self._source = _source_of(self.items, workers)
        self._results = Results(anyio.Semaphore(2 * self.workers, fast_acquire=True), workers, self.is_ordered)
        self._group = await anyio.create_task_group().__aenter__()
        if isinstance(self._source, _Feed):
            self._group.start_soon(self._source.run, self._results.fail)
        self._to_start = workers
        self._start_one()
        return self._results

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Cancel what is in flight, wait until it is gone, and let the block's own exception pass."""
        cancelled = anyio.get_cancelled_exc_class()
        self._results.close()
        self._group.cancel_scope.cancel()
        try:
            if isinstance(error, cancelled):  # it goes through the group, which knows whose cancellation it is
                return bool(await self._group.__aexit__(kind, error, trace))
            await self._group.__aexit__(None, None, None)
        except cancelled:
            if error is None or isinstance(error, cancelled) or not _is_told_again():
                raise  # else the block's own exception goes first
        except BaseExceptionGroup as group:  # Ctrl-C or an exit: tasks catch every Exception
            raise group.exceptions[0] from None
        if error is None and self._source.trouble is not None:
            raise self._source.trouble
        return False

    def __aiter__(self) -> NoReturn:
        raise TypeError("use it as a context manager: async with … as results, then async for result in results")

    def _start_one(self) -> None:
        """Start a worker, which starts the next one: all at once they would hold the loop."""
        if self._to_start:
            self._to_start -= 1
            self._group.start_soon(self._run)

    async def _run(self) -> None:
        self._start_one()
        source, results = self._source, self._results
        try:
            while True:
                await results.wait_for_room()
                taken = await source.take()
                if taken is None:
                    break
                await self._work_on(*taken)
        except Exception as error:  # noqa: BLE001 - it comes out of the iterator, where the caller can catch it
            self._fail(error)
        results.leave()  # not where it is cancelled: that is no end of the results

    async def _work_on(self, index: int, item: Item) -> None:
        value = await self.work(index, item)
        self._results.add(index, value)  # and hold it no longer: it may be a large picture
        if (end := self.ends_with(value)) is not None:
            self._fail(end)

    def _fail(self, error: Exception) -> None:
        self._results.fail(error)
        self._source.stop()


@define(eq=False, repr=False)
class Results(Generic[Value]):
    """The iterator over the results of a fan-out, as they finish or in the order of the items."""

    _room: anyio.Semaphore
    _workers: int
    _is_ordered: bool
    _ready: deque[Value] = field(factory=deque, init=False)
    _early: dict[int, Value] = field(factory=dict, init=False)
    _next: int = field(default=0, init=False)
    _error: Exception | None = field(default=None, init=False)
    _is_closed: bool = field(default=False, init=False)
    _news: anyio.Event = field(factory=anyio.Event, init=False)

    def __aiter__(self) -> AsyncIterator[Value]:
        return self

    async def __anext__(self) -> Value:
        if self._ready and len(self._ready) % MOST_IN_A_ROW == 0:
            await anyio.lowlevel.checkpoint()
        while not self._ready and self._workers and not self._is_closed:
            if self._news.is_set():
                self._news = anyio.Event()
            await self._news.wait()
        if self._is_closed:
            raise RuntimeError("the block of this iterator was left: iterate inside of async with")
        if not self._ready:
            return self._end()
        self._room.release()
        return self._ready.popleft()

    def _end(self) -> NoReturn:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopAsyncIteration

    async def wait_for_room(self) -> None:
        """Wait until one more may be taken and not yet consumed."""
        if self._room.value:
            self._room.acquire_nowait()
        else:
            await self._room.acquire()

    def add(self, index: int, value: Value) -> None:
        """Offer the result of an item."""
        if self._is_ordered:
            self._early[index] = value
            while self._next in self._early:
                self._ready.append(self._early.pop(self._next))
                self._next += 1
        else:
            self._ready.append(value)
        if self._ready:
            self._news.set()

    def fail(self, error: Exception) -> bool:
        """Let the iteration end with this error, if it is the first; return whether there still is one."""
        if isinstance(error, StopAsyncIteration):  # raised from an iterator it would look like an end
            error = RuntimeError("the source, or the work on an item, raised StopAsyncIteration")
        self._error = self._error or error
        return not self._is_closed

    def leave(self) -> None:
        """Note that a worker has found no more items; after the last, offer what came after an item that failed."""
        self._workers -= 1
        if not self._workers:
            self._ready.extend(self._early.pop(index) for index in sorted(self._early))
            self._news.set()

    def close(self) -> None:
        """Yield nothing more."""
        self._is_closed = True
        self._news.set()


def _source_of(items: Iterable[Item] | AsyncIterable[Item], takers: int) -> _Listing[Item] | _Feed[Item]:
    if isinstance(items, AsyncIterable):
        return _Feed(aiter(items), takers)
    return _Listing(enumerate(items))


@define(eq=False, repr=False)
class _Listing(Generic[Item]):
    """Hands out the items of an iterable, numbered; nothing more after its end, an error, or a stop."""

    items: Iterator[tuple[int, Item]]
    trouble: None = None

    async def take(self) -> tuple[int, Item] | None:
        """Return the index of the next item, and the item; `None` where there is none."""
        items, self.items = self.items, iter(())  # after its end or an error an iterator is not asked again
        for taken in items:
            self.items = items
            return taken
        return None

    def stop(self) -> None:
        """Hand out nothing more."""
        self.items = iter(())


@define(eq=False, repr=False)
class _Feed(Generic[Item]):
    """Hands out the items of an async iterator to so many `takers`, as `_Listing` does; `run` takes them.

    `trouble` is what its clean-up raised.
    """

    items: AsyncIterator[Item]
    takers: int
    trouble: Exception | None = None
    _asked: anyio.Semaphore = field(factory=lambda: anyio.Semaphore(0, fast_acquire=True), init=False)
    _given: anyio.Semaphore = field(factory=lambda: anyio.Semaphore(0, fast_acquire=True), init=False)
    _taken: deque[tuple[int, Item]] = field(factory=deque, init=False)
    _scope: anyio.CancelScope = field(factory=anyio.CancelScope, init=False)

    async def take(self) -> tuple[int, Item] | None:
        """Return the index of the next item, and the item; `None` where there is none."""
        self._asked.release()
        await self._given.acquire()
        return self._taken.popleft() if self._taken else None

    def stop(self) -> None:
        """Hand out nothing more."""
        self._scope.cancel()

    async def run(self, fail: Callable[[Exception], bool]) -> None:
        """Take items as they are asked for, then close the iterator."""
        with self._scope, anyio.CancelScope() as closing:
            try:
                await self._feed()
            except Exception as error:  # noqa: BLE001 - it comes out of the results, or of the block
                self.trouble = None if fail(error) else error
            finally:
                # No further scope: those that a generator holds must be the innermost when it leaves them.
                closing.shield, closing.deadline = True, anyio.current_time() + CLOSING_SECONDS
                await self._close()
        for _ in range(self.takers):
            self._given.release()

    async def _feed(self) -> None:
        for index in itertools.count():
            await self._asked.acquire()
            try:
                item = await anext(self.items)
            except StopAsyncIteration:
                return
            self._taken.append((index, item))
            self._given.release()

    async def _close(self) -> None:
        aclose = getattr(self.items, "aclose", None)
        if aclose is not None:
            try:
                await _closed(aclose())
            except Exception as error:  # noqa: BLE001 - it comes out of the block
                self.trouble = error


async def _closed(closing: Awaitable[object]) -> None:
    """Close a generator, which may be in a task group where it yields: that puts its GeneratorExit into a group."""
    try:
        await closing
    except BaseExceptionGroup as group:
        rest = group.split(GeneratorExit)[1]
        if rest is not None:
            raise rest from None


def _is_told_again() -> bool:
    """Whether a cancellation is a scope's, which is told at every wait; a native one is told once."""
    return anyio.current_effective_deadline() == -math.inf
