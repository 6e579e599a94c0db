"""A URL that a server gave us, against a resolver in the hands of whoever wants to reach machines near us."""

from __future__ import annotations

import itertools
import socket
from random import Random

import pytest
from echoing import PNG, echoing, says

from nebula_async.config import Config, RetryPolicy, Timeouts
from nebula_async.engine.download import Downloader
from nebula_async.engine.reading import WholeReply
from nebula_async.errors import DownloadError

pytestmark = pytest.mark.asyncio

QUICK = Config(retry=RetryPolicy(backoff=0), timeouts=Timeouts(connect=1, write=1, read=1, attempt=2, total=5))
PUBLIC, HERE = "8.8.8.8", "127.0.0.1"

NEAR = {
    "mapped": "[::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:7f00:1] [::ffff:a9fe:a9fe]",
    "NAT64": "[64:ff9b::7f00:1] [64:ff9b::127.0.0.1] [64:ff9b:1::7f00:1]",
    "6to4": "[2002:7f00:1::] [2002:7f00:0001::1] [2002:a9fe:a9fe::]",
    "Teredo": "[2001:0:7f00:1::] [2001::1]",
    "compatible": "[::127.0.0.1] [::7f00:1] [::]",
    "decimal": "2130706433 0 1 4294967295 2852039166",
    "hexadecimal": "0x7f000001 0x7f.0x0.0x0.0x1 0x7f.1 0x0 0x7F000001 0xa9fea9fe",
    "octal": "0177.0.0.1 017700000001 0177.1 00000177.0.0.01 0251.0376.0251.0376",
    "short": "127.1 127.0.1 10.1 192.168.1 0.0.0.0 127.255.255.254",
    "a dot at the end": "127.0.0.1. localhost. localhost.. 2130706433. [::1].",
    "names": "localhost LocalHost ip6-localhost localhost.localdomain",
    "user names": "8.8.8.8@127.0.0.1 pictures.example:443@127.0.0.1 127.0.0.1%2f@8.8.8.8 a:b@localhost @127.0.0.1",
    "mixed up": "127.0.0.1%00.example 127。0。0。1 ①②⑦.⓪.⓪.① 127.0.0.1#@8.8.8.8 127.0.0.1\\@8.8.8.8",
    "zones": "[fe80::1%25lo] [fe80::1%lo] [::1%25lo]",
    "near": "169.254.169.254 10.0.0.1 192.168.0.1 172.16.0.1 100.64.0.1 224.0.0.1 255.255.255.255 [fec0::1] [fd00::1]",
}


async def _whole(reply) -> bytes:
    return reply.body


def reader() -> WholeReply[bytes]:
    """Read whatever comes."""
    return WholeReply(_whole)


@pytest.fixture
def connected(monkeypatch):
    """Where sockets of this process would connect to; no connection leaves this machine."""
    places, real = [], socket.socket.connect

    def connect(one, address):
        places.append(address[:2])
        if address[0] == HERE:
            return real(one, address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return places


@pytest.fixture
def answers(monkeypatch):
    """What the resolver says of names that end in `.example`, in turn, and how often it was asked."""
    real, given, asked = socket.getaddrinfo, [], []

    def resolve(host, port, *arguments, **options):
        name = host.decode() if isinstance(host, bytes) else host
        flags = options.get("flags", arguments[3] if len(arguments) > 3 else 0)
        if not str(name).endswith(".example") or flags & socket.AI_NUMERICHOST:
            return real(host, port, *arguments, **options)
        asked.append(name)
        found = given[min(len(asked), len(given)) - 1]
        return [entry for address in found for entry in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return given, asked


async def fetch(*urls: str, allowed: tuple[str, ...] = ()) -> list[DownloadError | bytes]:
    """Fetch URLs, and return what came of each."""
    downloader, ended = Downloader(frozenset(allowed), Random(7)), []  # noqa: S311 - waits
    for url in urls:
        try:
            ended.append(await downloader.fetch(url, reader, QUICK, seconds=2, most_tries=2))
        except DownloadError as error:
            ended.append(error)
    await downloader.aclose()
    return ended


@pytest.mark.parametrize("kind", NEAR)
async def test_no_spelling_of_a_near_host_is_connected_to(kind, connected):
    """However a host near us is written, nothing connects: not to it, nor to what another reader would make of it."""
    ended = await fetch(*(f"https://{host}{port}/x.png" for host in NEAR[kind].split() for port in ("", ":1")))
    assert {DownloadError} == {type(each) for each in ended}
    assert [] == connected


LOOKS = [([PUBLIC], then) for then in ([HERE], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["64:ff9b::7f00:1"])]
LOOKS += [(first, [HERE]) for first in (["2606:4700::1"], [PUBLIC, HERE], [HERE, PUBLIC])]


@pytest.mark.parametrize(("first", "then"), LOOKS, ids=str)
async def test_a_resolver_that_changes_its_mind_leads_nowhere(first, then, connected, answers):
    """Where a name is public when it is checked and near when it is asked for again, only checked addresses are ever
    connected to: each connection asks once, checks what it was told, and goes there.
    """
    given, asked = answers
    given[:] = [first, then]
    (error,) = await fetch("https://pictures.example:1/x.png")

    public = {address for address in first if address in (PUBLIC, "2606:4700::1")}
    assert isinstance(error, DownloadError)
    assert public == {host for host, _ in connected}
    assert 2 == len(asked), "once for each of two tries: the second is refused for good"
    assert not error.retryable


@pytest.mark.parametrize("hops", [1, 2, 3])
async def test_a_redirect_is_checked_like_the_first_url(hops, connected, answers):
    """Behind any number of redirects a name that leads near us is refused, though the first host was allowed."""
    given, asked = answers
    given[:] = [[HERE]]
    count = itertools.count(1)

    def script(_target: str) -> bytes:
        at = next(count)
        return says(302, b"", f"Location: {'/again' if at < hops else 'https://inner.example:1/latest/meta-data'}")

    with echoing(script) as server:
        place = server.place
        (error,) = await fetch(f"http://{place}/x.png", allowed=(place,))
    assert isinstance(error, DownloadError)
    assert "not public" in str(error)
    assert [place] == sorted({f"{host}:{port}" for host, port in connected})
    assert ["inner.example"] == asked


async def test_an_allowed_host_is_fetched_from(connected):
    """The same way leads to a picture where the host is one that the user allows."""
    with echoing(lambda _: says(200, PNG)) as server:
        assert [PNG] == await fetch(f"http://{server.place}/x.png", allowed=(server.place,))
    assert 1 == len(connected)
