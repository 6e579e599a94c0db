"""Interim replies (1xx) before the one that counts: some are normal, and too many are an attack."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import RawServer, answer, ask, keep, make_caller

from nebula_async.charges import Charges
from nebula_async.config import RetryPolicy
from nebula_async.engine.interim import MOST_INTERIM, ReplyHeads
from nebula_async.errors import OutcomeUnknownError

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


def read(pieces: list[bytes]) -> tuple[int | None, int, int]:
    """Return the final status, how many interim replies came before it, and how many bytes after it."""
    heads = ReplyHeads()
    for piece in pieces:
        heads.feed(piece)
    return heads.status, heads.interim, heads.after


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return the data cut at these places."""
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


async def call(server: RawServer) -> bytes:
    """Call once and return the reply's body."""
    caller = make_caller(server.url, retry=RetryPolicy(attempts=1))
    try:
        return (await caller.call(ask(server.url), keep)).value
    finally:
        await caller.transport.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "interim",
    [[], [CONTINUE], [EARLY_HINTS], [CONTINUE, EARLY_HINTS, EARLY_HINTS], [PROCESSING] * MOST_INTERIM],
    ids=["none", "100", "103", "100, 103, 103", "16"],
)
async def test_interim_replies_are_passed_over(replies, interim):
    """A server may say that it goes on, or hint at what comes, as often as it has reason to."""
    assert b"picture" == await call(replies(b"".join(interim) + answer(200, b"picture")))


@pytest.mark.anyio
@pytest.mark.parametrize("count", [MOST_INTERIM + 1, 2000])
async def test_endless_interim_replies_are_a_protocol_error(replies, count):
    """F20: after 16 of them the server is not believed any more; what it made may have been paid for."""
    with pytest.raises(OutcomeUnknownError, match=r"more than 16 interim replies \(1xx\)") as caught:
        await call(replies(PROCESSING * count + answer(200, b"picture")))

    assert Charges(0, 1) == caught.value.charges


@pytest.mark.anyio
async def test_the_connection_of_endless_interim_replies_is_closed(serve):
    """A server that goes on and on is hung up on."""
    gone = []

    def handle(server, connection):
        server.read_request(connection)
        try:
            while True:
                connection.sendall(PROCESSING)
        except OSError:
            gone.append(True)
            raise

    server = serve(handle)
    with pytest.raises(OutcomeUnknownError, match="interim"):
        await call(server)
    assert server.gone.acquire(timeout=10)

    assert [True] == gone


@pytest.mark.anyio
async def test_each_request_has_its_own_interim_replies(serve):
    """On a connection that is kept, one request's interim replies do not count against the next one's."""

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(PROCESSING * MOST_INTERIM + answer(200, b"picture"))

    server = serve(handle)
    caller = make_caller(server.url, retry=RetryPolicy(attempts=1))
    bodies = [(await caller.call(ask(server.url), keep)).value for _ in range(3)]
    await caller.transport.aclose()

    assert ([b"picture"] * 3, 1) == (bodies, len(server.connections))


FINAL = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
    b"HTTP/1.0 404\r\n\r\n",
    b"HTTP/1.1 503 Busy\nRetry-After: 1\n\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
]


@given(
    st.lists(st.sampled_from([CONTINUE, EARLY_HINTS, PROCESSING, b"HTTP/1.1 199\nX: y\n\n"]), max_size=MOST_INTERIM),
    st.sampled_from(FINAL),
    st.binary(max_size=20),
    st.lists(st.integers(0, 2000), max_size=30),
)
def test_heads_are_read_from_any_pieces(interim, final, body, places):
    """However a reply is cut on its way, its interim replies are counted, and the final status and the size of the
    rest are the same: not one byte is lost or read twice.
    """
    data = b"".join(interim) + final + body

    assert (int(final[9:12]), len(interim), len(body)) == read(cut(data, places))


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_any_bytes_are_read_alike_in_any_pieces(data, places):
    """What is no HTTP gives the same in one piece and in many, and never an error of its own."""
    assert read([data]) == read(cut(data, places))


@pytest.mark.parametrize("head", [b"garbage\r\n\r\n", b"\r\n\r\n", b"HTTP/1.1 2\r\n\r\n", b"\x16\x03\x01\n\n"])
def test_what_is_no_http_is_left_to_others(head):
    """A first line that is no HTTP ends the reading: the HTTP library says what is wrong with it."""
    assert (0, 0, 4) == read([head + b"rest"])


def test_a_head_that_drips_takes_no_time():
    """A hundred kilobytes that come byte by byte are looked at once, not again with every byte."""
    heads = ReplyHeads()
    for _ in range(100_000):
        heads.feed(b"x")
    heads.feed(b"\n\n")

    assert 0 == heads.status


@pytest.mark.parametrize(
    ("head", "size", "states"),
    [
        (b"Content-Length: 4", 3, (False, False)),
        (b"content-length:4 ", 4, (True, False)),
        (b"CONTENT-LENGTH: 4", 5, (True, True)),
        (b"X-Content-Length: 4", 5, (False, False)),
        (b"Transfer-Encoding: chunked", 5, (False, False)),
    ],
)
def test_what_a_head_promises_is_counted(head, size, states):
    """Where a head says how long the reply is, what has come is all of it, or too much."""
    heads = ReplyHeads()
    heads.feed(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + bytes(min(size, 2)))
    heads.feed(bytes(size - 2))

    assert states == (heads.is_whole, heads.is_exceeded)
