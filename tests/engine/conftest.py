"""Servers of raw bytes as fixtures."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import pytest
from wire import RawServer


@pytest.fixture
def certified(authority) -> ssl.SSLContext:
    """What a server needs whose certificate that authority signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def serve():
    """Start servers of raw bytes: `serve(handle)`."""
    servers: list[RawServer] = []

    def start(handle: Callable[[RawServer, socket.socket], object], tls: ssl.SSLContext | None = None) -> RawServer:
        server = RawServer(lambda connection: handle(server, connection), tls)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def replies(serve):
    """Start a server that answers with these bytes, one after the other, and then ends the connection."""

    def start(*texts: bytes) -> RawServer:
        waiting = iter(texts)

        def handle(server: RawServer, connection: socket.socket) -> None:
            for text in waiting:
                server.read_request(connection)
                connection.sendall(text)

        return serve(handle)

    return start
