"""Heads of replies as they arrive: the same in any pieces, and the status and length that h11 reads."""

from __future__ import annotations

import h11
from reference import in_pieces_of

from nebula_async.engine.interim import ReplyHeads
from targets import same

REFERENCE = "h11"

MOST_BYTES = 512

WORDS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 \r\n\r\n", b"HTTP/1.0 404\r\n",
    b"\r\n\r\n", b"Content-Length: 5\r\n", b"content-length:", b"Transfer-Encoding: chunked\r\n", b"\n\n", b"\n", b"\r",
    b" ", b"\t", b"HTTP/1.1 101 Switching\r\n\r\n", b"HTTP/1.1 204 \r\n\r\n", b"a:b\r\n", b"5", b",", b"\x0b", b"\0",
    b"HTTP/1.1 ",
]  # fmt: skip
SEEDS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.0 404\nContent-Length:  7 \n\n",
]  # fmt: skip


def check(data: bytes) -> None:
    """Read the heads whole, in pieces, and by h11."""
    found = read([data])
    same(found, read(in_pieces_of(1, data)), data)
    same(found, read(in_pieces_of(5, data)), data)
    theirs = by_h11(data)
    if theirs is not None and found is not None:
        same(theirs, found[:2], data)


def read(pieces: list[bytes]) -> tuple[object, ...] | None:
    """Return status, length, how many interim heads there were and what came behind; `None` for a refusal."""
    heads = ReplyHeads()
    try:
        for piece in pieces:
            heads.feed(piece)
    except ValueError:
        return None
    return heads.status, heads.length, heads.interim, heads.after, heads.head


def by_h11(data: bytes) -> tuple[int, int | None] | None:
    """Return the final status and the length that h11 reads, `None` where there is none yet, or it refuses them."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a.example")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                break
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                return None
    except h11.RemoteProtocolError:
        return None
    lengths = [value for name, value in event.headers if name == b"content-length"]
    return event.status_code, int(lengths[0]) if lengths else None
