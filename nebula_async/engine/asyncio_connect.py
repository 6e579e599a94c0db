"""A socket of an asyncio loop, connected to whichever address of a host answers first."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from nebula_async.engine.happy_eyeballs import connect_first


async def connect_to(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to a host. Raises `OSError` for one that is not known, or does not answer."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await connect_first([(family, place) for family, *_, place in found], _connect, _close)


async def _connect(place: tuple[int, Any]) -> socket.socket:
    family, address = place
    candidate = socket.socket(family, socket.SOCK_STREAM)
    try:
        candidate.setblocking(False)
        candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a request's body follows its head at once
        await asyncio.get_running_loop().sock_connect(candidate, address)
    except BaseException:
        candidate.close()
        raise
    return candidate


async def _close(spare: socket.socket) -> None:
    spare.close()
