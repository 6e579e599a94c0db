"""Replies that are meant to lead astray, to fill the memory, or to come too early."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import socket
import ssl
import tracemalloc
import zlib

import anyio
import pytest
from attrs import evolve
from broken_exchange import At, Fault, How
from chaos import chance
from invariants import CALM, check, client_of, end_of, meet
from replies import reply, with_body, with_lines

from nebula_async import (
    BadRequestError,
    Charges,
    DownloadError,
    Generation,
    InferenceRequest,
    OutcomeUnknownError,
    RateLimitError,
    RetryPolicy,
    UnusableReplyError,
)

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(attempts=1, backoff=0)
MEBIBYTE = 2**20


# Redirects


@pytest.mark.parametrize("resend_unknown", [1, 0])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host(chaos, emulator, status, resend_unknown):
    """A request that is redirected goes nowhere: it was refused, and the other host hears nothing (F33)."""
    other = chaos()
    redirect = reply(status, b"", f"Location: {other.url}/images/generation")
    proxy = chaos(then=Fault(at=At.REQUEST, say=redirect))
    ended = await meet(proxy, emulator, retry=RetryPolicy(backoff=0, resend_unknown=resend_unknown))

    assert (BadRequestError, 1, Charges(0, 0)) == (type(ended), ended.attempts, ended.charges)
    assert status == ended.status
    assert 0 == other.connections


# Early refusals

LARGE = "x" * 12 * MEBIBYTE
"""More than the buffers of two sockets hold."""

EARLY = reply(429, b'{"detail": "slow down"}')


async def refused_early(proxy, emulator):
    """Ask for a picture with a large prompt, once, and return what the call ends with."""
    async with client_of(proxy, retry=ONCE) as nebula:
        with anyio.fail_after(CALM.write):
            ended = await end_of(nebula, LARGE)
    check(ended, emulator, proxy.sends)
    return ended


@pytest.mark.parametrize("how", [How.HANG, How.READ_ON])
async def test_a_refusal_while_the_request_is_being_sent(chaos, emulator, how):
    """A server may refuse a large request before it has read it, and read no more: the refusal counts, nothing was
    charged (D10).
    """
    ended = await refused_early(chaos(then=Fault(at=At.HEAD, how=how, say=EARLY)), emulator)

    assert (RateLimitError, 1, Charges(0, 0)) == (type(ended), ended.attempts, ended.charges)
    assert "slow down" in str(ended)


async def test_a_refusal_that_a_reset_overtakes(chaos, emulator):
    """A server that refuses and hangs up without reading sends a reset, which may destroy the refusal before it is
    read: then what happened is unknown, and no other word is said (D10).
    """
    ended = await refused_early(chaos(then=Fault(at=At.HEAD, how=How.FIN, say=EARLY)), emulator)

    assert (type(ended), ended.charges) in [(RateLimitError, Charges(0, 0)), (OutcomeUnknownError, Charges(0, 1))]


async def test_a_refused_large_request_is_sent_again(chaos, emulator):
    """After such a refusal the whole request is sent once more, over a new connection, and paid for once (D10)."""
    proxy = chaos(Fault(at=At.HEAD, how=How.HANG, say=EARLY))
    async with client_of(proxy) as nebula:
        ended = await end_of(nebula, "x" * 6 * MEBIBYTE)

    check(ended, emulator, proxy.sends)
    assert (Generation, 2, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)
    assert 2 == proxy.connections


# Packed replies


def packed(data: bytes, times: int = 1) -> bytes:
    """Pack some bytes so often."""
    for _ in range(times):
        data = gzip.compress(data)
    return data


CODINGS = {
    "br": "br",
    "zstd": "zstd",
    "deflate": "deflate",
    "unknown": "snow",
    "twice": "gzip, gzip",
    "mixed": "gzip, br",
    "1000-layers": ", ".join(["gzip"] * 1000),
}


@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
async def test_a_reply_packed_as_nobody_asked(chaos, emulator, coding):
    """One layer of gzip is unpacked and nothing else: another reply was paid for, and is not sent for again (B36)."""
    layers = coding.count("gzip")
    rewrite = with_body(lambda body: packed(body, min(layers, 2)), f"Content-Encoding: {coding}")
    ended = await meet(chaos(then=Fault(rewrite=rewrite)), emulator)

    assert (UnusableReplyError, 1, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)
    assert not ended.retryable


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
async def test_a_reply_in_one_layer_of_gzip(chaos, emulator, coding):
    """A reply in gzip is read, although nobody asked for it (B36)."""
    ended = await meet(chaos(Fault(rewrite=with_body(packed, f"Content-Encoding: {coding}"))), emulator)

    assert (Generation, 1, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)


def padded(times: int):
    """Return what packs a reply so that it unpacks to so many times its size: noise that nothing packs, and blanks."""
    noise = base64.b64encode(chance(times, 1).randbytes(40_000)).decode()

    def change(body: bytes) -> bytes:
        noisy = json.dumps(json.loads(body) | {"noise": noise}).encode()
        return packed(noisy + b" " * (times * len(packed(noisy)) - len(noisy)))

    return change


@pytest.mark.parametrize(("times", "kind"), [(10, Generation), (24, UnusableReplyError)])
async def test_how_far_a_reply_may_unpack(chaos, emulator, times, kind):
    """A reply that unpacks to more than twenty times its size holds no picture, however small it is (B36)."""
    rewrite = with_body(padded(times), "Content-Encoding: gzip")
    ended = await meet(chaos(then=Fault(rewrite=rewrite)), emulator)

    assert (kind, 1, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)


@functools.cache
def bomb(mebibytes: int) -> bytes:
    """Return a small reply that unpacks to so many zeros."""
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(bytes(MEBIBYTE)) for _ in range(mebibytes)) + packer.flush()


async def test_a_bomb_is_defused(chaos, emulator):
    """An eighth of a mebibyte that unpacks to an eighth of a gibibyte takes no such room (B36)."""
    data = bomb(128)
    rewrite = with_body(lambda _body: data, "Content-Encoding: gzip")
    tracemalloc.start()
    try:
        ended = await meet(chaos(then=Fault(rewrite=rewrite)), emulator)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (UnusableReplyError, 1, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)
    assert peak < 96 * MEBIBYTE


# Lengths

LENGTHS = {"negative": "-1", "with-sign": "+5", "two": "5, 5", "1e30": "1" + "0" * 30, "hex": "0x10", "empty": ""}


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
async def test_a_length_that_is_none(chaos, emulator, length):
    """A length that is no plain number breaks the protocol: what the request came to is unknown (B37)."""
    rewrite = with_lines(f"Content-Length: {length}", length=False)
    proxy = chaos(then=Fault(rewrite=rewrite))
    ended = await meet(proxy, emulator, retry=RetryPolicy(backoff=0, resend_unknown=0))

    assert (OutcomeUnknownError, 1, Charges(0, 1)) == (type(ended), ended.attempts, ended.charges)
    assert "RemoteProtocolError" in str(ended)


async def test_a_length_is_only_a_claim(chaos, emulator):
    """A length of an exabyte is no length, and costs no memory (B37)."""
    proxy = chaos(then=Fault(rewrite=with_lines(f"Content-Length: {10**18}", length=False)))
    tracemalloc.start()
    try:
        ended = await meet(proxy, emulator)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (OutcomeUnknownError, 2, Charges(0, 2)) == (type(ended), ended.attempts, ended.charges)
    assert peak < 32 * MEBIBYTE


# Two hosts on one address


@pytest.fixture
def everything_is_here(monkeypatch) -> None:
    """Resolve every name to this machine."""
    real = socket.getaddrinfo

    def resolve(host, port, *arguments, **options):
        name = host.decode() if isinstance(host, bytes) else host
        return real("127.0.0.1" if str(name).endswith(".example") else host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.usefixtures("everything_is_here", "trusted")
@pytest.mark.nebula_live
async def test_two_hosts_on_one_address(chaos, emulator, authority):
    """A kept connection that was verified for one host is not used for another at the same address and port: that one
    has to prove its own name (D14).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("one.example", "three.example").configure_cert(context)
    proxy = chaos(upstream=f"http://{emulator.storage_host}", tls=context)
    port = proxy.place.partition(":")[2]
    names = [f"{name}.example:{port}" for name in ("one", "two", "three")]
    async with client_of(
        proxy, base_url=emulator.base_url, inference_url=emulator.inference_url, allowed_image_hosts=names
    ) as nebula:
        lake = InferenceRequest("a lake", model="dall-e-3", size="16x16")
        made = await nebula.generate(lake, download=False)
        one, two, three = (
            evolve(made.image, url=made.image.url.replace(emulator.storage_host, name)) for name in names
        )
        one, two, three = (evolve(each, url=each.url.replace("http:", "https:")) for each in (one, two, three))
        found = [await nebula.download(each) for each in (one, one, three, one)]
        with pytest.raises(DownloadError, match=r"CERTIFICATE_VERIFY_FAILED.*two\.example"):
            await nebula.with_options(timeout=0.3).download(two)

    check(made, emulator)
    assert {(16, 16)} == {(each.width, each.height) for each in found}
    assert [1, 1, 2, 1] == [act.connection for act in proxy.log if act.what == "request"]
