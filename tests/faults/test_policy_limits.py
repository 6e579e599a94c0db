"""A limit that changes unannounced is found again, by the gate that all calls share."""

from __future__ import annotations

import itertools

import anyio
import pytest
from attrs import define, evolve, field
from invariants import SMALL
from scripted import REFUSED, VIRTUAL, Answer, Asked, Scripted, client_of, throttled

pytestmark = pytest.mark.anyio

BEFORE, AFTER = 120.0, 300.0
"""Seconds under the limit that was given, and under the other one."""


@define(eq=False)
class Bucket:
    """A server's limit: so many tokens a second, up to ten; `passed` and `refused` are when requests came."""

    per_second: float
    tokens: float = 10.0
    filled_at: float = 0.0
    passed: list[float] = field(factory=list)
    refused: list[float] = field(factory=list)

    def answer(self, asked: Asked) -> Answer:
        """Take a token, or refuse."""
        self.tokens = min(10.0, self.tokens + self.per_second * (asked.at - self.filled_at))
        self.filled_at = asked.at
        if self.tokens < 1:
            self.refused.append(asked.at)
            return evolve(throttled(1), seconds=0.05)
        self.tokens -= 1
        self.passed.append(asked.at)
        return evolve(REFUSED, seconds=3.0)


@VIRTUAL
async def test_a_limit_that_is_halved_unannounced():
    """When a limit is halved, few requests are refused while the new one is found, and it is used nearly all (F26)."""
    bucket = Bucket(per_second=10.0)
    async with client_of(Scripted(bucket.answer), rate_limit=600) as nebula:
        begun = bucket.filled_at = anyio.current_time()
        async with nebula.generate_many(map(str, itertools.count()), **SMALL) as results:
            async for _ in results:
                now = anyio.current_time() - begun
                if now > BEFORE:
                    bucket.per_second = 5.0
                if now > BEFORE + AFTER:
                    break

    passed, refused = ([at - begun for at in each] for each in (bucket.passed, bucket.refused))
    assert [] == [at for at in refused if at < BEFORE]
    assert 0.97 * 10 * BEFORE <= sum(at < BEFORE for at in passed)
    later = sum(at >= BEFORE for at in passed)
    assert 0.92 * 5 * AFTER <= later
    assert len(refused) <= 0.03 * (later + len(refused))
