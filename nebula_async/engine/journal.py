"""Who is told of a call's attempts before and after the fact: a ledger, or nobody."""

from __future__ import annotations

from typing import Protocol

from nebula_async.charges import Charges


class AttemptJournal(Protocol):
    """Told of each attempt of one call. What it raises ends the call; a `NebulaError` then carries the call's sums."""

    async def sending(self) -> None:
        """Note that an attempt is about to leave. Nothing of it has left, and nothing does before this returns."""
        ...

    async def ended(self, charges: Charges) -> None:
        """Note that an attempt was answered, or failed; `charges` is what all of the call so far may have cost.

        Of an attempt that is cancelled, or that the deadline ends, the end of the call itself tells.
        """
        ...


class NoJournal:
    """Nobody needs to know."""

    async def sending(self) -> None:
        """Let it be sent."""

    async def ended(self, charges: Charges) -> None:
        """Let it be."""
