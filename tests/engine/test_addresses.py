"""A URL that a server gave us leads to the public internet, or nowhere: no machine near us is ever connected to."""

from __future__ import annotations

import socket
import ssl

import anyio
import httpx
import pytest
from wire import QUICK, RawServer, a_picture, answer, closed_url, place, seeded, undelivered

from nebula_async.engine.addresses import is_public, public_addresses
from nebula_async.engine.connections import ConnectionStack
from nebula_async.engine.download import Downloader
from nebula_async.errors import DownloadError

NEAR = {
    "this network": "0.0.0.0 0.1.2.3",
    "private": "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 fc00::1 fd12:3456:789a::1",
    "carrier-grade NAT": "100.64.0.1 100.127.255.255",
    "loopback": "127.0.0.1 127.1.2.3 127.255.255.255 ::1",
    "link-local": "169.254.0.1 169.254.169.254 fe80::1 febf::1 fe80::1%eth0 fe80::1%1",
    "protocol assignments": "192.0.0.0 192.0.0.1 192.0.0.9 192.0.0.170 192.0.0.255",
    "documentation": "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1",
    "benchmarking": "198.18.0.1 198.19.255.255 2001:2::1",
    "multicast": "224.0.0.1 224.0.1.1 239.255.255.255 ff02::1 ff0e::1 ff05::2%eth0",
    "reserved": "240.0.0.1 255.255.255.254 255.255.255.255 :: 64:ff9a::1 4000::1 5f00::1 8000::1 e000::1",
    "site-local": "fec0::1 feff::1",
    "discard": "100::1",
    "NAT64": "64:ff9b::7f00:1 64:ff9b::127.0.0.1 64:ff9b::8.8.8.8 64:ff9b:1::1 64:ff9b:1:ffff::a00:1",
    "6to4": "2002::1 2002:7f00:1::1 2002:a00:1:: 2002:808:808::1",
    "Teredo": "2001::1 2001:0:808:808::1 2001:0:ffff:ffff:ffff:ffff:ffff:ffff",
    "mapped": "::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:100.64.0.1 ::ffff:e000:1",
    "compatible": "::127.0.0.1 ::7f00:1 ::8.8.8.8",
    "translated": "::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8",
}

PUBLIC = (
    "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 169.253.255.255 "
    "172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 223.255.255.255 "
    "2606:4700:4700::1111 2001:4860:4860::8888 2003::1 2a00:1450:4001::1 2400::1 "
    "::ffff:8.8.8.8 ::ffff:808:808 ::ffff:101:101"
)  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in NEAR.items() for text in texts.split()])
def test_near_addresses_are_not_public(kind, text):
    """An address of this machine, of a network near it, or of no host at all is not public, however it is written."""
    assert not is_public(text)


@pytest.mark.parametrize("text", PUBLIC.split())
def test_public_addresses_are_public(text):
    """Addresses of the internet are public, right up to the edges of those that are not."""
    assert is_public(text)


HERE = (
    "localhost",
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host", [*HERE, "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1", "0", "10.1", "fe80::1"]
)
async def test_a_host_near_us_has_no_public_address(host):
    """A host that resolves to a machine near us is refused by name, however its address is spelled."""
    with pytest.raises(PermissionError, match="leads to an address that is not public") as caught:
        await public_addresses(host, 443)
    assert host in str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
async def test_a_public_address_is_its_own(host):
    """An address of the internet is returned as one that may be connected to."""
    assert [host] == await public_addresses(host, 443)


@pytest.mark.anyio
async def test_an_unknown_host_is_an_error():
    """A host that does not exist has no addresses, which is an `OSError` like any other failure of the network."""
    with pytest.raises(socket.gaierror):
        await public_addresses("pictures.invalid", 443)


def resolver(*answers: list[str]):
    """Return a `getaddrinfo` that answers "pictures.example" in turn, the last one for ever, and what it was asked."""
    real, left, asked = socket.getaddrinfo, list(answers), []

    def resolve(host, port, *arguments, **options):
        name = host.decode() if isinstance(host, bytes) else host
        flags = options.get("flags", arguments[3] if len(arguments) > 3 else 0)
        if name != "pictures.example" or flags & socket.AI_NUMERICHOST:
            return real(host, port, *arguments, **options)
        asked.append(name)
        found = left.pop(0) if len(left) > 1 else left[0]
        return [entry for address in found for entry in real(address, port, type=socket.SOCK_STREAM)]

    return resolve, asked


@pytest.mark.anyio
@pytest.mark.parametrize("addresses", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["2606:4700::1", "::1"]])
async def test_a_near_address_of_a_host_is_left_out(monkeypatch, addresses):
    """Of a host with a public address and a near one, only the public one is connected to."""
    resolve, _ = resolver(addresses)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert [address for address in addresses if is_public(address)] == await public_addresses("pictures.example", 443)


@pytest.mark.anyio
async def test_a_host_without_a_public_address_is_refused(monkeypatch):
    """A host all of whose addresses are near is not connected to."""
    resolve, _ = resolver(["127.0.0.1", "::1", "10.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(PermissionError, match="leads to an address that is not public"):
        await public_addresses("pictures.example", 443)


@pytest.mark.anyio
async def test_all_addresses_of_a_host_are_returned(monkeypatch):
    """Of a host with several public addresses each may be tried, in the order of the resolver."""
    resolve, asked = resolver(["8.8.4.4", "2606:4700::1", "8.8.8.8"])
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert ["8.8.4.4", "2606:4700::1", "8.8.8.8"] == await public_addresses("pictures.example", 443)
    assert ["pictures.example"] == asked


@pytest.mark.anyio
async def test_this_machine_is_never_connected_to(serve):
    """A URL to this machine, however it is spelled, is refused at once and for good: nothing connects to it (B40)."""
    server = serve(RawServer.read_request)
    port = server.url.rpartition(":")[2]
    hosts = [*HERE, "0", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "LOCALHOST"]
    errors = {host: await undelivered(f"https://{host}:{port}/1.png") for host in hosts}

    assert [] == [host for host, error in errors.items() if error.retryable]
    assert [] == server.connections


@pytest.mark.anyio
async def test_an_allowed_host_is_allowed_at_its_port_alone(serve):
    """What `allowed_image_hosts` names is one port of one host: any other port of it is refused as before."""
    server, other = serve(RawServer.read_request), serve(RawServer.read_request)
    error = await undelivered(f"https://{other.url.removeprefix('http://')}/", place(server))

    assert not error.retryable
    assert "not public" in str(error)
    assert [] == server.connections + other.connections


@pytest.mark.anyio
async def test_what_was_checked_is_what_is_connected_to(serve, monkeypatch):
    """A resolver that names a public address first and this machine next gets nobody here: each look is checked, and
    nothing but a checked address is connected to.
    """
    server, connected = serve(RawServer.read_request), []
    port = int(server.url.rpartition(":")[2])
    resolve, asked = resolver(["8.8.8.8"], ["127.0.0.1"])

    def connect(_socket, address):
        connected.append(address[:2])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    error = await undelivered(f"https://pictures.example:{port}/")

    assert [("8.8.8.8", port)] == connected
    assert ["pictures.example"] * 2 == asked
    assert not error.retryable
    assert [] == server.connections


# A stack that is told the addresses


async def ask(stack: ConnectionStack, url: str) -> tuple[int, bytes]:
    """Send a request over a stack and return its reply."""
    extensions = {"timeout": {"connect": 1, "read": 2, "write": 2}}
    response = await stack.handle_async_request(httpx.Request("GET", url, extensions=extensions))
    body = await response.aread()
    await response.aclose()
    return response.status_code, body


def finder(*addresses: str):
    """Return what finds these addresses, and a list of what it was asked."""
    asked = []

    async def find(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return list(addresses)

    return find, asked


@pytest.mark.anyio
async def test_only_the_given_address_is_connected_to(replies, monkeypatch):
    """A stack that is told where a host is asks no resolver, and the host's name stays in the request."""
    server = replies(answer(200, b"here"), answer(200, b"again"))
    port = int(server.url.rpartition(":")[2])
    find, asked = finder("127.0.0.1")
    resolve, looked_up = resolver(["8.8.8.8"])
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with ConnectionStack(find_addresses=find) as stack:
        bodies = [await ask(stack, f"http://pictures.example:{port}/x") for _ in range(2)]

    assert [(200, b"here"), (200, b"again")] == bodies
    assert [("pictures.example", port)] == asked
    assert [] == looked_up
    assert all(f"Host: pictures.example:{port}".encode() in request for request in server.requests)
    assert 1 == len(server.connections)


@pytest.mark.anyio
async def test_addresses_are_tried_in_turn(replies):
    """Where nothing listens at the first address of a host, the next one is tried."""
    server = replies(answer(200, b"here"))
    port = int(server.url.rpartition(":")[2])
    find, _ = finder("127.0.0.2", "127.0.0.3", "127.0.0.1")
    async with ConnectionStack(find_addresses=find) as stack:
        assert (200, b"here") == await ask(stack, f"http://pictures.example:{port}/")


@pytest.mark.anyio
async def test_the_last_address_says_what_is_wrong():
    """Where nothing listens at any address of a host, that is the error, as with a single one."""
    find, asked = finder("127.0.0.1", "127.0.0.1")
    async with ConnectionStack(find_addresses=find) as stack:
        with pytest.raises(Exception, match=r"attempts failed|refused|Connect call failed"):
            await ask(stack, f"{closed_url()}/")
    assert 1 == len(asked)


@pytest.mark.anyio
async def test_two_hosts_on_one_address_are_verified_apart(serve, authority):
    """Two names of one address have a connection each: one that was verified for the first is never used for the other,
    and a server that can only prove the first gets no request for the second (D14).
    """
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("one.example", "three.example").configure_cert(context)
    authority.configure_trust(trusting)

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer(200, b"picture"))

    server = serve(handle, tls=context)
    port = server.url.rpartition(":")[2]
    find, asked = finder("127.0.0.1")
    stack = ConnectionStack(make_tls_context=lambda: trusting, find_addresses=find)
    downloader = Downloader(frozenset(), seeded(7), custom=stack)
    found = [
        await downloader.fetch(f"https://{name}.example:{port}/", a_picture, QUICK, seconds=5)
        for name in ("one", "one", "three")
    ]
    with pytest.raises(DownloadError, match=r"CERTIFICATE_VERIFY_FAILED.*two\.example"):
        await downloader.fetch(f"https://two.example:{port}/", a_picture, QUICK, seconds=0.5)
    await stack.aclose()

    assert [b"picture"] * 3 == found
    assert ["one.example", "three.example", "two.example"] == list(dict.fromkeys(host for host, _ in asked))
    hosts = [line for request in server.requests for line in request.split(b"\r\n") if line.startswith(b"Host:")]
    assert [f"Host: {name}.example:{port}".encode() for name in ("one", "one", "three")] == hosts


@pytest.mark.anyio
async def test_the_name_is_what_a_certificate_must_prove(serve, authority, certified):
    """A certificate for the address is none for the host that is behind it."""
    server = serve(RawServer.read_request, tls=certified)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trusting)
    find, _ = finder("127.0.0.1")
    async with ConnectionStack(make_tls_context=lambda: trusting, find_addresses=find) as stack:
        with anyio.fail_after(5), pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(stack, f"https://pictures.example:{server.url.rpartition(':')[2]}/")

    assert [] == server.requests
