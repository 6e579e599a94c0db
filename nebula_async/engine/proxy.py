"""A proxy of the user's own: what it is asked, what it answers, and what may be reached through it."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import unquote_to_bytes, urlsplit

from attrs import field, frozen

from nebula_async.engine.addresses import is_public
from nebula_async.engine.interim import ReplyHeads
from nebula_async.errors import ConfigurationError
from nebula_async.urls import PROXY_PROBLEM, is_proxy, place_of, port_of

MOST_BYTES = 64 * 1024
"""So much a proxy may say before it lets us pass."""

NEAR = (".localhost", ".local", ".internal")
"""What names end in that mean something else on every network."""


@frozen
class Proxy:
    """Where a proxy is, and what it is told to let us pass.

    It is asked for a tunnel (CONNECT) to whatever host is called, so it sees that host's name and what is encrypted.
    """

    host: str
    port: int
    is_tls: bool = False
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, url: str) -> Proxy:
        """Return the proxy at a URL as `Config.proxy` has it, with or without user name and password.

        Raises `ConfigurationError` for another URL; it is not in the message.
        """
        if not is_proxy(url):
            raise ConfigurationError(f"the proxy {PROXY_PROBLEM}")
        parts = urlsplit(url)
        pair = b":".join(unquote_to_bytes(text or "") for text in (parts.username, parts.password))
        authorization = None if parts.username is None else f"Basic {b64encode(pair).decode()}"
        return cls(parts.hostname or "", port_of(parts), parts.scheme == "https", authorization)

    def __str__(self) -> str:
        return place_of(self.host, self.port)

    def tunnel_to(self, host: str, port: int) -> bytes:
        """Return the request for a tunnel to a host (RFC 9110, section 9.3.6)."""
        place = place_of(host, port)
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if self.authorization is not None:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")


async def tunnel_status(receive: Callable[[], Awaitable[bytes]]) -> int:
    """Return the status with which a proxy answers who asks it for a tunnel: a 2xx is one.

    `receive` returns what came, nothing where no more comes. Raises `ConnectionError` where the proxy hangs up,
    `ValueError` where it does not answer as a proxy does.
    """
    heads, size = ReplyHeads(), 0
    while heads.status is None and size < MOST_BYTES:
        data = await receive()
        if not data:
            raise ConnectionError("it hung up")
        size += len(data)
        heads.feed(data)
    if not heads.status or (heads.after and heads.status < 300):
        raise ValueError("it does not answer as a proxy does")
    return heads.status


def public_name(host: str) -> str:
    """Return a host that a proxy, which finds the address by itself, may be asked for on behalf of others.

    Raises `PermissionError` for an address that is not public, also where it is written as a number, and for a name
    that only some networks know. What a public name leads to is the proxy's concern.
    """
    name = host.rstrip(".").lower()
    is_known_everywhere = "." in name and not name.endswith(NEAR)
    if not (_is_public_address(name) if _is_address(name) else is_known_everywhere):
        raise PermissionError(f"{host} is not a host of the public internet")
    return host


def _is_address(name: str) -> bool:
    """Whether a resolver takes it for an address: `2130706433`, `127.1` and `0x7f.1` mean 127.0.0.1."""
    with suppress(ValueError):
        return bool(ip_address(name))
    with suppress(OSError, ValueError):
        return bool(socket.inet_aton(name))
    return False


def _is_public_address(name: str) -> bool:
    with suppress(ValueError):
        return is_public(name)
    return False
