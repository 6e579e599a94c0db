"""Which addresses a URL that a server gave us may lead to: those of the public internet, and no machine near us."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import anyio

NOT_PUBLIC = tuple(
    ip_network(text)
    for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "fec0::/10", "192.0.0.0/24")
)
"""What carries an IPv4 address inside of an IPv6 one, or is local: the standard library takes them for global."""


async def public_addresses(host: str, port: int) -> list[str]:
    """Return the public addresses of a host, resolved once. Raises `OSError` for a host that is unknown or has none."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(place[0]) for *_, place in found if is_public(str(place[0]))]
    if not addresses:
        raise PermissionError(f"{host} leads to an address that is not public")
    return addresses


def is_public(text: str) -> bool:
    """Whether an address belongs to the public internet."""
    address = _unwrapped(ip_address(text.partition("%")[0]))
    is_special = address.is_multicast or address.is_reserved or any(address in network for network in NOT_PUBLIC)
    return address.is_global and not is_special


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return getattr(address, "ipv4_mapped", None) or address
