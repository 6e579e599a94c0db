"""The event loop of blocking code: in a daemon thread that its first call starts, and anew in a forked process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from functools import partial
from typing import Any, Generic, TypeVar, cast
from weakref import finalize

import anyio
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import current_token
from attrs import define, field

Value = TypeVar("Value")

CLOSED = "this NebulaClient is closed; make a new one"
CUT_OFF = "this NebulaClient was closed during the call; what was sent by then may have been paid for"


@define(eq=False)
class Call(Generic[Value]):
    """What runs in the loop for a thread that waits, and can be ended from there before and after it has begun.

    `exit` is what would end the loop, such as a `SystemExit`: it is raised in the thread that waits.
    """

    work: Callable[..., Awaitable[Value]]
    is_over: threading.Event = field(factory=threading.Event, init=False)
    exit: BaseException | None = field(default=None, init=False)
    _scope: anyio.CancelScope | None = field(default=None, init=False)
    _is_unwanted: bool = field(default=False, init=False)

    async def run(self, **options: Any) -> Value:
        """Do it, in the loop, and say when it is over, however it ends."""
        try:
            with anyio.CancelScope() as self._scope:
                if not self._is_unwanted:
                    return await self.work(**options)
            raise CancelledError
        except (SystemExit, KeyboardInterrupt) as error:  # of what runs here: it would end the loop, and other calls
            self.exit = error
            raise RuntimeError(f"the call raised {type(error).__name__}") from error
        finally:
            self.is_over.set()

    def cancel(self) -> bool:
        """Cancel it, in the loop, and return whether there is an end to wait for."""
        self._is_unwanted = True
        if self._scope is not None:
            self._scope.cancel()
        return self._scope is not None


@define(eq=False)
class LoopThread:
    """A thread with an event loop, started by its first call. It is a daemon: no interpreter waits for it."""

    at_end: Callable[[], Awaitable[None]]
    pid: int = field(factory=os.getpid, init=False)
    # It may be taken twice: a signal handler may close what it interrupts.
    _lock: AbstractContextManager[object] = field(factory=threading.RLock, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _opened: Future[BlockingPortal] | None = field(default=None, init=False)
    _wake: Callable[[], object] = field(default=lambda: None, init=False)
    _is_closed: bool = field(default=False, init=False)

    def run(self, work: Callable[[], Awaitable[Value]]) -> Value:
        """Run it in the loop and return what it returns; whatever else is raised here meanwhile cancels it."""
        call = Call(work)

        def start(portal: BlockingPortal) -> Future[Value]:
            return portal.start_task_soon(call.run)

        try:
            return self._attend(call, lambda: self._hand_in(start).result())
        except RuntimeError:
            if call.exit is not None:
                raise call.exit from None
            raise

    def start(self, work: Callable[[], Awaitable[Value]]) -> Future[Value]:
        """Start it in the loop and return its future; cancelling that cancels it there."""
        return self._hand_in(lambda portal: portal.start_task_soon(work))

    def enter(self, call: Call[Any]) -> Any:
        """Start a call that stays until it is ended, and return what it is ready with."""
        return self._attend(call, lambda: self._hand_in(lambda portal: portal.start_task(call.run)[1]))

    def end(self, call: Call[Any]) -> None:
        """Cancel a call and wait until it is over, as it is if its loop has ended or was left in a parent process."""
        if call.is_over.is_set() or self.pid != os.getpid():
            return
        with suppress(RuntimeError, CancelledError):
            if self._hand_in(lambda portal: portal.call(call.cancel)):
                call.is_over.wait()

    def stop(self) -> None:
        """Let the loop end and wait for nothing: garbage is collected in any thread, the loop's own among them."""
        self._is_closed = True
        if self.pid == os.getpid():
            self._wake()

    def close(self) -> None:
        """Cancel what runs, close the connections, and wait until the thread has ended."""
        self._check_place()
        if sys.is_finalizing():  # it has
            return
        with self._lock:
            self.stop()
        if self._thread is not None:
            self._thread.join()

    def _attend(self, call: Call[Any], wait: Callable[[], Value]) -> Value:
        try:
            return wait()
        except CancelledError:
            raise RuntimeError(CUT_OFF) from None
        except BaseException:  # Ctrl-C comes at any moment, also before anyone knows that the call has begun
            self.end(call)
            raise

    def _hand_in(self, give: Callable[[BlockingPortal], Value]) -> Value:
        self._check_place()
        if sys.is_finalizing():
            raise RuntimeError("the interpreter is ending, and has ended the thread of this NebulaClient")
        with self._lock:  # closing waits for it: what a loop is given last of all would wait for ever
            if self._is_closed:
                raise RuntimeError(CLOSED)
            return give((self._opened or self._open()).result())

    def _open(self) -> Future[BlockingPortal]:
        opened: Future[BlockingPortal] = Future()
        live = partial(Context().run, self._live, opened)  # the loop outlives the call that happens to start it
        try:
            self._thread, self._opened = threading.Thread(target=live, name="nebula-client", daemon=True), opened
            self._thread.start()
        except BaseException:  # no more threads; or Ctrl-C, and whether it runs is not known
            if opened.cancel():
                self._thread = self._opened = None
            raise
        return opened

    def _live(self, opened: Future[BlockingPortal]) -> None:
        if not opened.set_running_or_notify_cancel():
            return
        try:
            anyio.run(self._serve, opened)
        except BaseException as error:
            self._opened = None  # the next call tries again
            if opened.done():
                raise
            opened.set_exception(error)

    async def _serve(self, opened: Future[BlockingPortal]) -> None:
        stop = anyio.Event()
        self._wake = trigger_of(stop)
        async with BlockingPortal() as portal:
            opened.set_result(portal)
            if not self._is_closed:
                await stop.wait()
            await portal.stop(cancel_remaining=True)
        await self.at_end()

    def _check_place(self) -> None:
        if self.pid != os.getpid():
            raise RuntimeError("this was begun in the process that forked this one, and cannot be continued here")
        if self._thread is threading.current_thread():
            text = "a NebulaClient cannot be called from its own event loop (by an observer or api_key, for example): "
            raise RuntimeError(text + "it would wait for itself; call it in another thread")


@define(eq=False)
class Loop:
    """The event loop of a client and its siblings. A forked process gets one of its own: a fork copies no threads."""

    at_end: Callable[[], Awaitable[None]]
    _threads: dict[int, LoopThread] = field(factory=dict, init=False)
    _is_closed: bool = field(default=False, init=False)

    def thread(self) -> LoopThread:
        """Return the one of this process. Raises `RuntimeError` when it is closed."""
        if self._is_closed:
            raise RuntimeError(CLOSED)
        return self._here()

    def close(self) -> None:
        """Close it for this process, and for those it forks from now on."""
        self._here().close()
        self._is_closed = True

    def _here(self) -> LoopThread:
        pid = os.getpid()
        if pid not in self._threads:  # those of parent processes are kept as they are: their loops are not ours to end
            thread = self._threads.setdefault(pid, LoopThread(self.at_end))
            finalize(self, thread.stop).atexit = False  # an interpreter that ends takes the thread with it
        return self._threads[pid]


def trigger_of(event: anyio.Event) -> Callable[..., None]:
    """Return what sets an event of the running loop: in any thread, waiting for nothing, also after the loop's end."""
    loop = cast("Any", current_token().native_token)  # what anyio itself has for this waits until the loop has done it

    def trigger(*_: object) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(event.set)

    return trigger
