"""The one writer of a ledger: what comes while it writes goes into its next transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.to_thread
from attrs import define, field

from nebula_async.bulk.ledger import COMMITS, Ledger
from nebula_async.errors import JobError, NebulaError

Value = TypeVar("Value")
Prepared = TypeVar("Prepared")

MOST_TOGETHER = 64


def prepare_nothing() -> None:
    """Prepare nothing."""


@define(eq=False)
class _Change(Generic[Value]):
    """Something to be written: first what touches files and may fail alone, then the ledger, with what came of it."""

    prepare: Callable[[], Any]
    write: Callable[[Ledger, Any], Value]
    done: anyio.Event = field(factory=anyio.Event)
    prepared: Any = None
    value: Value | None = None
    error: Exception | None = None


@define(eq=False)
class LedgerWriter:
    """Writes changes in groups, in the order in which they came, each group in one transaction.

    Between the files of a group and its transaction `settle` is called, after the transaction `committed`, with how
    many there were over all runs, and `tidy`. Where one of them or the ledger itself fails, nothing more is written:
    everyone gets that `JobError`, and `failure` is it.
    """

    ledger: Ledger
    settle: Callable[[], None]
    tidy: Callable[[], None]
    committed: Callable[[int], None]
    commits: int
    limiter: anyio.CapacityLimiter
    failure: JobError | None = field(default=None, init=False)
    _waiting: list[_Change[Any]] = field(factory=list, init=False)
    _news: anyio.Event = field(factory=anyio.Event, init=False)
    _is_closed: bool = field(default=False, init=False)

    async def write(self, write: Callable[[Ledger, Prepared], Value], prepare: Callable[[], Prepared]) -> Value:
        """Prepare and write a change, and return what it returns once that is as durable as the ledger is.

        Raises what `prepare` raises, and `JobError`. Who is cancelled has written it all the same.
        """
        change = self._add(_Change(prepare, write))
        await change.done.wait()
        if change.error is not None:
            raise change.error
        return cast("Value", change.value)

    def note(self, write: Callable[[Ledger], None]) -> None:
        """Write something with the next group; nobody waits for it."""
        self._add(_Change(prepare_nothing, lambda ledger, _prepared: write(ledger)))

    async def read(self, read: Callable[[Ledger], Value]) -> Value:
        """Return something that the ledger says now, between two groups."""
        return await anyio.to_thread.run_sync(read, self.ledger, limiter=self.limiter)

    async def run(self) -> None:
        """Write what comes until `close`; nobody's cancellation ends it before."""
        with anyio.CancelScope(shield=True):
            while self._waiting or not self._is_closed:
                if not self._waiting:
                    self._news = anyio.Event()
                    await self._news.wait()
                    continue
                group, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
                try:
                    await anyio.to_thread.run_sync(self._write, group, limiter=self.limiter)
                finally:
                    for change in group:
                        change.done.set()

    def close(self) -> None:
        """Let `run` end when all is written."""
        self._is_closed = True
        self._news.set()

    def _add(self, change: _Change[Value]) -> _Change[Value]:
        self._waiting.append(change)
        self._news.set()
        return change

    def _write(self, group: list[_Change[Any]]) -> None:
        ready = [change for change in group if self._is_prepared(change)]
        try:
            if ready:
                self._commit(ready)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody waits for a writer that is gone
            self.failure = _explained(error)
            for change in ready:
                change.error = self.failure

    def _commit(self, ready: list[_Change[Any]]) -> None:
        self.settle()
        with self.ledger.together():
            for change in ready:
                change.value = change.write(self.ledger, change.prepared)
            self.ledger.note(COMMITS, str(self.commits + 1))
        self.commits += 1
        try:
            self.tidy()
            self.committed(self.commits)
        except OSError as error:  # what is written is written
            self.failure = _explained(error)

    def _is_prepared(self, change: _Change[Any]) -> bool:
        change.error = self.failure
        if change.error is None:
            try:
                change.prepared = change.prepare()
            except (NebulaError, OSError) as error:
                change.error = _explained(error)
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                change.error = error
        return change.error is None


def _explained(error: Exception) -> JobError:
    if isinstance(error, JobError):
        return error
    place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    job_error = JobError(
        f"the job cannot go on writing: {text}{place}; what was received is kept; mend that, then repeat"
    )
    job_error.__cause__ = error
    return job_error
