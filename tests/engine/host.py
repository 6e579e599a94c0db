"""What the tests of the host's gate share: gates that meet in a folder as those of two processes do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
from attrs import define, field
from wire import seeded

from nebula_async.engine.host_account import HostAccount
from nebula_async.engine.host_store import FILE, HostStore
from nebula_async.engine.hostgate import HostGate
from nebula_async.events import Event

ACCOUNT = "0" * 64


@define
class Meeting:
    """A folder where gates meet; each keeps its own connection to the file, as in a process of its own."""

    folder: Path
    events: list[Event] = field(factory=list)

    def gate(
        self,
        per_minute: float | None = None,
        per_day: int | None = None,
        concurrency: int = 16,
        backoff: float = 1.0,
    ) -> HostGate:
        """Return the gate of one more process."""
        account = HostAccount(HostStore((self.folder,)), ACCOUNT, per_minute, per_day, backoff)
        return HostGate(concurrency, account, seeded(8), self.events.append)

    @property
    def file(self) -> Path:
        """The file in which they meet."""
        return self.folder / FILE

    def run(self, statement: str) -> None:
        """Change the file from outside."""
        with closing(sqlite3.connect(self.file, timeout=5)) as connection, connection:
            connection.execute(statement)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file, as a process does that was stopped in the middle of a change."""
        with closing(sqlite3.connect(self.file, timeout=5, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")


async def attempt(gate: HostGate, left: list[float]) -> None:
    """Enter the gate, note when, and be accepted."""
    async with gate.slot():
        left.append(anyio.current_time())
        await gate.accepted()


async def attempts(gate: HostGate, count: int) -> list[float]:
    """Queue so many at once; return when they left."""
    left: list[float] = []
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(attempt, gate, left)
    return left
