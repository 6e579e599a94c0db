"""Many calls at once over a line that breaks at random: whatever happens, what is said of it is true."""

from __future__ import annotations

import pytest
from broken_exchange import At, Fault, How, Slices
from chaos import by_chance
from invariants import QUICK, SMALL, check_all, client_of
from replies import chunked, reply, until_the_end

from nebula_async import RetryPolicy

pytestmark = pytest.mark.anyio

ENDS = [at for at in At if at < At.END]
"""A connection that ends between two exchanges may take a request with it that nobody sees, and nobody can count."""

FAULTS = (
    *(Fault(at=at, how=How.RESET) for at in ENDS),
    *(Fault(at=at, how=How.FIN) for at in ENDS),
    Fault(at=At.REQUEST, how=How.HANG),
    Fault(at=At.IN_BODY, how=How.HANG),
    Fault(at=At.IN_BODY, how=How.FIN, rewrite=chunked),
    Fault(at=At.IN_BODY, how=How.FIN, rewrite=until_the_end),
    Fault(at=At.REQUEST, say=reply(400)),
    Fault(at=At.REQUEST, say=reply(429, b"{}", "Retry-After-Ms: 20")),
    Fault(at=At.REQUEST, say=reply(502, b"<html>Bad Gateway</html>")),
    Fault(at=At.REPLY, say=reply(500)),
    Fault(at=At.REPLY, say=reply(504)),
    Fault(latency=0.05),
    Fault(head=Slices(9, 0.0, is_drawn=True), body=Slices(99, 0.0, is_drawn=True)),
)


@pytest.mark.parametrize(("seed", "resend_unknown"), [(1, 0), (2, 1), (3, 2)])
async def test_whatever_happens(chaos, emulator, seed, resend_unknown):
    """Every call ends with a picture or a failure that is within what was charged for it, and no call is charged more
    often than it may be; nothing is left behind (F64).
    """
    prompts = [f"cat {number}" for number in range(80)]
    proxy = chaos(script=by_chance(seed, 0.4, *FAULTS), seed=seed)
    policy = RetryPolicy(attempts=4, backoff=0, resend_unknown=resend_unknown)
    async with client_of(proxy, timeout=QUICK, retry=policy) as nebula:
        ends = await nebula.generate_all(prompts, **SMALL)

    check_all(ends, emulator, proxy.sends)
    charged = [
        sum(made.images_charged for made in emulator.journal.generations if made.prompt == prompt) for prompt in prompts
    ]
    assert max(charged) <= 1 + resend_unknown
    assert prompts == [ended.request.prompt for ended in ends]
