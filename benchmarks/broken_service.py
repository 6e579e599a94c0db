"""A Nebula Block whose replies get lost: the emulator behind the fault suite's proxy, both in a process of their own.

The emulator bills, the proxy breaks one exchange in twenty in one of 16 ways, drawn from a seed and the number of the
exchange. What was billed for each prompt is the emulator's word, and what was broken the proxy's.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_longlong
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from attrs import define, field, frozen

from nebula_async.emulator import Emulator

sys.path.append(str(Path(__file__).parents[1] / "tests" / "faults"))

from broken_exchange import NO_FAULT, At, Fault, How
from chaos import ChaosProxy, chance
from replies import chunked, instead, reply, with_lines

SEED = 20
SHARE = 0.05
"""How many of all exchanges are broken."""

CREDIT = 1_000_000
KEY = "sk-emulator"

BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
FAILED = b'{"status": "error", "message": "Internal server error", "data": null}'


@frozen
class Kind:
    """A way to break an exchange: the row of the fault suite, what is seen, how, and whether the picture is billed."""

    row: str
    name: str
    fault: Fault
    is_billed: bool


def _interim(head: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 102 Processing\r\n\r\n" * 2000 + head + body


KINDS = (
    Kind("F5, F9", "reset before the request is read", Fault(at=At.CONNECTED, how=How.RESET), is_billed=False),
    Kind("F6", "reset between headers and body of the request", Fault(at=At.HEAD, how=How.RESET), is_billed=False),
    Kind("F7", "reset after the request", Fault(at=At.REPLY, how=How.RESET), is_billed=True),
    Kind("F8", "end without a reply", Fault(at=At.REPLY, how=How.FIN), is_billed=True),
    Kind("F10", "end of an idle connection", Fault(at=At.END, how=How.FIN), is_billed=False),
    Kind("F11", "silence before the headers", Fault(at=At.REPLY, how=How.READ_ON), is_billed=True),
    Kind("F12", "silence after the headers", Fault(at=At.HEADERS, how=How.READ_ON), is_billed=True),
    Kind("F15", "body shorter than its length", Fault(at=At.IN_BODY, how=How.FIN), is_billed=True),
    Kind("F16", "chunks cut off", Fault(at=At.IN_BODY, how=How.FIN, rewrite=chunked), is_billed=True),
    Kind("F18", "no HTTP", Fault(at=At.END, how=How.FIN, rewrite=instead(b"220 mail ready\r\n\r\n")), is_billed=True),
    Kind("F19", "200 KiB of headers", Fault(rewrite=with_lines(f"X-Long: {'x' * 200 * 2**10}")), is_billed=True),
    Kind("F20", "2,000 interim replies", Fault(rewrite=_interim), is_billed=True),
    Kind("F21", "429 with a wait", Fault(at=At.REQUEST, say=reply(429, b"{}", "Retry-After-Ms: 50")), is_billed=False),
    Kind("F28", "500, billed", Fault(at=At.REPLY, say=reply(500, FAILED)), is_billed=True),
    Kind("F29", "502 of a gateway", Fault(at=At.REQUEST, say=reply(502, BAD_GATEWAY)), is_billed=False),
    Kind("F30", "504, billed", Fault(at=At.REPLY, say=reply(504, BAD_GATEWAY)), is_billed=True),
)
"""What a retry can mend of the faults of connecting, receiving and answering. After F10 the picture has arrived."""


@frozen
class Account:
    """What a service has billed: pictures by prompt; and how often it broke an exchange, by row of the fault suite."""

    charged: Counter[str]
    broken: Counter[str]

    @property
    def billed_faults(self) -> int:
        """How many replies it lost that it had billed."""
        return sum(self.broken[kind.row] for kind in KINDS if kind.is_billed)


@define(eq=False)
class BrokenService:
    """A service that is running; `url` is the API's, `requests` how many came so far."""

    url: str
    _requests: c_longlong
    _line: Connection

    @property
    def requests(self) -> int:
        """How many requests for pictures came so far."""
        return self._requests.value

    def heal(self) -> None:
        """Break nothing any more."""
        self._line.send("heal")
        self._line.recv()

    def account(self) -> Account:
        """Return what was billed and broken so far."""
        self._line.send("account")
        return cast("Account", self._line.recv())


@frozen(kw_only=True)
class Trouble:
    """How much goes wrong: which share of exchanges, drawn from a seed, in which of the ways (all: `rows` is empty)."""

    share: float = SHARE
    seed: int = SEED
    rows: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The ways that are drawn from."""
        return tuple(kind for kind in KINDS if not self.rows or kind.row in self.rows)


@contextmanager
def serving_brokenly(trouble: Trouble, *, replays: bool = False) -> Iterator[BrokenService]:
    """Serve until the block is left; with `replays` what was billed under a key is answered again for nothing."""
    context = multiprocessing.get_context("spawn")
    requests = cast("c_longlong", context.Value(c_longlong, 0, lock=False))
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, requests, trouble, replays), daemon=True)
    process.start()
    try:
        yield BrokenService(ours.recv(), requests, ours)
    finally:
        process.terminate()
        process.join()
        process.close()


@define(eq=False)
class Script:
    """Says what becomes of each exchange; `met` are those that were broken, by their number."""

    requests: c_longlong
    trouble: Trouble
    is_over: bool = field(default=False, init=False)
    met: dict[int, Kind] = field(factory=dict, init=False)

    def __call__(self, number: int) -> Fault:
        """Return what becomes of an exchange."""
        self.requests.value = number
        source = chance(self.trouble.seed, number)
        if self.is_over or source.random() >= self.trouble.share:
            return NO_FAULT
        self.met[number] = source.choice(self.trouble.kinds)
        return self.met[number].fault


def _serve(line: Connection, requests: c_longlong, trouble: Trouble, replays: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    script = Script(requests, trouble)
    with (
        Emulator(credit=CREDIT, replays=replays, keys=[KEY]) as emulator,
        ChaosProxy(emulator.base_url, script) as proxy,
    ):
        line.send(proxy.url)
        while True:
            if line.recv() == "heal":
                script.is_over = True
                line.send(None)
            else:
                line.send(Account(_charged(emulator), Counter(kind.row for kind in [*script.met.values()])))


def _charged(emulator: Emulator) -> Counter[str]:
    charged: Counter[str] = Counter()
    for record in emulator.journal.generations:
        charged[record.prompt or ""] += record.images_charged
    return charged
