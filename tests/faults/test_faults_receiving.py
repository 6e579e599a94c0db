"""Replies that come slowly, in pieces, or not whole."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Iterator

import anyio
import pytest
from attrs import evolve
from broken_exchange import At, Fault, How, Slices
from invariants import CALM, QUICK, client_of, end_of, meet
from replies import chunked, instead, until_the_end, with_lines

from nebula_async import (
    Charges,
    DeadlineError,
    Generation,
    OutcomeUnknownError,
    RetryPolicy,
    UnusableReplyError,
)

pytestmark = pytest.mark.anyio

TOTAL = 0.5
DRIP = Slices(1, 0.05)

both_policies = pytest.mark.parametrize("resend_unknown", [1, 0])


def policy(resend_unknown: int) -> RetryPolicy:
    """Return a policy that sends again so often what may have been paid for, and does not wait."""
    return RetryPolicy(backoff=0, resend_unknown=resend_unknown)


DRIPS = {
    "F13": (Fault(body=DRIP), Charges(1, 1)),
    "F14": (Fault(head=DRIP), Charges(0, 1)),
    "F14-lines-without-end": (
        Fault(rewrite=with_lines(*(f"X-{number}: 1" for number in range(50))), head=Slices(7, 0.05)),
        Charges(0, 1),
    ),
}


@both_policies
@pytest.mark.parametrize(("drip", "charges"), DRIPS.values(), ids=DRIPS)
async def test_a_reply_that_drips(chaos, emulator, drip, charges, resend_unknown):
    """A server that never pauses for as long as a read may take is given up at the total time of the call."""
    begun = anyio.current_time()
    ended = await meet(
        chaos(then=drip), emulator, timeout=evolve(QUICK, total=TOTAL), retry=policy(resend_unknown), concurrency=1
    )

    assert pytest.approx(TOTAL, abs=0.2) == anyio.current_time() - begun
    assert (DeadlineError, 1, charges) == (type(ended), ended.attempts, ended.charges)
    assert isinstance(ended, TimeoutError)


async def test_a_slot_is_free_after_silence(chaos, emulator):
    """A call that was given up for silence holds up nobody (F11)."""
    proxy = chaos(Fault(at=At.REQUEST, how=How.HANG))
    async with client_of(proxy, concurrency=1, timeout=QUICK, retry=policy(0)) as nebula:
        silent, ended = [await end_of(nebula, prompt) for prompt in ("a cat", "a dog")]

    assert (OutcomeUnknownError, Charges(0, 1)) == (type(silent), silent.charges)
    assert (Generation, 1) == (type(ended), ended.attempts)


LOST = {
    "F15": Fault(at=At.IN_BODY, how=How.FIN),
    "F15-last-of-the-picture": Fault(at=At.IN_BODY, how=How.FIN, after=-80),
    "F15-reset": Fault(at=At.IN_BODY, how=How.RESET),
    "F16": Fault(at=At.IN_BODY, how=How.FIN, rewrite=chunked),
    "F17": Fault(at=At.IN_BODY, how=How.FIN, rewrite=until_the_end),
}


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n")[:10]
"""How a picture of the emulator begins in a reply."""


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
async def test_an_error_holds_no_picture(chaos, emulator, fault):
    """What came of a reply that was cut is in no error, nor in what led to it."""
    ended = await meet(chaos(then=fault), emulator, retry=policy(0))

    emulator.assert_charged(1)
    assert Charges(1, 1) == ended.charges
    assert PNG not in pickle.dumps(ended)
    assert all(PNG not in repr((link.args, vars(link))).encode() for link in chain(ended))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Return an error and all that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@both_policies
@pytest.mark.parametrize("after", [0, 1, None, -80])
async def test_a_body_without_length_that_is_cut(chaos, emulator, after, resend_unknown):
    """Where nothing but the end of the connection ends a body, one whose picture is not whole is seen by what is in it:
    it was paid for, and is not sent again (F17).
    """
    proxy = chaos(then=Fault(at=At.IN_BODY, how=How.FIN, after=after, rewrite=until_the_end))
    ended = await meet(proxy, emulator, retry=policy(resend_unknown))

    assert (UnusableReplyError, 1, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)
    assert 1 == proxy.sends == emulator.journal.charged


WHOLE = {
    "as-it-is": Fault(),
    "slow-to-begin": Fault(latency=0.1),
    "byte-by-byte": Fault(head=Slices(1, 0.0), body=Slices(1, 0.0)),
    "in-pieces": Fault(head=Slices(40, 0.001, is_drawn=True), body=Slices(200, 0.001, is_drawn=True)),
    "without-length": Fault(rewrite=until_the_end),
    "closed-late": Fault(rewrite=until_the_end, at=At.END, how=How.FIN, slow_close=0.1),
    "in-chunks": Fault(rewrite=lambda head, body: chunked(head, body) + b"0\r\n\r\n"),
    "then-reset": Fault(at=At.END, how=How.RESET),
    "interim-16": Fault(rewrite=lambda head, body: b"HTTP/1.1 102 Processing\r\n\r\n" * 16 + head + body),
    "interim-hints": Fault(rewrite=lambda head, body: b"HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n" + head + body),
}


@pytest.mark.parametrize("fault", WHOLE.values(), ids=WHOLE)
async def test_a_whole_reply_in_another_shape(chaos, emulator, fault):
    """However a whole reply comes, it is the same picture, sent for and paid for once (F20)."""
    ended = await meet(chaos(fault), emulator)

    assert (Generation, 1, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)
    assert (16, 16) == (ended.image.width, ended.image.height)


NO_HTTP = {
    "F18-status-line": b"HTTP/1.1 twohundred OK\r\n\r\n",
    "F18-tls": b"\x15\x03\x03\x00\x02\x02\x28\r\n\r\n",
    "F18-h2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "F19-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "F20": b"HTTP/1.1 102 Processing\r\n\r\n" * 17 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
async def test_what_is_wrong_with_a_reply_is_named(chaos, emulator, data):
    """An error about what is no HTTP says so, and names the server."""
    proxy = chaos(Fault(at=At.IN_BODY, how=How.FIN, rewrite=instead(data)))
    ended = await meet(proxy, emulator, timeout=CALM, retry=policy(0))

    assert OutcomeUnknownError is type(ended)
    assert "RemoteProtocolError: " in str(ended)
    assert proxy.place in str(ended)
