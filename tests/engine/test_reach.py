"""The steps of the way to a server, one by one, and work that may be left alone."""

from __future__ import annotations

import socket
import threading
from contextlib import closing

import anyio
import pytest

from nebula_async.engine.abandon import abandonable
from nebula_async.engine.proxy import Proxy
from nebula_async.engine.reach import address_of, ask_for_tunnel, connect, find_addresses, hang_up, speak_tls
from nebula_async.engine.tls import tls_context

pytestmark = pytest.mark.anyio

PROXY = Proxy("127.0.0.1", 3128)


async def test_work_beside_the_loop():
    """What the work returns comes back, and what it raises is raised."""
    assert 3 == await abandonable(len, "abc")
    with pytest.raises(ZeroDivisionError):
        await abandonable(lambda: 1 / 0)


async def test_work_that_never_ends_is_left_alone():
    """Cancellation leaves the work behind at once, and its end later disturbs nobody."""
    begun, ended, is_over = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        ended.wait()
        is_over.set()

    with anyio.move_on_after(0.05) as scope:
        await abandonable(work)
    assert scope.cancelled_caught
    assert begun.is_set()
    ended.set()
    assert is_over.wait(5)
    assert 1 == await abandonable(lambda: 1)


async def test_addresses_of_a_name():
    """A name is looked up, an address stays what it is, and a name that does not exist is an error of the system."""
    assert {"127.0.0.1", "::1"} & set(await find_addresses("localhost", 80))
    assert ["192.0.2.7"] == await find_addresses("192.0.2.7", 80)
    with pytest.raises(OSError, match=r"Name or service|not known|nodename"):
        await find_addresses("api.nebula.invalid", 443)


async def test_the_address_that_answers():
    """An address that refuses does not keep the next one from being tried."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        stream = await connect(["127.0.0.2", "127.0.0.1"], listener.getsockname()[1])
        assert "127.0.0.1" == address_of(stream)
        await hang_up(stream)


async def test_no_address_that_answers():
    """Where nobody listens that is an error of the system."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="connection attempts failed"):
        await connect(["127.0.0.1"], port)


def port_of(server) -> int:
    """Return the port of a server of raw bytes."""
    return int(server.url.rpartition(":")[2])


ANSWERS = {
    "a tunnel": (b"HTTP/1.1 200 OK\r\n\r\n", 200),
    "a refusal": (b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", 407),
    "nothing": (b"", ConnectionError),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", ValueError),
    "without end": (b"x" * 100_000, ValueError),
}


@pytest.mark.parametrize(("answer", "outcome"), ANSWERS.values(), ids=ANSWERS)
async def test_what_a_proxy_answers(serve, answer, outcome):
    """A proxy's answer is its status; whatever else comes is no proxy's."""

    def handle(server, connection):
        server.read_request(connection)
        connection.sendall(answer)

    server = serve(handle)
    stream = await connect(["127.0.0.1"], port_of(server))
    try:
        if isinstance(outcome, int):
            assert outcome == await ask_for_tunnel(stream, PROXY, "api.nebula.test", 443)
        else:
            with pytest.raises(outcome):
                await ask_for_tunnel(stream, PROXY, "api.nebula.test", 443)
    finally:
        await hang_up(stream)
    assert server.requests[0].startswith(b"CONNECT api.nebula.test:443 HTTP/1.1\r\n")


@pytest.mark.usefixtures("trusted")
async def test_tls_that_is_trusted(serve, certified):
    """TLS is spoken with a server that proves its name; its version and the certificate's end are told."""
    server = serve(lambda server, connection: server.read_request(connection), certified)
    stream, agreed = await speak_tls(await connect(["127.0.0.1"], port_of(server)), "localhost", tls_context())
    await hang_up(stream)

    assert "TLSv1.3" == agreed.version
    assert agreed.expires_at > 0
