"""A Nebula Block that takes its time, in a process of its own: the emulator bills, and a proxy before it answers late.

What the emulator made is sent as a picture of noise of 1.5 MB: it is the bill that is true. Half of the replies come in
pieces with pauses, so that some clients leave while their picture arrives.
"""

from __future__ import annotations

import base64
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from attrs import define, frozen
from noise_png import noise_png
from peer_workloads import COMMON
from web_app import KEY, SPAWN

from nebula_async.emulator import Emulator

sys.path.append(str(Path(__file__).parents[1] / "tests" / "faults"))

from broken_exchange import Fault, Slices
from chaos import ChaosProxy, chance

SLOWEST_SECONDS = 1.0
SLICE_BYTES, PAUSE_SECONDS = 100_000, 0.04
SLICED = 1 / 2
CREDIT = 1_000_000
QUIET_SECONDS = 0.5


@define(eq=False)
class SlowService:
    """A service that is running; `url` is the API's."""

    url: str
    _line: Connection

    def charged(self) -> Counter[str]:
        """Return how many pictures each call was charged for, by its idempotency key, once nothing more comes."""
        charged, before = self._charged(), None
        while charged != before:  # a request whose sender is gone is still worked for
            time.sleep(QUIET_SECONDS)
            charged, before = self._charged(), charged
        return charged

    def _charged(self) -> Counter[str]:
        self._line.send("charged")
        return cast("Counter[str]", self._line.recv())


@contextmanager
def serving_slowly(seed: int) -> Iterator[SlowService]:
    """Serve until the block is left; when each reply comes follows from the seed and the number of the exchange."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_serve, args=(theirs, seed), daemon=True)
    process.start()
    try:
        yield SlowService(ours.recv(), ours)
    finally:
        process.terminate()
        process.join()
        process.close()


@frozen
class Script:
    """Says how late each reply comes, and in how many pieces."""

    seed: int

    def __call__(self, number: int) -> Fault:
        """Return what becomes of an exchange."""
        source = chance(self.seed, number)
        pieces = Slices(SLICE_BYTES, PAUSE_SECONDS) if source.random() < SLICED else None
        return Fault(latency=source.uniform(0, SLOWEST_SECONDS), body=pieces, rewrite=as_noise)


@cache
def noise_reply() -> bytes:
    """Return a reply with a picture of noise."""
    body = b'{"data":[{"index":0,"b64_json":"' + base64.b64encode(noise_png(COMMON)) + b'"}]}'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def as_noise(head: bytes, body: bytes) -> bytes:
    """Return a success with a picture of noise, and anything else as it is."""
    return noise_reply() if head.startswith(b"HTTP/1.1 200") else head + body


def _serve(line: Connection, seed: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    with Emulator(credit=CREDIT, keys=[KEY]) as emulator, ChaosProxy(emulator.base_url, Script(seed)) as proxy:
        line.send(proxy.url)
        while line.recv():
            line.send(_charged(emulator))


def _charged(emulator: Emulator) -> Counter[str]:
    charged: Counter[str] = Counter()
    for record in emulator.journal.generations:
        charged[(record.idempotency_key or "").strip('"')] += record.images_charged
    return charged
