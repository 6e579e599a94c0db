"""Where the API of a test is: its environment for other processes, and places at which nobody answers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Protocol


class Place(Protocol):
    """Where both APIs and their storage are, and a key for them."""

    key: str
    base_url: str
    inference_url: str
    storage_host: str


def announced(place: Place) -> dict[str, str]:
    """Return the environment that says where both APIs are, as `nebula-async emulator` announces it."""
    return {
        "NEBULA_BASE_URL": place.base_url,
        "NEBULA_API_KEY": place.key,
        "NEBULA_INFERENCE_URL": place.inference_url,
        "NEBULA_ALLOWED_IMAGE_HOSTS": place.storage_host,
    }


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """Give a port whose queue is full: who connects there gets no answer at all, as behind a firewall."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        with contextlib.suppress(TimeoutError):
            for _ in range(8):
                stack.enter_context(socket.create_connection(listener.getsockname(), timeout=0.05))
        yield listener.getsockname()[1]
