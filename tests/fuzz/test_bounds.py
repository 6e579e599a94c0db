"""A megabyte of the worst that anyone could think of takes no parser more than 50 ms: it runs beside an event loop."""

from __future__ import annotations

import gzip
import struct
import sys
import time
from contextlib import suppress

import pytest
from attrs import define
from slowness import slowness
from specimens import chunk, png

from nebula_async.api.account import read_credits, read_models
from nebula_async.api.envelope import read_error
from nebula_async.api.headers import read_date, read_delay, read_policy, read_rate_limit, read_request_id
from nebula_async.api.messages import Reply
from nebula_async.api.replies import AnswerReader
from nebula_async.engine.body import BoundedBody
from nebula_async.engine.interim import ReplyHeads
from nebula_async.errors import NebulaError
from nebula_async.images.arriving import ArrivingPicture
from nebula_async.images.media import read_media
from nebula_async.images.provenance import Provenance, read_provenance, write_provenance
from nebula_async.images.xmp import CLOSE, OPEN
from nebula_async.sinks.names import check_key, slug
from nebula_async.urls import is_proxy, read_url

MIB = 2**20
LONGEST_SECONDS = 0.05
TRIES = 10
"""The least of so many counts: other processes, and a collection of garbage, are not what is measured."""


def full(unit: bytes, head: bytes = b"", tail: bytes = b"") -> bytes:
    """Return a megabyte of a unit between a head and a tail."""
    return head + unit * ((MIB - len(head) - len(tail)) // len(unit)) + tail


def joined(units: int, form: bytes, head: bytes, tail: bytes) -> bytes:
    """Return numbered units between a head and a tail."""
    return head + b",".join(form % number for number in range(units)) + tail


def check_seconds(read: object, given: object) -> None:
    """Raise unless a parser takes its time, or less, at least once."""
    seconds = []
    while len(seconds) < TRIES and min(seconds, default=1) > LONGEST_SECONDS:
        seconds.append(cpu_seconds(read, given))
        if seconds[-1] > LONGEST_SECONDS:
            seconds[-1] /= slowness()
    # what counts the lines that are run takes a multiple of their time
    assert sys.gettrace() is not None or min(seconds) <= LONGEST_SECONDS


def cpu_seconds(read: object, given: object) -> float:
    """Return what reading takes, whether or not it is refused."""
    started = time.process_time()
    with suppress(ValueError, NebulaError):
        read(given)
    return time.process_time() - started


JSON = {
    "lists in lists": full(b"["),
    "objects in objects": full(b'{"a":'),
    "as deep as Python reads": b'{"usage":' + b"[" * 490 + b"]" * 490 + b"}",
    "keys": joined(90_000, b'"%d":1', b"{", b"}"),
    "as many keys as are read": joined(9_999, b'"%d":' + b"1" * 90, b"{", b"}"),
    "a long number": full(b"1", b'{"data":', b"}"),
    "numbers as long as Python reads": full(b"1" * 4300 + b",", b'{"data":[', b"0]}"),
    "fractions": full(b"1." + b"1" * 4300 + b",", b'{"data":[', b"0]}"),
    "infinities": full(b"1e999,", b'{"data":[', b"0]}"),
    "numbers": full(b"0,", b'{"data":[', b"0]}"),
    "empty lists": full(b"[],", b'{"data":[', b"0]}"),
    "empty objects": full(b"{},", b'{"data":{"images":[', b"0]}}"),
    "as many objects as are read": b'{"data":{"images":[' + b"{}," * 99_990 + b"0]}}",
    "empty texts": full(b'"",', b'{"data":[', b"0]}"),
    "a text": full(b"x y", b'{"error":{"message":"', b'"}}'),
    "blanks of Unicode": full("\u2003".encode(), b'{"error":{"message":"', b'"}}'),
    "escapes": full(b"\\u00e9", b'{"message":"', b'"}'),
    "halves of characters": full(b"\\ud83d", b'{"message":"', b'"}'),
    "escaped quotes": full(b'\\"', b'{"message":"', b'"}'),
    "backslashes": full(b"\\", b'"'),
    "brackets before escaped quotes": full(b'\\"', b"[" * 100_001 + b'"'),
    "brackets before quotes": full(b'"\\', b"[" * 100_001),
    "quotes": full(b'"'),
    "quotes and colons": full(b'":'),
    "control characters": full(b"\0\1"),
    "white space": full(b" ", tail=b"{}"),
    "faults of validation": full(b'{"loc":[' + b'"a",' * 2000 + b'1],"msg":"x"},', b'{"detail":[', b"0]}"),
    "a place of a fault": full(b"1,", b'{"detail":[{"loc":[', b'1],"msg":"x"}]}'),
    "keys of pictures": full(b'"b64_json",'),
    "keys of pictures without pictures": full(b'"b64_json":1,'),
    "keys of pictures by number": full(b'"b64\\u005fjson":1,'),
    "escaped keys": full(b'"\\u0061aaaaaaa",'),
    "half of a key": full(b'"b64_jso,'),
    "many pictures": full(b'{"b64_json":"QUJD"},', b'{"data":[', b"0]}"),
    "pictures of a kilobyte": b'{"data":[' + (b'{"b64_json":"%s"},' % (b"QUJD" * 250)) * 999 + b"0]}",
    "short pictures before quotes": full(b'\\"', b"[" + b'"b64_json":"\\"",' * 999 + b'"'),
    "short pictures before backslashes": full(b"\\\\", b"[" + b'"b64_json":"",' * 999 + b'"'),
    "a picture": full(b"A", b'{"b64_json":"', b'"}'),
    "a picture of escapes": full(b"\\u0041", b'{"b64_json":"', b'"}'),
    "a picture of line breaks": full(b"\\n", b'{"b64_json":"', b'"}'),
    "a picture of short lines": full(b"QUJD\\n", b'{"b64_json":"', b'"}'),
    "a picture of backslashes": full(b"\\", b'{"b64_json":"', b'"}'),
    "a data URL without an end": full(b"a", b'{"b64_json":"data:', b'"}'),
    "models": joined(4_999, b'{"model_name":"m%d","price":1}', b'{"data":{"models":[', b"]}}"),
    "a balance of digits": full(b"1", b'{"data":{"available_balance":"', b'"}}'),
    "a balance that is a list": full(b"1,", b'{"data":{"available_balance":[', b"1]}}"),
}


def as_answer(body: bytes) -> object:
    """Read a body as a success, in one piece."""
    reader = AnswerReader(ArrivingPicture)
    reader.feed(body)
    return reader.finish(Reply(status=200), asked=1, now=0)


def as_salvage(body: bytes) -> object:
    """Read a body as a success that broke off, in the pieces of a socket."""
    reader = AnswerReader(ArrivingPicture)
    for start in range(0, len(body), 2**16):
        reader.feed(memoryview(body)[start : start + 2**16])
    return reader.salvage(Reply(status=200), asked=1, now=0)


READERS = {
    "answer": as_answer,
    "salvage": as_salvage,
    "error": lambda body: read_error(Reply(status=500, body=body), now=0),
    "models": lambda body: read_models(Reply(status=200, body=body)),
    "credits": lambda body: read_credits(Reply(status=200, body=body)),
    "provenance": lambda body: Provenance.from_json(body.decode()),
}


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("reader", READERS)
def test_json_is_read_in_no_time(reader, name):
    """Replies, errors and documents: whatever a megabyte of them is made of."""
    check_seconds(READERS[reader], JSON[name])


NAMES = (
    *(b"Retry-After", b"Retry-After-Ms", b"RateLimit", b"RateLimit-Policy", b"Date", b"Age", b"X-RateLimit-Limit"),
    *(b"X-RateLimit-Remaining", b"X-RateLimit-Reset", b"X-Request-Id", b"cf-ray"),
)
VALUES = {
    "nothing": b"",
    "a digit": b"1",
    "a date": b"Thu, 20 Nov 2025 12:00:30 GMT",
    "a limit": b'"a";r=0;t=3',
    "digits": full(b"1"),
    "quotes": full(b'"'),
    "blanks": full(b" ", tail=b"x"),
    "parameters": full(b"a;b=1"),
    "a fraction": full(b"1", b"0."),
    "a list": full(b'"\\"\\"";r=0;t=3;')[:4095],
}


def read_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Read all that is read in headers."""
    read_delay(headers, now=0)
    read_rate_limit(headers, now=0)
    read_policy(headers)
    read_request_id(headers)
    read_date(headers)


@pytest.mark.parametrize("value", VALUES)
def test_headers_are_read_in_no_time(value):
    """A megabyte of lines of each header, or of one line."""
    for name in NAMES:
        line = (name, VALUES[value])
        check_seconds(read_headers, [line] * (MIB // (len(line[0]) + len(line[1]) + 4) or 1))
    check_seconds(read_headers, [(b"x%d" % number, VALUES[value][:20]) for number in range(MIB // 20)])


HEADS = {
    "letters": full(b"a"),
    "line ends": full(b"\r\n"),
    "lines": full(b"a:b\r\n", b"HTTP/1.1 200 OK\r\n"),
    "long lines": full(b"a:" + b"b" * 1040 + b"\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n"),
    "lengths": full(b"Content-Length: 1\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n"),
    "a length of digits": full(b"1", b"HTTP/1.1 200 OK\r\nContent-Length: ", b"\r\n\r\n"),
    "a length of blanks": full(b" ", b"HTTP/1.1 200 OK\r\nContent-Length: ", b"\r\n\r\n"),
    "interim heads": full(b"HTTP/1.1 100 \n\n"),
}


def read_heads(data: bytes) -> None:
    """Read heads in pieces of 64 bytes."""
    heads = ReplyHeads()
    for start in range(0, len(data), 64):
        heads.feed(data[start : start + 64])


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_read_in_no_time(name):
    """A megabyte of what stands before a body, in small pieces."""
    check_seconds(read_heads, HEADS[name])


@define
class Counting:
    """Counts what it is fed."""

    size: int = 0
    piece_bytes: int = 2**16
    is_full: bool = False

    def feed(self, data: bytes | memoryview) -> None:
        """Count it."""
        self.size += len(data)


PACKED = {
    "a bomb": gzip.compress(bytes(300 * MIB // 2), 1),
    "as dense as is taken": gzip.compress(b"".join(b"%09d" % (7919 * number) + bytes(230) for number in range(30_000))),
    "empty blocks": full(b"\0\0\0\xff\xff", b"\x1f\x8b\x08\0\0\0\0\0\0\xff"),
    "a name without an end": full(b"a", b"\x1f\x8b\x08\x08\0\0\0\0\0\xff"),
}  # fmt: skip


def read_packed(data: bytes) -> None:
    """Unpack a body."""
    body = BoundedBody("gzip", 64 * MIB, Counting())
    for start in range(0, len(data), 2**12):
        body.feed(data[start : start + 2**12])
    body.finish()


@pytest.mark.parametrize("name", PACKED)
def test_packed_bodies_are_unpacked_in_no_time(name):
    """A megabyte of gzip, whatever it unpacks to."""
    check_seconds(read_packed, PACKED[name][:MIB])


def box(kind: bytes, size: int) -> bytes:
    """Return the head of an AVIF's box."""
    return struct.pack(">I4s", size, kind)


GIF = b"GIF89a\1\0\1\0\0\0\0"
AVIF = box(b"ftyp", 16) + b"avif\0\0\0\0"
META = AVIF + box(b"meta", MIB) + bytes(4)
SEGMENTS = b"\xe0\0\2\xff" * 19_000 + b"\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0" + b"\xff\xda\0\2\xff\xd9"
PICTURES = {
    "empty chunks of a PNG": png(1, 1, *[chunk(b"tEXt", b"")] * (MIB // 12)),
    "small chunks of a PNG": png(1, 1, *[chunk(b"tEXt", b"x")] * (MIB // 13)),
    "segments of a JPEG": full(b"\xe0\0\2\xff", b"\xff\xd8\xff"),
    "segments of a whole JPEG": b"\xff\xd8\xff" + SEGMENTS,
    "fill bytes of a JPEG": full(b"\xff", b"\xff\xd8\xff"),
    "stuffed zeros of a JPEG": full(b"\xff\0", b"\xff\xd8\xff"),
    "chunks of a WebP": full(b"ICCP\0\0\0\0", b"RIFF" + struct.pack("<I", MIB) + b"WEBPVP8X\x0a\0\0\0" + bytes(10)),
    "sub-blocks of a GIF": full(b"\1x", GIF + b"!\xfe"),
    "blocks of a GIF": full(b"!\xfe\0", GIF),
    "pictures of a GIF": full(b"," + bytes(9) + b"\2\0", GIF),
    "boxes of an AVIF": full(box(b"free", 8), AVIF),
    "boxes with long sizes": full(struct.pack(">I4sQ", 1, b"free", 16), AVIF),
    "boxes in boxes": full(box(b"iprp", 8), META),
    "sizes of an AVIF": full(box(b"ispe", 20) + bytes(12), META + box(b"iprp", MIB - 28) + box(b"ipco", MIB - 36)),
    "no picture": full(b"x"),
    "white space": full(b" "),
}


@pytest.mark.parametrize("read", [read_media, read_provenance])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_looked_at_in_no_time(name, read):
    """A megabyte of the smallest parts that pictures are made of."""
    check_seconds(read, PICTURES[name])


TOLD = b'{"version":1,"request":{"prompt":"x"},'
PACKETS = {
    "tags that open": full(OPEN.encode()),
    "tags that close": full(CLOSE.encode()),
    "ends": full(b"</rdf:RDF>"),
    "no UTF-8": full(b"\xff"),
    "quotes": full(b"&quot;", OPEN.encode(), CLOSE.encode()),
    "brackets": full(b"[", OPEN.encode(), CLOSE.encode()),
    "brackets before escaped quotes": full(b'\\"', OPEN.encode() + b"[" * 50_001 + b'"', CLOSE.encode()),
    "inputs": joined(80_000, b'"%d":{}', OPEN.encode() + TOLD + b'"inputs":{', b"}}" + CLOSE.encode()),
}


@pytest.mark.parametrize("name", PACKETS)
def test_what_others_wrote_into_a_picture_is_read_in_no_time(name):
    """A megabyte of XMP, which anyone may have put into a picture."""
    packet = PACKETS[name][: MIB - 4096]
    data = png(1, 1, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet), chunk(b"IDAT", b"x"))
    check_seconds(read_provenance, data)
    check_seconds(lambda data: write_provenance(data, Provenance(request={"prompt": "x"})), data)


@pytest.mark.parametrize(
    "unit", ["a", "a ", "/", "a/", "./", ". ", "\ufdfa", "\u0301", "https://", "@", "[", "%61", "9."]
)
def test_names_and_urls_are_read_in_no_time(unit):
    """A megabyte of text that is to be a name, a key or a URL."""
    text = unit * (MIB // len(unit.encode()))
    for read in (slug, check_key, read_url, is_proxy):
        check_seconds(read, text)
