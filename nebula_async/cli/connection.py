"""What all commands have in common: where the API is, and how errors end a command."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from attrs import asdict, frozen
from cyclopts import Parameter

from nebula_async.client import AsyncNebula
from nebula_async.engine.verdict import is_fatal
from nebula_async.errors import (
    ConfigurationError,
    InvalidRequestError,
    JobError,
    NebulaError,
    RateLimitError,
)

if TYPE_CHECKING:
    from nebula_async.emulator import Emulator

USAGE, STOPPED, INTERRUPTED = 2, 3, 130

Switch = Parameter(negative="")


@frozen(kw_only=True)
class Connection:
    """Where the API is, and as whom it is called."""

    base_url: str | None = None
    "The API, up to and with /api/v1."
    tier: str | None = None
    "The account's tier: engineer-1, engineer-2, engineer-3, expert-1 or expert-2."
    timeout: float | None = None
    "The longest a call may take, waits included, in seconds."
    emulator: Annotated[bool, Switch] = False
    "Run against a Nebula Block of this command's own: no key, no money."


@asynccontextmanager
async def connected(connection: Connection) -> AsyncIterator[AsyncNebula]:
    """Give a client of the API, or of an emulator that lives as long and whose account is told at the end."""
    options = {name: value for name, value in asdict(connection).items() if name != "emulator" and value is not None}
    with _emulated(connection) as emulator:
        if emulator is not None:
            options |= {"api_key": emulator.key, "base_url": emulator.base_url}
        async with AsyncNebula(**options) as nebula:
            yield nebula


@contextmanager
def _emulated(connection: Connection) -> Iterator[Emulator | None]:
    if not connection.emulator:
        yield None
        return
    from nebula_async.emulator import Emulator

    with Emulator(tier=connection.tier, latency=0.1, credit="1000000") as emulator:
        yield emulator
        journal = emulator.journal
        say(
            f"emulator: {len(journal.generations)} generation requests,"
            f" {journal.charged} pictures charged, ${journal.spent}"
        )


def run(command: Callable[..., Awaitable[int]], *arguments: Any) -> int:
    """Run a command to its exit code; an error that users can meet is one sentence on stderr."""
    try:
        return anyio.run(command, *arguments)
    except NebulaError as error:
        say(f"nebula-async: {error}")
        return exit_code(error)
    except OSError as error:
        say(f"nebula-async: {error}")
        return USAGE
    except KeyboardInterrupt:
        say("nebula-async: interrupted")
        return INTERRUPTED


def exit_code(error: NebulaError) -> int:
    """Return how a command ends: 2 what was asked is wrong, 3 nothing would succeed now, 1 this one failed."""
    if isinstance(error, ConfigurationError | InvalidRequestError | JobError):
        return USAGE
    if is_fatal(error) or (isinstance(error, RateLimitError) and error.scope == "day"):
        return STOPPED
    return 1


def say(text: str) -> None:
    """Tell the user something that is not the result: on stderr, control characters shown as they are escaped."""
    print(printable(text), file=sys.stderr)


def printable(text: str) -> str:
    """Return text that a terminal shows and does not obey."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
