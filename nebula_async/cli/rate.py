"""How fast a run is of late: a pure count, the clock handed in."""

from __future__ import annotations

from collections import deque

from attrs import define, field

SAMPLE_SECONDS = 1.0
LONGEST_GAP = 5.0
"""Who looks later than that was stopped meanwhile, with the whole process: that time is no slowness of the run."""


@define(eq=False)
class RecentRate:
    """Counts a second over the last `window` seconds in which anything could happen; waits for a day do not count."""

    window: float
    _samples: deque[tuple[float, int]] = field(factory=deque, init=False)
    _active: float = field(default=0.0, init=False)
    _looked_at: float | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)

    def look(self, now: float, count: int, *, is_waiting: bool = False) -> None:
        """Take note of the count at a moment; `is_waiting` says that nothing could happen since the last look."""
        passed = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at, self._count = now, count
        if not is_waiting and passed <= LONGEST_GAP:
            self._active += passed
        if not self._samples or self._active - self._samples[-1][0] >= SAMPLE_SECONDS:
            self._samples.append((self._active, count))
        while len(self._samples) > 2 and self._active - self._samples[1][0] >= self.window:
            self._samples.popleft()

    @property
    def per_second(self) -> float | None:
        """The rate, `None` in the first second."""
        if self._active < SAMPLE_SECONDS:
            return None
        began, before = self._samples[0]
        return (self._count - before) / (self._active - began)
