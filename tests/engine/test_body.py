"""A reply's body: how much of it is taken, and what it may be packed as."""

from __future__ import annotations

import gzip
import os

import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import answer, ask, keep, make_caller

from nebula_async.charges import Charges
from nebula_async.config import RetryPolicy
from nebula_async.engine.body import FREE_BYTES, MOST_RATIO, STEP_BYTES, BoundedBody
from nebula_async.engine.reading import WholeBody
from nebula_async.engine.transport import Transport
from nebula_async.errors import NebulaError, UnusableReplyError

ONCE = RetryPolicy(attempts=1)
GZIP = "Content-Encoding: gzip"
HELLO = b'{"message": "hello"}'


async def fetch(url: str) -> bytes:
    """Call once and return the reply's body."""
    caller = make_caller(url, retry=ONCE)
    done = await caller.call(ask(url), keep)
    await caller.transport.aclose()
    return done.value


async def fail(url: str) -> NebulaError:
    """Call once and return what was raised."""
    caller = make_caller(url, retry=ONCE)
    with pytest.raises(NebulaError) as caught:
        await caller.call(ask(url), keep)
    await caller.transport.aclose()
    return caught.value


def bounded(coding: str, limit: int) -> BoundedBody:
    """Return a body in this coding and within this bound, whose reader keeps what it gets."""
    return BoundedBody(coding, limit, WholeBody())


def collected(body: BoundedBody, *pieces: bytes) -> bytes:
    """Feed a body and return what its reader got; it must have no problem."""
    for piece in pieces:
        body.feed(piece)
    body.finish()
    assert not body.is_full
    return bytes(body.reader.data)


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """Return the data in pieces of that size."""
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["gzip", "x-gzip", "GZIP", " gzip "])
async def test_gzip_is_unpacked(replies, name):
    """One layer of gzip is read, although it is not asked for."""
    assert HELLO == await fetch(replies(answer(200, gzip.compress(HELLO), f"Content-Encoding: {name}")).url)


@pytest.mark.anyio
async def test_identity_is_no_packing(replies):
    """A reply that says it is not packed is read as it is."""
    assert HELLO == await fetch(replies(answer(200, HELLO, "Content-Encoding: identity")).url)


@pytest.mark.anyio
async def test_a_gzip_bomb_is_stopped(replies):
    """B36: a small reply that unpacks to gigabytes is stopped, and was paid for."""
    error = await fail(replies(answer(200, gzip.compress(bytes(2**26), 1), GZIP)).url)

    assert (UnusableReplyError, Charges(1, 1)) == (type(error), error.charges)
    assert "more than 20 times its size" in str(error)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "lines",
    [
        ("br",),
        ("zstd",),
        ("deflate",),
        ("gzip, gzip",),
        ("gzip,identity",),
        ("gzip", "gzip"),
        (", ".join(["gzip"] * 1000),),
    ],
    ids=["br", "zstd", "deflate", "two layers", "with identity", "two headers", "1000 layers"],
)
async def test_other_codings_are_refused(replies, lines):
    """B36: what nobody asked for is not unpacked, nor is more than one layer; it was paid for all the same."""
    headers = [f"Content-Encoding: {line}" for line in lines]
    error = await fail(replies(answer(200, gzip.compress(HELLO), *headers)).url)

    assert (UnusableReplyError, Charges(1, 1), False) == (type(error), error.charges, error.retryable)


@pytest.mark.anyio
async def test_what_only_says_that_it_is_gzip_is_refused(replies):
    """A reply whose label lies is unusable, and an error whose label lies keeps its status."""
    assert UnusableReplyError is type(await fail(replies(answer(200, b"plain", GZIP)).url))
    assert 400 == (await fail(replies(answer(400, b"plain", GZIP)).url)).status


@pytest.mark.anyio
async def test_gzip_that_ends_too_early_is_refused(replies):
    """A packed reply that is as long as it says and stops before the packing does is unusable, not silently short."""
    packed = gzip.compress(HELLO)
    for end in (1, 9, len(packed) // 2, len(packed) - 1):
        error = await fail(replies(answer(200, packed[:end], GZIP)).url)
        assert (UnusableReplyError, Charges(1, 1)) == (type(error), error.charges)
        assert "gzip that ends too early" in str(error)


@pytest.mark.anyio
async def test_an_error_that_ends_too_early_is_one_that_broke_off(replies):
    """A packed page of a gateway that is not whole proves nothing, though the connection brought all it promised."""
    page = gzip.compress(b"<html>Bad Gateway</html>")

    assert Charges(0, 0) == (await fail(replies(answer(502, page, GZIP)).url)).charges
    assert Charges(0, 1) == (await fail(replies(answer(502, page[:-1], GZIP)).url)).charges


@pytest.mark.anyio
async def test_packed_replies_can_be_asked_for(serve):
    """With `accept_gzip` the request says so, and the reply is unpacked; by default it asks for plain ones."""

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer(200, gzip.compress(HELLO), GZIP))

    server = serve(handle)
    caller = make_caller(server.url)
    plain = caller.transport
    for transport in (plain, Transport(plain.credentials, accept_gzip=True)):
        caller.transport = transport
        assert HELLO == (await caller.call(ask(server.url), keep)).value
        await transport.aclose()

    assert [b"identity", b"gzip"] == [
        request.partition(b"\r\nAccept-Encoding: ")[2].partition(b"\r\n")[0] for request in server.requests
    ]


def test_what_follows_the_end_of_gzip_is_bounded():
    """Bytes after the end of the packed data are no part of it, and cannot go on for ever."""
    body = bounded("gzip", 1000)
    assert b"picture" == collected(body, gzip.compress(b"picture"), b"junk")

    for _ in range(100):
        body.feed(bytes(10))
    assert (b"picture", "the reply is larger than 1000 bytes") == (body.reader.data, body.problem)


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_a_body_may_be_exactly_as_large_as_its_bound(coding):
    """The bound itself is allowed, one byte more is not, in one piece or in many."""
    for size in (1000, 1001, 5000):
        packed = gzip.compress(bytes(size)) if coding else bytes(size)
        whole, pieces = bounded(coding, 1000), bounded(coding, 1000)
        whole.feed(packed)
        for piece in in_pieces(packed, 1):
            pieces.feed(piece)

        assert [size > 1000] * 2 == [body.problem is not None for body in (whole, pieces)]
        assert [bytes(1000)] * 2 == [body.reader.data for body in (whole, pieces)]


def test_a_small_body_may_unpack_to_anything():
    """Up to 64 KiB no ratio counts: an empty list of a thousand lines is no bomb."""
    assert bytes(FREE_BYTES) == collected(bounded("gzip", 2**20), gzip.compress(bytes(FREE_BYTES)))


@pytest.mark.parametrize("size", [1, 1000, 65_536, 2**30])
def test_no_more_is_unpacked_than_belongs_to_what_came(size):
    """A bomb is stopped at 20 times what came, and what is unpacked by then is less than one step more."""
    body = bounded("gzip", 2**30)
    came = 0
    for piece in in_pieces(gzip.compress(bytes(2**26)), size):
        came += len(piece)
        body.feed(piece)
        if body.problem:
            break

    assert "the reply unpacks to more than 20 times its size" == body.problem
    assert len(body.reader.data) <= MOST_RATIO * came + FREE_BYTES + STEP_BYTES


def test_base64_is_far_from_the_ratio():
    """Pictures in base64, which pack to three quarters, are unpacked whole, in pieces of any size."""
    text = pybase64.b64encode(os.urandom(STEP_BYTES * 2))
    packed = gzip.compress(text)
    for size in (4096, 65_536, len(packed)):
        assert text == collected(bounded("gzip", 2**30), *in_pieces(packed, size))


@pytest.mark.parametrize("size", [STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 2 * STEP_BYTES])
def test_a_body_of_whole_steps_is_whole(size):
    """Where the last step of the unpacking is a full one, the end of the packing is still found."""
    data = os.urandom(size)
    assert data == collected(bounded("gzip", 2**30), gzip.compress(data))


@given(st.binary(max_size=2000), st.integers(1, 9), st.integers(1, 100))
def test_what_was_packed_comes_out(data, level, size):
    """Whatever is packed at whichever level, and arrives in pieces of whichever size, is unpacked to the same."""
    assert data == collected(bounded("gzip", 2**20), *in_pieces(gzip.compress(data, level), size))


@given(st.binary(min_size=1, max_size=500), st.integers(0, 600))
def test_no_cut_of_gzip_passes_for_whole(data, end):
    """Wherever packed data is cut, the body says that something is missing; nothing at all is an empty body."""
    packed = gzip.compress(data)[:-1][:end]
    body = bounded("gzip", 2**20)
    body.feed(packed)
    if packed:
        with pytest.raises(UnusableReplyError, match="ends too early"):
            body.finish()
    else:
        body.finish()
