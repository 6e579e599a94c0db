"""Work beside which something else goes on for as long as it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

import anyio

Value = TypeVar("Value")

Companion: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


async def accompanied(work: Callable[[], Awaitable[Value]], *companions: Companion) -> Value:
    """Return what comes of some work; its companions run meanwhile, and are cancelled when it ends.

    Raises what the work raises, bare.
    """
    ended: list[Value | Exception] = []
    async with anyio.create_task_group() as group:
        for companion in companions:
            group.start_soon(companion)
        try:
            ended.append(await work())
        except Exception as error:  # noqa: BLE001 - raised again below: it would leave the group inside of another one
            ended.append(error)
        group.cancel_scope.cancel()
    if isinstance(ended[0], Exception):
        raise ended[0]
    return ended[0]
