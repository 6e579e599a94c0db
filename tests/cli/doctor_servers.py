"""Servers that a doctor may meet: an API by plain HTTP or TLS, a proxy, and ones that do not answer."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CREDITS = {"data": {"available_balance": "12.50"}, "message": "ok", "status": "success"}
MODELS = {
    "data": {
        "models": [
            {"model_name": "black-forest-labs/FLUX.1-schnell", "model_type": "Image", "price": 0.0019},
            {"model_name": "acme/chat", "model_type": "Text", "price": None},
        ]
    },
    "status": "success",
}
CREDITS_AT, MODELS_AT = "/api/v1/users/credits", "/api/v1/serverless/models"
REPLIES = {CREDITS_AT: (200, CREDITS), MODELS_AT: (200, MODELS)}


class ApiServer(ThreadingHTTPServer):
    """A server with these replies, (status, JSON) by path, whose clock may be wrong by `ahead` seconds."""

    daemon_threads = True

    def __init__(
        self, replies: Mapping[str, tuple[int, Any]] = REPLIES, tls: ssl.SSLContext | None = None, ahead: float = 0
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.replies, self.tls, self.ahead = replies, tls, ahead
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        """The base of its API."""
        return f"http{'s' if self.tls else ''}://localhost:{self.server_port}/api/v1"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Speak TLS first, where it is asked for."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError))
            if self.tls is not None:
                request = stack.enter_context(self.tls.wrap_socket(request, server_side=True))
            super().finish_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close, also what is closed already."""
        with contextlib.suppress(OSError):
            super().shutdown_request(request)


class _Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServer

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, self.headers["Authorization"]))
        status, value = self.server.replies.get(self.path, (404, {"detail": "Not Found"}))
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response_only(status)
        self.send_header("Date", formatdate(time.time() + self.server.ahead, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - as the library has it

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class TunnelProxy(ThreadingHTTPServer):
    """A proxy that lets every tunnel pass to one place, wherever it is asked for, or answers with another status."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int], status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.target, self.status = target, status
        self.asked: list[tuple[str, str | None]] = []

    @property
    def place(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.server_port}"


class _Tunnel(BaseHTTPRequestHandler):
    server: TunnelProxy

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.path, self.headers["Proxy-Authorization"]))
        self.send_response_only(self.server.status)
        self.end_headers()
        if self.server.status == 200:
            with socket.create_connection(self.server.target) as beyond, contextlib.suppress(OSError):
                _pass_on(self.connection, beyond)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    to = {one: other, other: one}
    while True:
        for source in select.select([one, other], [], [])[0]:
            data = source.recv(65536)
            if not data:
                return
            to[source].sendall(data)


@contextlib.contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[Any]:
    """Let a server answer until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def mute() -> Iterator[int]:
    """Give a port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]
