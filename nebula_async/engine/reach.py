"""How a server is reached, one step after the other: its addresses, a connection, a proxy's tunnel, TLS.

A call takes the same steps at once and says how it ended; here each can be looked at by itself. Nothing is asked of the
server behind them, and no key is there.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream
from attrs import frozen

from nebula_async.engine.abandon import abandonable
from nebula_async.engine.happy_eyeballs import connect_first
from nebula_async.engine.proxy import Proxy, tunnel_status


@frozen
class Secured:
    """A TLS connection: its version, and when the server's certificate ends, in Unix time."""

    version: str
    expires_at: float


async def find_addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host, best first. Raises `OSError`. Cancellation leaves a silent name server alone."""
    found = await abandonable(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


async def connect(addresses: Sequence[str], port: int) -> SocketStream:
    """Return a connection to the address that answers first. Raises `OSError` where none does."""
    return await connect_first(addresses, lambda address: anyio.connect_tcp(address, port), hang_up)


def address_of(stream: ByteStream) -> str:
    """Return the address that a connection leads to."""
    return str(_fact(stream, SocketAttribute.remote_address)[0])


async def ask_for_tunnel(stream: ByteStream, proxy: Proxy, host: str, port: int) -> int:
    """Return the status with which a proxy answers when it is asked to let us pass: a 2xx is a tunnel.

    Raises `OSError` where it hangs up, `ValueError` where it does not answer as a proxy does.
    """
    await stream.send(proxy.tunnel_to(host, port))

    async def receive() -> bytes:
        try:
            return await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b""

    return await tunnel_status(receive)


async def speak_tls(stream: ByteStream, host: str, context: ssl.SSLContext) -> tuple[ByteStream, Secured]:
    """Return the stream with TLS spoken over it, and what was agreed.

    Raises `ssl.SSLError` where the certificate is not trusted or no TLS is spoken, `OSError` where the server hangs up.
    """
    try:
        secured = await TLSStream.wrap(
            stream, server_side=False, hostname=host, ssl_context=context, standard_compatible=False
        )
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        if isinstance(error.__cause__, ssl.SSLError):
            raise error.__cause__ from None
        raise ConnectionError("it hung up") from error
    certificate = _fact(secured, TLSAttribute.peer_certificate) or {}
    expires_at = ssl.cert_time_to_seconds(str(certificate.get("notAfter")))
    return secured, Secured(_fact(secured, TLSAttribute.tls_version), expires_at)


async def hang_up(stream: ByteStream) -> None:
    """Close a connection at once, without a word to the server."""
    with anyio.CancelScope(shield=True), suppress(OSError, anyio.BrokenResourceError):
        await anyio.aclose_forcefully(stream)


def _fact(stream: ByteStream, attribute: object) -> Any:
    return stream.extra(attribute)  # noqa: S610 - anyio's, and no database's
