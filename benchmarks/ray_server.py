"""A Nebula Block that takes 200 ms for a picture, in a process of its own, and what it saw of those that asked."""

from __future__ import annotations

import multiprocessing
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from attrs import define, frozen

from nebula_async.emulator import Emulator

REPLY_SECONDS = 0.2
SAMPLE_SECONDS = 0.01
CREDIT = 1_000_000
ANSWER_SECONDS = 30


@frozen
class Seen:
    """What the server saw: requests, pictures charged, seconds from the first to the last, and how many at once."""

    requests: int
    charged: int
    seconds: float
    peak: int
    mean: float


@define(eq=False)
class Server:
    """A server that is running; `url` is the API's."""

    url: str
    key: str
    _line: Connection

    def seen(self) -> Seen:
        """Return what it has seen since the last time, or its start."""
        self._line.send("seen")
        if not self._line.poll(ANSWER_SECONDS):
            raise TimeoutError(f"the server has not answered for {ANSWER_SECONDS} s")
        seen = self._line.recv()
        assert isinstance(seen, Seen)  # noqa: S101 - said to mypy
        return seen


@contextmanager
def serving() -> Iterator[Server]:
    """Serve until the block is left."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        url, key = ours.recv()
        yield Server(url, key, ours)
    finally:
        process.terminate()
        process.join()


def _serve(line: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    with Emulator(latency=0, credit=CREDIT, faults=[f"delay={REPLY_SECONDS}:1"]) as emulator:
        line.send((emulator.base_url, emulator.key))
        while True:
            samples = _watch(emulator, line)
            line.recv()
            line.send(_summary(emulator, samples))
            emulator.reset()


def _watch(emulator: Emulator, line: Connection) -> list[tuple[float, int]]:
    """Return when how many requests were in flight, until somebody asks."""
    samples = []
    while not line.poll(SAMPLE_SECONDS):
        samples.append((time.time(), sum(request.status is None for request in emulator.journal.generations)))
    return samples


def _summary(emulator: Emulator, samples: list[tuple[float, int]]) -> Seen:
    asked = emulator.journal.generations
    begun = min((request.at for request in asked), default=0.0)
    ended = max((at for at, count in samples if count), default=begun)
    busy = [count for at, count in samples if begun <= at <= ended] or [0]
    return Seen(len(asked), emulator.journal.charged, ended - begun, max(busy), statistics.fmean(busy))
