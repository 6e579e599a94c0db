"""The race for the addresses of a host: whichever answers first is talked to (RFC 8305)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

HAPPY_EYEBALLS_SECONDS = 0.25
"""RFC 8305, section 5: how long one address of a name is tried before the next one is tried beside it."""

Place = TypeVar("Place")
Connection = TypeVar("Connection")


async def connect_first(
    places: Sequence[Place],
    connect: Callable[[Place], Awaitable[Connection]],
    hang_up: Callable[[Connection], Awaitable[None]],
) -> Connection:
    """Return a connection to one of these places, the best of which is first. Raises `OSError` where none answers.

    Another one that came at the same moment is hung up, and so are all where this is cancelled.
    """
    connected: list[Connection] = []
    errors: list[OSError] = []

    async def attempt(place: Place, failed: anyio.Event) -> None:
        try:
            connected.append(await connect(place))
        except OSError as error:
            errors.append(error)
            failed.set()
        else:
            group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            for place in places:
                failed = anyio.Event()
                group.start_soon(attempt, place, failed)
                with anyio.move_on_after(HAPPY_EYEBALLS_SECONDS):
                    await failed.wait()
        if not connected:
            raise errors[-1]
        return connected.pop(0)
    finally:
        for spare in connected:
            await hang_up(spare)
