"""A sink that remembers what was done to it, and fails or stalls when it is told to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, TypeVar, get_args

import anyio
from attrs import define, field, frozen

from nebula_async.checks import shown
from nebula_async.sinks.memory import MemorySink
from nebula_async.sinks.sink import SearchableSink, Sink, Stored, Writer, check_sink

Action: TypeAlias = Literal["open", "write", "publish", "discard"]
ACTIONS: tuple[Action, ...] = get_args(Action)

Value = TypeVar("Value")


@frozen
class SinkStep:
    """One thing that was done: to which picture, how many bytes were written or where it was stored, what it raised."""

    action: Action
    key: str
    size: int = 0
    place: str | None = None
    error: BaseException | None = None


@define(eq=False)
class Stall:
    """A step that waits: `await reached()` until a picture has come to it, `release()` lets it go on."""

    _come: anyio.Event = field(factory=lambda: anyio.Event(), init=False)
    _go: anyio.Event = field(factory=lambda: anyio.Event(), init=False)

    async def reached(self) -> None:
        """Wait until a picture has come to this step."""
        await self._come.wait()

    def release(self) -> None:
        """Let the picture go on."""
        self._go.set()

    async def _wait(self) -> None:
        self._come.set()
        await self._go.wait()


@define(eq=False)
class _Trouble:
    action: Action
    key: str
    times: int | None
    error: Exception | None = None
    stall: Stall | None = None

    def meets(self, action: Action, key: str) -> bool:
        return self.action == action and self.times != 0 and fnmatchcase(key, self.key)


@define(eq=False)
class RecordingSink:
    """Hands all on to another sink, in memory unless one is given, and remembers every step in `steps`, also those
    that failed or were cancelled.
    """

    inner: Sink = field(factory=MemorySink, validator=lambda *given: check_sink(given[-1]))
    steps: list[SinkStep] = field(factory=list, init=False, repr=lambda steps: f"<{len(steps)} steps>")
    _troubles: list[_Trouble] = field(factory=list, init=False, repr=False)

    @property
    def pictures(self) -> dict[str, bytes]:
        """What a sink in memory holds, by name."""
        if isinstance(self.inner, MemorySink):
            return self.inner.pictures
        raise TypeError(f"{self.inner!r} is no MemorySink: look where it stores")

    def fail(self, action: Action, error: Exception, *, key: str = "*", times: int | None = 1) -> None:
        """Let the next step of this kind raise, or the next so many, `None` for all; of keys that match `key`.

        The step is not handed on. A `write` that fails is that of the next piece. Raises `ValueError` for what is no
        step, and no exception.
        """
        if not isinstance(error, Exception):
            raise ValueError(f"a step can fail with an exception, such as OSError('full'); got {shown(error)}")  # noqa: TRY004 - as the step itself
        self._troubles.append(_Trouble(_checked(action), key, times, error=error))

    def stall(self, action: Action, *, key: str = "*") -> Stall:
        """Let the next step of this kind wait until it is released, or cancelled; of keys that match `key`."""
        stall = Stall()
        self._troubles.append(_Trouble(_checked(action), key, 1, stall=stall))
        return stall

    def actions_of(self, key: str) -> list[Action]:
        """Return what was done to the pictures whose keys match, in order: `["open", "write", "publish"]`."""
        return [step.action for step in self.steps if fnmatchcase(step.key, key)]

    def assert_stored(self, pictures: int) -> None:
        """Fail unless so many pictures were published."""
        __tracebackhide__ = True
        stored = sum(step.place is not None for step in self.steps)
        if stored != pictures:
            raise AssertionError(f"{stored} pictures were published, {pictures} expected; the steps:\n{self._told()}")

    def assert_nothing_open(self) -> None:
        """Fail if a picture was opened and neither published nor discarded."""
        __tracebackhide__ = True
        opened = [step.key for step in self.steps if step.action == "open" and step.error is None]
        ended = {step.key for step in self.steps if step.action == "discard" or step.place is not None}
        left = [key for key in opened if key not in ended]
        if left:
            raise AssertionError(f"{', '.join(left)}: opened, and never ended; the steps:\n{self._told()}")

    async def open(self, key: str) -> Writer:
        """Return a writer that is recorded too."""
        writer = await self._record("open", key, lambda: self.inner.open(key))
        return _RecordedWriter(self, key, writer)

    async def find(self, key: str) -> Stored | None:
        """Return what the sink behind it holds under a key, if that can tell."""
        return await self.inner.find(key) if isinstance(self.inner, SearchableSink) else None

    async def _record(self, action: Action, key: str, act: Callable[[], Awaitable[Value]], size: int = 0) -> Value:
        try:
            await self._meet(action, key)
            done = await act()
        except BaseException as error:
            self.steps.append(SinkStep(action, key, size, error=error))
            raise
        self.steps.append(SinkStep(action, key, size, place=str(done) if action == "publish" else None))
        return done

    async def _meet(self, action: Action, key: str) -> None:
        trouble = next((trouble for trouble in self._troubles if trouble.meets(action, key)), None)
        if trouble is None:
            return
        if trouble.times is not None:
            trouble.times -= 1
        if trouble.stall is not None:
            await trouble.stall._wait()
        if trouble.error is not None:
            raise trouble.error

    def _told(self) -> str:
        lines = [
            f"  {step.action} {step.key}"
            + (f" ({step.size} bytes)" if step.action == "write" else "")
            + (f" -> {step.place}" if step.place else "")
            + (f": {step.error!r}" if step.error is not None else "")
            for step in self.steps
        ]
        return "\n".join(lines) or "  none"


@define(eq=False)
class _RecordedWriter:
    sink: RecordingSink
    key: str
    writer: Writer

    async def write(self, data: bytes) -> None:
        await self.sink._record("write", self.key, lambda: self.writer.write(data), len(data))

    async def publish(self, media_type: str, extension: str) -> str:
        return await self.sink._record("publish", self.key, lambda: self.writer.publish(media_type, extension))

    async def discard(self) -> None:
        await self.sink._record("discard", self.key, self.writer.discard)


def _checked(action: Action) -> Action:
    if action not in ACTIONS:
        raise ValueError(f"the step is {action!r}; allowed is {', '.join(ACTIONS)}")
    return action
