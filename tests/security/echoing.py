"""A server that repeats what it was told, key, prompt and signed URL, in every place where a reply can hold it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import PIL.Image
from attrs import define, field
from canaries import KEY, PROMPT, QUERY

Script = Callable[[str], bytes]


def picture() -> bytes:
    """Return a small PNG."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (64, 64)).save(file, "PNG")
    return file.getvalue()


PNG = picture()


def says(status: int, body: bytes, *lines: str, phrase: str = "Said") -> bytes:
    """Return a reply."""
    head = [f"HTTP/1.1 {status} {phrase}", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


def as_json(status: int, value: object) -> bytes:
    """Return a reply whose body is JSON."""
    return says(status, json.dumps(value).encode(), "Content-Type: application/json")


@define(eq=False)
class Echo:
    """Answers each request for pictures with `script("")`, or with a signed URL at which `script(target)` answers."""

    script: Script
    leads_to_url: bool = False
    tls: ssl.SSLContext | None = None
    _listener: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0)), init=False)
    _open: list[socket.socket] = field(factory=list, init=False)
    heads: list[str] = field(factory=list, init=False)
    heard: threading.Event = field(factory=threading.Event, init=False)

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        """Answer until it is closed."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._answer, args=(connection,)).start()

    def close(self) -> None:
        """Stop, breaking off what is connected."""
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _answer(self, plain: socket.socket) -> None:
        connection = plain if self.tls is None else self.tls.wrap_socket(plain, server_side=True)
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
            while first := lines.readline():
                head = b"".join(iter(lambda: lines.readline().strip(b"\r\n") + b"\n", b"\n")).decode().lower()
                self.heads.append(head)
                lines.read(int((re.search(r"^content-length: *([0-9]+)", head, re.MULTILINE) or [0, 0])[1]))
                self.heard.set()
                reply = self._reply(first.split()[1].decode())
                if not reply:
                    return
                connection.sendall(reply)

    def _reply(self, target: str) -> bytes:
        is_asked = target.startswith(("/v1/", "/api/"))
        if is_asked and self.leads_to_url:
            return as_json(200, {"created": 1, "data": [{"url": f"http://{self.place}/a?{QUERY}"}]})
        return self.script("" if is_asked else target)


@contextlib.contextmanager
def echoing(script: Script, *, leads_to_url: bool = False, tls: ssl.SSLContext | None = None) -> Iterator[Echo]:
    """Run such a server."""
    server = Echo(script, leads_to_url, tls)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


BEARER = f"Bearer {KEY}"
SAID = {"error": {"code": "invalid_request", "message": f"no {BEARER}", "details": [KEY]}}

REPLIES: dict[str, Script] = {
    "in a header": lambda _: says(500, b"{}", f"X-Echo: {BEARER}", f"X-Request-Id: {KEY}", f"Retry-After: {KEY}"),
    "in a header line that is none": lambda _: f"HTTP/1.1 200 OK\r\nX-Echo : {BEARER}\r\n\r\n".encode(),
    "in the phrase of the status": lambda _: says(500, b"{}", phrase=BEARER),
    "in the place of a status": lambda _: f"{BEARER} what\r\n\r\n".encode(),
    "in the error's JSON": lambda _: as_json(400, SAID),
    "in an error that is no JSON": lambda _: says(400, BEARER.encode()),
    "in a success that is no JSON": lambda _: says(200, f"{BEARER} {PROMPT}".encode()),
    "in a success that failed": lambda _: as_json(200, {"status": "failed", **SAID}),
    "in a success without a picture": lambda _: as_json(200, {"created": 1, "data": [{"b64_json": KEY}], KEY: KEY}),
    "in a URL that is none": lambda _: as_json(
        200, {"created": 1, "data": [{"url": f"ftp://pictures.example/?{QUERY}"}]}
    ),
    "in the length": lambda _: f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n".encode(),
    "in the transfer coding": lambda _: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {KEY}\r\n\r\n".encode(),
    "in the content coding": lambda _: says(200, b"{}", f"Content-Encoding: {KEY}"),
    "in a chunk's length": lambda _: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
    "in a redirect": lambda _: says(307, b"", f"Location: https://pictures.example/{KEY}?{QUERY}"),
    "in a reply that breaks off": lambda _: f"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{BEARER}".encode()[:-1],
    "nowhere": lambda _: b"",
}
"""Replies to requests for pictures that repeat the key; none is a picture."""

TARGETS: dict[str, Script] = {
    "delivered behind a redirect": lambda at: says(302, b"", f"Location: /b?{QUERY}") if "/a" in at else says(200, PNG),
    "redirected near us": lambda _: says(302, b"", f"Location: https://10.0.0.1/b?{QUERY}"),
    "redirected to no URL": lambda _: says(302, b"", f"Location: http://[b/b?{QUERY}"),
    "redirected to a control character": lambda _: says(302, b"", f"Location: /\x7f?{QUERY}"),
    "redirected for ever": lambda _: says(302, b"", f"Location: /b?{QUERY}"),
    "refused": lambda at: says(403, f"<Error>{at}</Error>".encode()),
    "a page": lambda at: says(200, f"<html>{at}</html>".encode()),
    "a header line that is none": lambda at: f"HTTP/1.1 200 OK\r\nX : {at}\r\n\r\n".encode(),
    "another coding": lambda at: says(200, PNG, f"Content-Encoding: {at}"),
    "nothing": lambda _: b"",
}
"""What a picture's signed URL may lead to."""
