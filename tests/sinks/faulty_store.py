"""A proxy that makes an S3 server fail."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field
from s3_servers import START_SECONDS, options_for


@define
class FaultProxy:
    """What stands before a server and does to its next requests what it is told; after that it passes all on.

    Only puts and posts meet faults: `"500"`, `"hang"` until `may_go`, `"cut"` in the middle of the request,
    `"lose the answer"` once the server has done it, or something to call before the request goes on, which it does
    unless that returns `"hang up"`.
    """

    upstream: str
    faults: list[str | Callable[[], object]] = field(factory=list)
    seen: list[str] = field(factory=list)
    address: str = field(init=False)
    may_go: threading.Event = field(factory=threading.Event)
    was_reached: threading.Event = field(factory=threading.Event)

    @property
    def options(self) -> dict[str, Any]:
        """What a sink needs to reach it."""
        return options_for(self.address)

    def next_fault(self, command: str) -> str | Callable[[], object] | None:
        """Return what a request of this kind meets."""
        self.seen.append(command)
        if not self.faults or command not in ("PUT", "POST"):
            return None
        self.was_reached.set()
        return self.faults.pop(0)


class _Faulty(BaseHTTPRequestHandler):
    """Passes requests on, or spoils them."""

    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def answer(self) -> None:
        """Answer one."""
        fault = self.proxy.next_fault(self.command)
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size // 2 if fault == "cut" else size)
        if fault == "500":
            return self._reply(500, {}, b"<Error><Code>InternalError</Code></Error>")
        if fault == "cut":
            return self._hang_up()
        if fault == "hang":
            self.proxy.may_go.wait(START_SECONDS)
            return self._hang_up()
        if callable(fault) and fault() == "hang up":
            return self._hang_up()
        return self._pass_on(body, is_lost=fault == "lose the answer")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 - the names that it is called by

    def log_message(self, *args) -> None:
        """Say nothing."""

    def _pass_on(self, body: bytes, *, is_lost: bool) -> None:
        try:
            reply = self._exchange(body)
        except (OSError, http.client.HTTPException):
            return self._hang_up()
        return self._hang_up() if is_lost else self._reply(*reply)

    def _exchange(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        with closing(http.client.HTTPConnection(self.proxy.upstream, timeout=START_SECONDS)) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # the host too, which is signed
                connection.putheader(name, value)
            connection.endheaders(body or None)
            reply = connection.getresponse()
            headers = {name.lower(): value for name, value in reply.getheaders()}
            return reply.status, headers, reply.read()

    def _reply(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in ({"content-length": str(len(data))} | headers).items():
            if name not in ("connection", "date", "server", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(proxy: FaultProxy) -> Iterator[FaultProxy]:
    """Let a proxy listen."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Faulty", (_Faulty,), {"proxy": proxy}))
    server.daemon_threads = True
    proxy.address = "{}:{}".format(*server.server_address[:2])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield proxy
    proxy.may_go.set()
    server.shutdown()
    server.server_close()
    thread.join(START_SECONDS)
