"""No other machine: what a test would send to the API itself is refused before it leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

import pytest

from nebula_async.engine.transport import Transport
from nebula_async.errors import ConfigurationError
from nebula_async.urls import is_loopback


@contextmanager
def only_this_machine() -> Iterator[None]:
    """Refuse, inside the block, whatever a client of this process would send to another machine.

    It ends with a `ConfigurationError` that names the host, before a connection is made, and whenever the client was
    made. Clients with a transport of their own are left alone: what they send leaves by that. So are other processes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transport, "exchange", _refusing(Transport.exchange))
        yield


def _refusing(exchange: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(exchange)
    async def guarded(self: Transport, request: Any, *rest: Any) -> Any:
        host = urlsplit(request.url).hostname or ""
        if self.custom is None and not is_loopback(host):
            raise ConfigurationError(
                f"a test was about to call {host}, which is not this machine: use the fixture nebula, give the client "
                "nebula_emulator.config(), or mark the test nebula_live if it is to call it"
            )
        return await exchange(self, request, *rest)

    return guarded
