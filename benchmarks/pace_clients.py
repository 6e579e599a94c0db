"""Clients of a server that refuses: ours, and two rivals written from their documented formulas."""

from __future__ import annotations

import math
from random import Random
from typing import Protocol

from attrs import define, field

from nebula_async.engine.pace import Pace


class Client(Protocol):
    """Decides when requests leave. A request that was refused is sent again until it is accepted."""

    def wait(self, now: float) -> float:
        """Return the seconds until a request may leave."""

    def sent(self, now: float) -> None:
        """A request leaves."""

    def accepted(self, now: float, *, is_wanted: bool) -> None:
        """A request was accepted; somebody waits to send more, or not."""

    def refused(self, now: float, *, sent_at: float, delay: float | None, tries: int) -> float | None:
        """Return for how many seconds this request waits by itself, in its slot; `None` to queue with all others."""


@define
class Ours:
    """The rate controller of this package: requests that were refused queue again, and everyone is held."""

    pace: Pace
    source: Random

    def wait(self, now: float) -> float:
        """Ask the pace."""
        return self.pace.wait(now)

    def sent(self, now: float) -> None:
        """Tell the pace."""
        self.pace.release(now)

    def accepted(self, now: float, *, is_wanted: bool) -> None:
        """Tell the pace."""
        self.pace.accepted(now, is_wanted=is_wanted)

    def refused(self, now: float, *, sent_at: float, delay: float | None, tries: int) -> None:  # noqa: ARG002
        """Tell the pace."""
        self.pace.throttled(now, sent_at=sent_at, delay=delay, source=self.source)


@define
class SimpleBackoff:
    """As HTTP SDKs do it: bounded by concurrency alone; each request honours `Retry-After`, or waits 0.5 s, doubled
    each time up to 8 s, less up to a quarter. Here it does so as often as it takes.
    """

    source: Random

    def wait(self, now: float) -> float:  # noqa: ARG002 - a client's signature
        """A slot is enough."""
        return 0.0

    def sent(self, now: float) -> None:
        """Nothing is counted."""

    def accepted(self, now: float, *, is_wanted: bool) -> None:
        """Nothing is learnt."""

    def refused(self, now: float, *, sent_at: float, delay: float | None, tries: int) -> float:  # noqa: ARG002
        """Wait as long as the server says, else with jitter downward."""
        return delay or min(8.0, 0.5 * 2.0 ** min(tries - 1, 10)) * self.source.uniform(0.75, 1)


@define
class AwsAdaptive:
    """The adaptive mode that the AWS SDKs document: a token bucket whose rate follows CUBIC on the measured rate."""

    source: Random
    _is_limited: bool = field(default=False, init=False)
    _tokens: float = field(default=0.0, init=False)
    _rate: float = field(default=0.5, init=False)
    _most_tokens: float = field(default=1.0, init=False)
    _filled_at: float = field(default=0.0, init=False)
    _measured: float = field(default=0.0, init=False)
    _count: int = field(default=0, init=False)
    _bucket: float = field(default=0.0, init=False)
    _last_most: float = field(default=0.0, init=False)
    _throttled_at: float = field(default=0.0, init=False)

    def wait(self, now: float) -> float:
        """Wait for a token, once anything has been refused."""
        if not self._is_limited:
            return 0.0
        self._fill(now)
        return 0.0 if self._tokens >= 1 - 1e-9 else (1 - self._tokens) / self._rate

    def sent(self, now: float) -> None:
        """Take a token, once anything has been refused."""
        if self._is_limited:
            self._fill(now)
            self._tokens -= 1

    def accepted(self, now: float, *, is_wanted: bool) -> None:  # noqa: ARG002 - a client's signature
        """Grow by CUBIC."""
        self._measure(now)
        since = now - self._throttled_at - ((self._last_most * (1 - 0.7)) / 0.4) ** (1 / 3)
        self._set(now, 0.4 * since**3 + self._last_most)

    def refused(self, now: float, *, sent_at: float, delay: float | None, tries: int) -> float:  # noqa: ARG002
        """Cut to seven tenths; this request waits with full jitter, and up to 5 s more where the server says so."""
        self._measure(now)
        self._last_most = min(self._measured, self._rate) if self._is_limited else self._measured
        self._throttled_at, self._is_limited = now, True
        self._set(now, 0.7 * self._last_most)
        own = self.source.random() * min(2.0 ** min(tries - 1, 10), 20.0)
        return own if delay is None else min(max(delay, own), own + 5)

    def _set(self, now: float, rate: float) -> None:
        self._fill(now)
        self._rate = max(min(rate, 2 * self._measured), 0.5)
        self._most_tokens = max(self._rate, 1.0)
        self._tokens = min(self._tokens, self._most_tokens)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._most_tokens, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now

    def _measure(self, now: float) -> None:
        self._count += 1
        bucket = math.floor(now * 2) / 2
        if bucket > self._bucket:
            self._measured = 0.8 * self._count / (bucket - self._bucket) + 0.2 * self._measured
            self._count, self._bucket = 0, bucket
