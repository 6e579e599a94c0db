"""Who keeps to the account's limit together with a command: those of the host, or all that name the same Redis."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from nebula_async.config import Config
from nebula_async.errors import ConfigurationError
from nebula_async.events import Observer

if TYPE_CHECKING:
    from nebula_async.engine.gate import Gate
    from nebula_async.integrations.redis import RedisGate

VARIABLE = "NEBULA_REDIS_URL"
"""No option: a command line is shown to all users of a machine and kept by a job, and the URL may have a password."""


@asynccontextmanager
async def shared_gate(config: Config, observer: Observer, *, is_emulated: bool) -> AsyncIterator[Gate | None]:
    """Give the gate of all commands, on any machine, that name the same Redis; without one, none.

    An emulator of the command's own is shared with nobody. Raises `ConfigurationError`, which names the variable where
    that is wrong, or where Redis refuses what it says.
    """
    url = os.environ.get(VARIABLE)
    if not url or is_emulated:
        yield None
        return
    gate = _redis_gate(url, config, observer)
    async with AsyncExitStack() as stack:
        with _naming_variable():
            await stack.enter_async_context(gate)
        yield gate


def _redis_gate(url: str, config: Config, observer: Observer) -> RedisGate:
    try:
        from nebula_async.integrations.redis import RedisGate
        from nebula_async.integrations.redis_address import Address
    except ModuleNotFoundError as error:
        text = f"environment variable {VARIABLE} wants the extra redis: pip install 'nebula_async[redis]'"
        raise ConfigurationError(text) from error
    with _naming_variable():
        Address(url)
    return RedisGate(url, config=config, observer=observer)


@contextmanager
def _naming_variable() -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"environment variable {VARIABLE}: {error}") from error
