"""Who is told of a call's attempts before and after the fact: a ledger, or nobody."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from nebula_async.charges import Charges

if TYPE_CHECKING:
    from nebula_async.engine.verdict import Verdict


class AttemptJournal(Protocol):
    """Told of each attempt of one call. What it raises ends the call; a `NebulaError` then carries the call's sums."""

    @property
    def call_key(self) -> str:
        """What names the call: its idempotency key, the same over all attempts. Asked for once."""
        ...

    async def sending(self) -> None:
        """Note that an attempt is about to leave. Nothing of it has left, and nothing does before this returns."""
        ...

    async def ended(self, verdict: Verdict | None, charges: Charges) -> None:
        """Note that an attempt failed as the verdict says, or was answered (`None`); `charges` is what all of the call
        so far may have cost.

        Of an attempt that is cancelled, or that the deadline ends, the end of the call itself tells.
        """
        ...


class NoJournal:
    """Nobody needs to know."""

    @property
    def call_key(self) -> str:
        """A key of its own for each call."""
        return os.urandom(16).hex()

    async def sending(self) -> None:
        """Let it be sent."""

    async def ended(self, verdict: Verdict | None, charges: Charges) -> None:
        """Let it be."""
