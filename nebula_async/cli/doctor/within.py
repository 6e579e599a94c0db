"""The time that a step may take, and why one failed, in words."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

Value = TypeVar("Value")


async def within(seconds: float, step: Callable[..., Awaitable[Value]], *arguments: object) -> Value:
    """Return what a step gives. Raises `TimeoutError` where that takes longer."""
    with anyio.move_on_after(seconds):
        return await step(*arguments)
    raise TimeoutError(f"no answer within {seconds:g} s")


def reason(error: BaseException) -> str:
    """Return what is at the bottom of an error, in the system's words where it has some."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and (error.errno or 0) > 0 and type(error).__module__ == "builtins":
        return os.strerror(error.errno or 0)
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
