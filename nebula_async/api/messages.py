"""One HTTP exchange as plain values, between the dialects that write them and the engine that moves them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from attrs import field, frozen

RawHeaders = tuple[tuple[bytes, bytes], ...]


def _size_only(data: bytes) -> str:
    return f"<{len(data)} bytes>"


def _size(body: bytes | StreamedBody) -> int:
    return len(body) if isinstance(body, bytes) else body.size


class StreamedBody(Protocol):
    """A body too large to be held: the same bytes whenever it is asked for, in pieces made while they are sent."""

    @property
    def size(self) -> int:
        """How many bytes all pieces have together."""
        ...

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body from its beginning; who takes the generator closes it."""
        ...


@frozen(kw_only=True)
class HttpRequest:
    """A request, frozen: each attempt sends these very bytes. `pictures` is how many may be charged for it."""

    method: str
    url: str
    body: bytes | StreamedBody = field(default=b"", repr=lambda body: f"<{_size(body)} bytes>")
    pictures: int = 0
    accept: str = "application/json"

    @property
    def size(self) -> int:
        """How many bytes its body has."""
        return _size(self.body)


@frozen(kw_only=True)
class Reply:
    """A reply with its whole body."""

    status: int
    headers: RawHeaders = ()
    body: bytes = field(default=b"", repr=_size_only)

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300
