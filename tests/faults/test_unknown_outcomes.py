"""Whatever breaks once a request has left: it may have been paid for, so it is sent once more, or not at all."""

from __future__ import annotations

import pytest
from attrs import frozen
from broken_exchange import At, Fault, How, split
from invariants import CALM, QUICK, meet
from replies import chunked, instead, reply, with_lines

from nebula_async import Charges, Generation, NebulaError, OutcomeUnknownError, RetryPolicy, ServerError, Timeouts

pytestmark = pytest.mark.anyio

UNKNOWN, LOST = Charges(0, 1), Charges(1, 1)

TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x28"
H2_SETTINGS = b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@frozen
class Row:
    """A fault of every exchange, what each attempt that meets it may be charged, and the error of a call ending so."""

    fault: Fault
    charges: Charges = UNKNOWN
    timeouts: Timeouts = CALM
    error: type[NebulaError] = OutcomeUnknownError


def hang(at: At) -> Fault:
    """Return the fault of a server that falls silent."""
    return Fault(at=at, how=How.HANG)


def said(data: bytes) -> Fault:
    """Return the fault of a server that did no work and says this."""
    return Fault(at=At.REQUEST, how=How.FIN, say=data)


def made(data: bytes) -> Fault:
    """Return the fault of a server that did the work and says this."""
    return Fault(at=At.END, how=How.FIN, rewrite=instead(data))


def whole(head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Return a reply in chunks, with the last one."""
    return split(chunked(head, body) + b"0\r\n\r\n")


def interim(count: int) -> Fault:
    """Return the fault of a server that says so often that it is at work before it answers."""
    return Fault(rewrite=lambda head, body: b"HTTP/1.1 102 Processing\r\n\r\n" * count + head + body)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

ROWS = {
    "F5-reset": Row(Fault(at=At.CONNECTED, how=How.RESET)),
    "F5-closed": Row(Fault(at=At.CONNECTED, how=How.FIN)),
    "F6-reset": Row(Fault(at=At.HEAD, how=How.RESET)),
    "F6-reset-in-body": Row(Fault(at=At.IN_REQUEST, how=How.RESET)),
    "F7-not-made": Row(Fault(at=At.REQUEST, how=How.RESET)),
    "F7-made": Row(Fault(at=At.REPLY, how=How.RESET)),
    "F7-in-headers": Row(Fault(at=At.IN_HEADERS, how=How.RESET)),
    "F8-not-made": Row(Fault(at=At.REQUEST, how=How.FIN)),
    "F8-made": Row(Fault(at=At.REPLY, how=How.FIN)),
    "F8-in-headers": Row(Fault(at=At.IN_HEADERS, how=How.FIN)),
    "F11-unread": Row(hang(At.CONNECTED), timeouts=QUICK),
    "F11-not-made": Row(hang(At.REQUEST), timeouts=QUICK),
    "F11-made": Row(hang(At.REPLY), timeouts=QUICK),
    "F12-no-body": Row(hang(At.HEADERS), LOST, QUICK),
    "F12-half-a-body": Row(hang(At.IN_BODY), LOST, QUICK),
    "F15-no-body": Row(Fault(at=At.HEADERS, how=How.FIN), LOST),
    "F15-half-a-body": Row(Fault(at=At.IN_BODY, how=How.FIN), LOST),
    "F15-reset": Row(Fault(at=At.IN_BODY, how=How.RESET), LOST),
    "F16-in-a-chunk": Row(Fault(at=At.IN_BODY, how=How.FIN, rewrite=chunked), LOST),
    "F16-reset": Row(Fault(at=At.IN_BODY, how=How.RESET, rewrite=chunked), LOST),
    "F16-size-below-zero": Row(made(CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n"), LOST),
    "F16-size-beyond-all": Row(made(CHUNKED + b"f" * 18 + b"\r\n{}"), LOST),
    "F16-long-extension": Row(made(CHUNKED + b"2;" + b"x" * 200 * 2**10 + b"\r\n{}\r\n0\r\n\r\n"), LOST),
    "F16-many-trailers": Row(made(CHUNKED + b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 40_000 + b"\r\n"), LOST),
    "F18-status-line": Row(said(b"HTTP/1.1 twohundred OK\r\n\r\n")),
    "F18-status-line-made": Row(made(b"HTTP/1.1 twohundred OK\r\n\r\n")),
    "F18-other-protocol": Row(made(b"220 mail ready\r\n\r\n")),
    "F18-tls": Row(said(TLS_ALERT)),
    "F18-h2-settings": Row(said(H2_SETTINGS)),
    "F18-h2-preface": Row(made(H2_PREFACE)),
    "F18-switch": Row(made(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")),
    "F18-nul": Row(made(b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}")),
    "F19-unknown-coding": Row(made(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")),
    "F19-200-kib": Row(Fault(rewrite=with_lines(f"X-Long: {'x' * 200 * 2**10}"))),
    "F19-many-lines": Row(Fault(rewrite=with_lines(*[f"X-{number}: {'x' * 90}" for number in range(2000)]))),
    "F19-two-lengths": Row(Fault(rewrite=with_lines("Content-Length: 5"))),
    "F19-length-and-chunks": Row(Fault(rewrite=lambda head, body: with_lines("Content-Length: 5")(*whole(head, body)))),
    "D1-500-not-made": Row(said(reply(500, b"{}", "Connection: close")), error=ServerError),
    "D1-500-made": Row(made(reply(500, b"{}", "Connection: close")), error=ServerError),
    "D1-504-made": Row(made(reply(504, b"{}", "Connection: close")), error=ServerError),
    "F20-2000": Row(interim(2000)),
    "F20-17": Row(interim(17)),
}


rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


@rows
async def test_one_is_survived(chaos, emulator, row):
    """After one such failure the request is sent once more, over a new connection; the result says what both may have
    cost.
    """
    proxy = chaos(row.fault)
    ended = await meet(proxy, emulator, timeout=row.timeouts, concurrency=1)

    assert (Generation, 2, row.charges + Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)
    assert 2 == proxy.connections


@rows
async def test_one_more_attempt_and_no_third(chaos, emulator, row):
    """A server that always fails so is asked twice in all; the error says what both attempts may have cost."""
    proxy = chaos(then=row.fault)
    ended = await meet(proxy, emulator, timeout=row.timeouts, concurrency=1)

    assert (row.error, 2, row.charges * 2) == (type(ended), ended.attempts, ended.charges)
    assert ended.retryable
    assert 2 == proxy.connections
    assert emulator.journal.charged <= 2


@rows
async def test_never_paid_twice(chaos, emulator, row):
    """With `resend_unknown=0` nothing that may have been paid for is sent again (D1)."""
    proxy = chaos(then=row.fault)
    policy = RetryPolicy(resend_unknown=0, backoff=0)
    ended = await meet(proxy, emulator, timeout=row.timeouts, retry=policy, concurrency=1)

    assert (row.error, 1, row.charges) == (type(ended), ended.attempts, ended.charges)
    assert emulator.journal.charged <= 1
