"""A socket connected to one of a host's addresses, to whichever answers first (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import anyio

HAPPY_EYEBALLS_SECONDS = 0.25
"""RFC 8305, section 5: how long one address of a name is tried before the next one is tried beside it."""


async def connect_first(places: Sequence[tuple[int, Any]]) -> socket.socket:
    """Return a socket that is connected to one of these addresses. Raises `OSError` where none answers."""
    connected: list[socket.socket] = []
    errors: list[OSError] = []

    async def connect(family: int, place: Any, failed: anyio.Event) -> None:
        try:
            connected.append(await _connected(family, place))
        except OSError as error:
            errors.append(error)
            failed.set()
        else:
            group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            for family, place in places:
                failed = anyio.Event()
                group.start_soon(connect, family, place, failed)
                with anyio.move_on_after(HAPPY_EYEBALLS_SECONDS):
                    await failed.wait()
        if not connected:
            raise errors[-1]
        return connected.pop()
    finally:
        for spare in connected:
            spare.close()


async def _connected(family: int, place: Any) -> socket.socket:
    candidate = socket.socket(family, socket.SOCK_STREAM)
    try:
        candidate.setblocking(False)
        candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a request's body follows its head at once
        await asyncio.get_running_loop().sock_connect(candidate, place)
    except BaseException:
        candidate.close()
        raise
    return candidate
