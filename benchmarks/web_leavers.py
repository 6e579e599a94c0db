"""Clients that leave an application in the middle of their question, of waiting, or of the answer."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from random import Random

from attrs import frozen
from peer_clients import MODEL
from web_clients import HEAD_END, LENGTH, RECEIVE_BYTES, ask_for_picture

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SMALL_BYTES = 16 * 1024
"""What a client's socket holds that leaves in the middle of the answer: most of the answer is then still to be sent."""


class When(Enum):
    """When a client leaves."""

    ASKING = "half of its question sent"
    ASKED = "its question just sent"
    WAITING = "at some moment after that"
    ANSWERED = "the head of its answer just read"
    NEVER = "with its answer"


@frozen
class Leaver:
    """One client, and what it does; `seconds` is how long one waits that leaves at some moment."""

    prompt: str
    when: When
    seconds: float
    is_reset: bool

    @classmethod
    def draw(cls, number: int, seed: int, choices: Sequence[When], longest_seconds: float) -> Leaver:
        """Return what follows for a client from a seed and its number."""
        source = Random(f"{seed} {number}")  # noqa: S311
        when = choices[number % len(choices)]
        return cls(f"cat {number}", when, source.uniform(0, longest_seconds), is_reset=source.random() < 0.5)

    async def visit(self, port: int) -> int | None:
        """Ask the application, leave when it is time; return the status of an answer that was read to its end."""
        with socket.socket() as connection:
            connection.setblocking(False)
            if self.when is When.ANSWERED:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            status = await self._ask(connection)
            if self.is_reset and status is None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            return status

    async def _ask(self, connection: socket.socket) -> int | None:
        loop, question = asyncio.get_running_loop(), ask_for_picture(self.prompt, MODEL)
        await loop.sock_sendall(connection, question[: -len(self.prompt)] if self.when is When.ASKING else question)
        if self.when in (When.ASKING, When.ASKED):
            return None
        if self.when is When.ANSWERED:
            await loop.sock_recv(connection, SMALL_BYTES)
            return None
        with suppress(TimeoutError):
            return await asyncio.wait_for(_read(connection), self.seconds if self.when is When.WAITING else None)
        return None


async def _read(connection: socket.socket) -> int:
    """Read an answer to its end and return its status; 0 where the application hangs up before."""
    loop, data = asyncio.get_running_loop(), b""
    while HEAD_END not in data:
        piece = await loop.sock_recv(connection, RECEIVE_BYTES)
        if not piece:
            return 0
        data += piece
    head, _, body = data.partition(HEAD_END)
    left = int(head.lower().partition(LENGTH)[2].partition(b"\r\n")[0]) - len(body)
    while left and (piece := await loop.sock_recv(connection, RECEIVE_BYTES)):
        left -= len(piece)
    return 0 if left else int(head.split(b" ", 2)[1])


async def visit_all(port: int, leavers: Sequence[Leaver]) -> list[int | None]:
    """Let all of them ask together, and return what each got."""
    return list(await asyncio.gather(*(leaver.visit(port) for leaver in leavers)))
