"""Connections that cannot be made, and those that end between two requests."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import anyio.to_thread
import pytest
from attrs import evolve
from broken_exchange import NO_FAULT, At, Fault, How
from certificates import speaks_tls
from invariants import CALM, SMALL, check, check_all, client_of, end_of, meet
from places import deaf
from replies import reply

from nebula_async import Charges, Generation, NotSentError, RetryPolicy, Timeouts
from nebula_async.events import Sent

pytestmark = pytest.mark.anyio


def assert_not_sent(ended, emulator, attempts: int) -> None:
    """Check that nothing left, so often as the call was tried; what is not sent nobody can count."""
    check(ended, emulator, sends=ended.attempts)
    assert (NotSentError, attempts, Charges(0, 0)) == (type(ended), ended.attempts, ended.charges)
    assert () == emulator.journal.requests


async def test_a_closed_port(chaos, emulator):
    """Where nothing listens a call is tried as often as its policy says, and costs nothing (F1)."""
    proxy = chaos()
    proxy.close()
    async with client_of(proxy) as nebula:
        ended = await end_of(nebula)

    assert_not_sent(ended, emulator, attempts=3)
    assert ended.retryable
    assert proxy.place in str(ended)


async def test_an_outage_is_not_stormed(chaos, emulator):
    """Two hundred calls against a closed port try no more than two hundred and ten times in all (F1)."""
    proxy, events = chaos(), []
    proxy.close()
    async with client_of(proxy, observer=events.append) as nebula:
        ends = await nebula.generate_all([f"cat {number}" for number in range(200)], **SMALL)

    attempts = sum(isinstance(event, Sent) for event in events)
    check_all(ends, emulator, sends=attempts)
    assert {NotSentError} == {type(ended.error) for ended in ends}
    assert 200 <= attempts <= 210


@pytest.mark.nebula_live
async def test_an_unknown_host(chaos, emulator):
    """A host that has no address is named; nothing is sent (F2)."""
    async with client_of(chaos(), base_url="https://api.nebula.invalid/api/v1") as nebula:
        ended = await end_of(nebula)

    assert_not_sent(ended, emulator, attempts=3)
    assert "api.nebula.invalid" in str(ended)


@pytest.fixture
def deaf_url() -> Iterator[str]:
    """Where a connection gets no answer at all."""
    with deaf() as port:
        yield f"http://127.0.0.1:{port}"


async def test_an_address_that_does_not_answer(chaos, emulator, deaf_url):
    """A connection that is not made in time is given up; nothing is sent (F3)."""
    begun = anyio.current_time()
    timeout = evolve(CALM, connect=0.2)
    async with client_of(chaos(), base_url=deaf_url, timeout=timeout) as nebula:
        ended = await end_of(nebula)

    assert_not_sent(ended, emulator, attempts=3)
    assert "ConnectTimeout" in str(ended)
    assert 3 * timeout.connect <= anyio.current_time() - begun < 3 * timeout.connect + 2
    assert 10 == Timeouts().connect


# TLS (F4)


@pytest.mark.usefixtures("trusted")
async def test_a_server_that_proves_its_name(chaos, emulator, authority):
    """Over TLS a server with a good certificate is asked like any other."""
    ended = await meet(chaos(tls=speaks_tls(authority, "127.0.0.1")), emulator)

    assert (Generation, 1, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)


BAD_CERTIFICATES = {
    "wrong-host": (["api.example"], 1, "IP address mismatch"),
    "expired": (["127.0.0.1"], -1, "certificate has expired"),
}


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(("names", "days", "reason"), BAD_CERTIFICATES.values(), ids=BAD_CERTIFICATES)
async def test_a_bad_certificate(chaos, emulator, authority, names, days, reason):
    """A server that cannot prove its name gets no byte of the request, and is not asked again (F4)."""
    proxy = chaos(tls=speaks_tls(authority, *names, days=days))
    async with client_of(proxy) as nebula:
        ended = await end_of(nebula)

    assert_not_sent(ended, emulator, attempts=1)
    assert reason in str(ended)
    assert not ended.retryable
    assert (1, 0) == (proxy.connections, proxy.sends)


async def test_an_unknown_authority(chaos, emulator, authority):
    """A server that nobody vouches for gets no byte of the request, and is not asked again (F4)."""
    proxy = chaos(tls=speaks_tls(authority, "127.0.0.1"))
    async with client_of(proxy) as nebula:
        ended = await end_of(nebula)

    assert_not_sent(ended, emulator, attempts=1)
    assert "CERTIFICATE_VERIFY_FAILED" in str(ended)
    assert (1, 0) == (proxy.connections, proxy.sends)


@pytest.mark.parametrize("how", [How.FIN, How.READ_ON])
async def test_tls_to_a_plain_port(chaos, emulator, how):
    """A port that does not speak TLS gets no byte of the request (F4)."""
    proxy = chaos(then=Fault(at=At.CONNECTED, how=how, say=reply(400)))
    async with client_of(proxy, base_url=proxy.url.replace("http", "https")) as nebula:
        ended = await end_of(nebula)

    assert_not_sent(ended, emulator, attempts=3)
    assert 3 == proxy.connections


# Idle connections

DROPS = {
    "reset-at-once": Fault(at=At.CONNECTED, how=How.RESET),
    "reset-in-the-request": Fault(at=At.IN_REQUEST, how=How.RESET),
    "closed-before-work": Fault(at=At.REQUEST, how=How.FIN),
    "closed-after-work": Fault(at=At.REPLY, how=How.FIN),
}


@pytest.mark.parametrize("resend_unknown", [1, 0])
@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
async def test_a_reused_connection_dropped_under_a_request(chaos, emulator, drop, resend_unknown):
    """A kept connection that ends just as a request arrives may have carried it: nothing below us sends it again
    unseen (F9).
    """
    proxy = chaos(NO_FAULT, drop)
    policy = RetryPolicy(backoff=0, resend_unknown=resend_unknown)
    async with client_of(proxy, retry=policy) as nebula:
        ends = [await end_of(nebula, prompt) for prompt in ("a cat", "a dog")]

    check_all(ends, emulator, proxy.sends)
    assert [1, 1 + resend_unknown] == [ended.attempts for ended in ends]
    assert [Charges(1, 1), Charges(resend_unknown, 1 + resend_unknown)] == [ended.charges for ended in ends]
    assert [1, 1] == [act.connection for act in proxy.log if act.what == "request"][:2]


async def test_a_connection_closed_while_idle(chaos, emulator):
    """A kept connection that the server has closed is not used: the next request has a new one, and is paid once
    (F10).
    """
    proxy = chaos(then=Fault(at=At.END, how=How.FIN))
    async with client_of(proxy) as nebula:
        ends = []
        for number in range(1, 4):
            ends.append(await end_of(nebula, f"cat {number}"))
            assert await anyio.to_thread.run_sync(proxy.wait_for, "closed", number)

    check_all(ends, emulator, proxy.sends)
    assert [(Generation, 1, Charges(1, 1))] * 3 == [(type(ended), ended.attempts, ended.charges) for ended in ends]
    assert 3 == proxy.connections
