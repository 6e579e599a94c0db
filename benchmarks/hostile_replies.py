"""Replies that are made to keep a client for ever, or to fill its memory; and a server of them.

The first part of a request's path is the number of a reply, 0 a good one. A reply is a row of pieces, and a number
among them a pause in seconds.
"""

from __future__ import annotations

import gzip
import itertools
import socket
import struct
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from random import Random
from typing import TypeAlias

Pieces: TypeAlias = Iterator[bytes | float]

MIB = 2**20
BELOW, ABOVE = 47 * MIB, 60 * MIB
"""What is taken of a reply lies between."""

PICTURE = 12 * MIB
PIECE = 256 * 1024

OPENING, CLOSING = b'{"data":[{"b64_json":"', b'"}]}'
START = b"HTTP/1.1 200 OK\r\n"
GZIP = "Content-Encoding: gzip"


def head(*lines: str, status: str = "200 OK") -> bytes:
    """Return the head of a reply."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


CHUNKED = head("Transfer-Encoding: chunked")
TERABYTE = head(f"Content-Length: {10**12}")


def whole(body: bytes, *lines: str, status: str = "200 OK") -> Pieces:
    """Yield a reply with this body."""
    yield head(f"Content-Length: {len(body)}", *lines, status=status)
    yield body


def filled(start: bytes, unit: bytes, end: bytes, size: int = BELOW) -> Pieces:
    """Yield a reply of about this size whose body is a unit over and over between a start and an end."""
    times = (size - len(start) - len(end)) // len(unit)
    yield head(f"Content-Length: {len(start) + times * len(unit) + len(end)}") + start
    step = max(PIECE // len(unit), 1)
    for done in range(0, times, step):
        yield unit * min(step, times - done)
    yield end


def endless(start: bytes, unit: bytes, pause: float = 0.0) -> Pieces:
    """Yield a start, and then a unit for ever."""
    yield start
    while True:
        yield unit
        if pause:
            yield pause


def packed(data: bytes, times: int, start: bytes = b"") -> Pieces:
    """Yield a reply of a start and of data so many times, as gzip."""
    packer = zlib.compressobj(1, wbits=31)
    pieces = [packer.compress(start), *(packer.compress(data) for _ in range(times)), packer.flush()]
    return whole(b"".join(pieces), GZIP)


ZEROS, LISTS, TEXT = bytes(MIB), b"[0,0," * 200_000, b64encode(Random(7).randbytes(3 * MIB))  # noqa: S311

REPLIES: dict[str, Callable[[], Pieces]] = {
    "body without end": lambda: endless(head(), b"x" * PIECE),
    "body of a terabyte": lambda: endless(TERABYTE, b"x" * PIECE),
    "chunks without end": lambda: endless(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "chunks of one byte": lambda: endless(CHUNKED, b"1\r\nx\r\n" * 10_000),
    "chunk extension without end": lambda: endless(CHUNKED + b"1;", b"x" * PIECE),
    "trailers without end": lambda: endless(CHUNKED + b"0\r\n", b"X-Trailer: x\r\n" * 1000),
    "headers without end": lambda: endless(START, b"X-Header: x\r\n" * 1000),
    "header without end": lambda: endless(START + b"X-Header: ", b"x" * PIECE),
    "99 KiB of headers": lambda: whole(b"{}", *["a:"] * 24_000),
    "99 KiB of trailers": lambda: iter([CHUNKED + b"2\r\n{}\r\n0\r\n" + b"a:\r\n" * 24_000 + b"\r\n"]),
    "status line without end": lambda: endless(START.rstrip(), b"x" * PIECE),
    "interim replies without end": lambda: endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 1000),
    "no reply": lambda: endless(b"", b"", 1.0),
    "head and no body": lambda: endless(TERABYTE, b"", 1.0),
    "body that drips": lambda: endless(TERABYTE, b"x", 0.01),
    "headers that drip": lambda: endless(START, b"a:\r\n", 0.01),
    "error without end": lambda: endless(head(status="500 Oops"), b"x" * PIECE),
    "error that drips": lambda: endless(head(status="400 Bad"), b"x", 0.01),
    "error of 60 MiB": lambda: whole(b'{"message":"' + b"x" * ABOVE + b'"}', status="400 Bad"),
    "gzip of 200 MiB of zeros": lambda: packed(ZEROS, 200),
    "gzip of 200 MiB of JSON": lambda: packed(LISTS, 200),
    "gzip that swells late": lambda: packed(ZEROS, 200, TEXT),
    "gzip without end": lambda: endless(head(GZIP), gzip.compress(bytes(1000)) * 100),
    "gzip in gzip": lambda: whole(gzip.compress(gzip.compress(ZEROS * 50, 1)), "Content-Encoding: gzip, gzip"),
    "numbers, 60 MiB": lambda: filled(b'{"data":[', b"0,", b"0]}", ABOVE),
    "numbers, 47 MiB": lambda: filled(b'{"data":[', b"0,", b"0]}"),
    "numbers, 1 MiB": lambda: filled(b'{"data":[', b"1.5,", b"0]}", MIB),
    "lists, 1 MiB": lambda: filled(b'{"data":[', b"[],", b"[]]}", MIB),
    "pictures of nothing, 1 MiB": lambda: filled(b'{"data":[', b"{},", b"{}]}", MIB),
    "objects in objects": lambda: filled(b"", b'{"a":', b""),
    "lists in lists, 1 MiB": lambda: filled(b"", b"[", b"", MIB),
    "a million keys": lambda: whole(b"{" + b",".join(b'"%d":1' % number for number in range(10**6)) + b"}"),
    "a number of 1 MiB": lambda: filled(b'{"data":', b"9", b"}", MIB),
    "white space": lambda: filled(b"{", b" ", b"}"),
    "quotes": lambda: filled(b"", b'"', b""),
    "text without end": lambda: filled(b'{"message":"', b"x", b""),
    "text of emoji, 1 MiB": lambda: filled(b'{"message":"', "\U0001f600".encode(), b'"}', MIB),
    "base64 of no picture, 60 MiB": lambda: filled(OPENING, b"AAAA", CLOSING, ABOVE),
    "base64 of no picture, 47 MiB": lambda: filled(OPENING, b"AAAA", CLOSING),
    "base64 in escapes": lambda: filled(OPENING, b"\\u0041", CLOSING),
    "base64 of line breaks": lambda: filled(OPENING, b"\\n", CLOSING),
    "base64 and junk at its end": lambda: filled(OPENING, b"AAAA", b"!" + CLOSING),
    "a thousand pictures": lambda: filled(b'{"data":[', b'{"b64_json":"%b"},' % TEXT[:48_000], b"{}]}"),
}
"""By name."""


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def names() -> Iterator[bytes]:
    """Yield all names of four letters."""
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return (bytes(name) for name in itertools.product(letters, repeat=4))


def fill(start: bytes, units: Iterable[bytes], end: bytes = b"") -> bytes:
    """Return a start, so many units that a large picture comes out, and an end."""
    data = bytearray(start)
    for unit in units:
        data += unit
        if len(data) > PICTURE:
            break
    return bytes(data + end)


PNG_START = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
PNG_END = chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND")
GIF_START = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\x08"

PICTURES: dict[str, Callable[[], bytes]] = {
    "PNG of empty chunks": lambda: fill(PNG_START, itertools.repeat(chunk(b"aaAa") * 1000), PNG_END),
    "PNG of chunks of all names": lambda: fill(PNG_START, map(chunk, names()), PNG_END),
    "WebP of chunks of all names": lambda: fill(
        b"RIFF\0\0\xc0\0WEBP", (name + bytes(4) for name in names()), b"VP8 \x0a\0\0\0"
    ),
    "PNG as large as may be": lambda: PNG_START + chunk(b"IDAT", Random(7).randbytes(35 * MIB)) + PNG_END,  # noqa: S311
    "AVIF of boxes of all names": lambda: fill(
        b"\0\0\0\x14ftypavif\0\0\0\0avif", (b"\0\0\0\x08" + name for name in names())
    ),
    "JPEG of empty segments": lambda: fill(b"\xff\xd8", itertools.repeat(b"\xff\xe0\0\x02" * 1000)),
    "GIF of blocks of one byte": lambda: fill(GIF_START, itertools.repeat(b"\1x" * 1000), b"\0;"),
}
"""Pictures of many parts, in base64 that is right."""

DOWNLOADS = {
    "download without end": "body without end",
    "download that drips": "body that drips",
    "download of a gzip bomb": "gzip of 200 MiB of zeros",
}
"""Pictures at a URL, and which reply lies there."""

NAMES = ["good reply", *REPLIES, *PICTURES, *DOWNLOADS]


def serve(listener: socket.socket) -> None:
    """Answer whatever is asked for, each connection in a thread of its own."""
    place = "{}:{}".format(*listener.getsockname())
    replies = dict(REPLIES)
    for name, make in {"good reply": lambda: PNG_START + PNG_END, **PICTURES}.items():
        body = OPENING + b64encode(make()) + CLOSING
        replies[name] = lambda body=body: whole(body)  # type: ignore[misc]
    for name, target in DOWNLOADS.items():
        body = b'{"data":[{"url":"http://%b/%d/x.png"}]}' % (place.encode(), NAMES.index(target))
        replies[name] = lambda body=body: whole(body)  # type: ignore[misc]
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection, replies), daemon=True).start()


def _answer(connection: socket.socket, replies: dict[str, Callable[[], Pieces]]) -> None:
    with suppress(OSError), connection:
        while request := _read_request(connection):
            name = NAMES[int(request.split(b"/")[1])]
            for piece in replies[name]():
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                else:
                    time.sleep(piece)


def _read_request(connection: socket.socket) -> bytes:
    """Read a request whole: what is left unread would reset the connection at its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or b"\r\n\r\n"
    request, _, body = data.partition(b"\r\n\r\n")
    length = request.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    while len(body) < int(length or 0):
        body += connection.recv(65536) or bytes(int(length))
    return request
