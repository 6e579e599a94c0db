"""What Redis answers to a member."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Standing:
    """What Redis said, `at` a moment of the loop's clock."""

    at: float
    members: int = 1
    is_known: bool = False
    is_stale: bool = True
    given: str = ""
    interval: float | None = None
    share: float = 1.0
    per_day: int | None = None
    used: int = 0
    held: float = 0.0
    closed: float = 0.0
    is_certain: bool = True
    is_final: bool = False

    def held_for(self, now: float) -> float:
        """Return how long everyone is held."""
        return max(0.0, self.held - (now - self.at))

    def closed_for(self, now: float) -> float:
        """Return for how long nothing more is accepted."""
        return max(0.0, self.closed - (now - self.at))


@frozen
class Granted:
    """The turns that were reserved, in the loop's time; without any, the seconds after which to ask again."""

    turns: tuple[float, ...]
    again: float
