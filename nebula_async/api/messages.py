"""One HTTP exchange as plain values, between the dialects that write them and the engine that moves them."""

from __future__ import annotations

from attrs import field, frozen

RawHeaders = tuple[tuple[bytes, bytes], ...]


def _size_only(data: bytes) -> str:
    return f"<{len(data)} bytes>"


@frozen(kw_only=True)
class HttpRequest:
    """A request, frozen: each attempt sends these very bytes. `pictures` is how many may be charged for it."""

    method: str
    url: str
    body: bytes = field(default=b"", repr=_size_only)
    pictures: int = 0
    accept: str = "application/json"


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
