"""The proxy does what its script says, where it says, and the same at each run."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
from broken_exchange import At, Fault, How, Slices, bandwidth
from chaos import ChaosProxy, by_chance, chance, in_turn, is_whole
from replies import reply

BODY = b'{"prompt": "x"}'
REQUEST = b"POST /api/v1/images/generation HTTP/1.1\r\nHost: here\r\nContent-Length: 15\r\n\r\n" + BODY
HELLO = reply(200, b"hello")


def connect(proxy: ChaosProxy) -> socket.socket:
    """Return a connection to a proxy."""
    host, _, port = proxy.place.partition(":")
    return socket.create_connection((host, int(port)), timeout=5)


def ask(proxy: ChaosProxy, data: bytes = REQUEST) -> bytes:
    """Send some bytes and return all that comes until the end of the connection."""
    with connect(proxy) as client:
        client.sendall(data)
        with contextlib.suppress(OSError):  # it may be over already
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def read(client: socket.socket) -> bytes:
    """Return one reply."""
    data = b""
    while not is_whole(data):
        data += client.recv(65536)
    return data


def test_exchanges_pass_unchanged(chaos, emulator):
    """Without a fault requests and replies pass as they are, one after the other over one connection."""
    proxy = chaos()
    with connect(proxy) as client:
        for _ in range(2):
            client.sendall(REQUEST)
            assert read(client).startswith(b"HTTP/1.1 401 ")
        client.shutdown(socket.SHUT_WR)
        assert b"" == client.recv(1)

    assert proxy.wait_for("closed")
    assert ["request", "request", "client closed", "closed"] == proxy.acts
    assert 2 == len(emulator.journal.generations)


@pytest.mark.parametrize("at", list(At))
def test_a_reset_is_a_reset(chaos, emulator, at):
    """A connection that is to be reset ends with an error, at whatever point."""
    proxy = chaos(Fault(at=at, how=How.RESET))
    with pytest.raises(ConnectionResetError):
        ask(proxy)

    assert proxy.wait_for(f"RESET at {at.name}")
    assert (at >= At.REPLY) == (1 == len(emulator.journal.generations))


@pytest.mark.parametrize("at", [point for point in At if point >= At.REQUEST])
def test_a_fin_is_in_order(chaos, emulator, at):
    """A connection that is to end in order does, after what was to be sent."""
    proxy = chaos(Fault(at=at, how=How.FIN))
    head, blank, body = ask(proxy).partition(b"\r\n\r\n")

    assert (at > At.REPLY, at >= At.HEADERS, at >= At.IN_BODY) == (bool(head), bool(blank), bool(body))
    assert f"FIN at {at.name}" in proxy.acts


def test_what_is_said_instead(chaos, emulator):
    """A proxy may answer itself, and take the next request over the same connection; the upstream sees nothing."""
    proxy = chaos(Fault(at=At.REQUEST, say=HELLO), Fault(at=At.REQUEST, say=b"bye", how=How.FIN))

    with connect(proxy) as client:
        for said in (HELLO, b"bye"):
            client.sendall(REQUEST)
            assert said == client.recv(65536)
        assert b"" == client.recv(1)
    assert (2, 1) == (proxy.sends, proxy.connections)
    assert () == emulator.journal.requests


@pytest.mark.parametrize("how", [How.HANG, How.READ_ON])
def test_a_hang_ends_with_the_test(chaos, how):
    """A connection that hangs is open until its client closes it, which is how a forgotten one is found."""
    proxy = chaos(Fault(at=At.HEAD, how=how))
    with connect(proxy) as client:
        client.sendall(REQUEST)
        assert proxy.wait_for(f"{how.name} at HEAD")
        assert not proxy.settle(0.05)
    assert proxy.settle()


SLOW = {
    "latency": Fault(latency=0.2),
    "slow-close": Fault(at=At.END, how=How.FIN, slow_close=0.2),
    "bandwidth": Fault(rewrite=lambda head, _body: head + bytes(2000), body=bandwidth(10_000)),
    "slices": Fault(rewrite=lambda head, _body: head + bytes(20), body=Slices(1, 0.01)),
}


@pytest.mark.parametrize("fault", SLOW.values(), ids=SLOW)
def test_slow_lines(chaos, emulator, fault):
    """Latency, a late end, a narrow line and single bytes take the time that they are to take."""
    proxy, begun = chaos(then=fault), time.monotonic()
    ask(proxy)

    assert 0.2 <= time.monotonic() - begun < 2


def test_drawn_slices_are_the_same_at_each_run():
    """What is drawn for an exchange follows from the seed and its number alone."""
    data = bytes(range(200))
    runs = [list(Slices(9, 0.0, is_drawn=True).cut(data, chance(seed, 1))) for seed in (3, 3, 4)]

    assert runs[0] == runs[1] != runs[2]
    assert [data] * 3 == [b"".join(pieces) for pieces in runs]
    assert {*range(1, 10)} >= {len(piece) for piece in runs[0]}


def test_chance_is_the_same_at_each_run():
    """So many exchanges meet a fault as are to, the same ones with the same faults at each run."""
    faults = tuple(Fault(latency=number) for number in (1, 2, 3))
    runs = [[script(number) for number in range(1, 1001)] for script in (by_chance(7, 0.3, *faults) for _ in range(2))]

    assert runs[0] == runs[1]
    assert all(fault in runs[0] for fault in (*faults, Fault()))
    assert 250 < sum(fault != Fault() for fault in runs[0]) < 350


def test_faults_in_turn():
    """A script of faults gives each exchange its own, and the rest what comes then."""
    first, second, rest = (Fault(latency=number) for number in (1, 2, 3))
    script = in_turn(first, second, then=rest)

    assert [first, second, rest, rest] == [script(number) for number in range(1, 5)]
