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
from nebula_async.engine.interim import ReplyHeads
from nebula_async.engine.proxy import Proxy

NEXT_ADDRESS_SECONDS = 0.25
"""How long one address is tried before the next one is tried beside it (RFC 8305, section 5)."""

MOST_BYTES = 64 * 1024


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
    streams: list[SocketStream] = []
    errors: list[OSError] = []

    async def attempt(address: str, failed: anyio.Event) -> None:
        try:
            streams.append(await anyio.connect_tcp(address, port))
        except OSError as error:
            errors.append(error)
            failed.set()
        else:
            group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            for address in addresses:
                failed = anyio.Event()
                group.start_soon(attempt, address, failed)
                with anyio.move_on_after(NEXT_ADDRESS_SECONDS):
                    await failed.wait()
        if not streams:
            raise errors[-1]
        return streams.pop(0)
    finally:
        for spare in streams:
            await hang_up(spare)


def address_of(stream: ByteStream) -> str:
    """Return the address that a connection leads to."""
    return str(_fact(stream, SocketAttribute.remote_address)[0])


async def ask_for_tunnel(stream: ByteStream, proxy: Proxy, host: str, port: int) -> int:
    """Return the status with which a proxy answers when it is asked to let us pass: a 2xx is a tunnel.

    Raises `OSError` where it hangs up, `ValueError` where it does not answer as a proxy does.
    """
    await stream.send(proxy.tunnel_to(host, port))
    heads, size = ReplyHeads(), 0
    while heads.status is None and size < MOST_BYTES:
        try:
            data = await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
            raise ConnectionError("it hung up") from error
        size += len(data)
        heads.feed(data)
    if not heads.status:
        raise ValueError("it does not answer as a proxy does")
    return heads.status


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
