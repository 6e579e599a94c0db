"""Whether a service is down, from what becomes of the attempts: a pure state machine, the clock handed in.

Closed: all may send. After `MOST_FAILURES` in a row it opens: one probe at a time, with growing waits between them,
until a few in a row succeed.
"""

from __future__ import annotations

import math
from collections import deque
from random import Random

from attrs import define, field

MOST_FAILURES = 20
WITHIN_SECONDS = 30.0
FEWEST_SUCCESSES = 3
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0

MOST_PROBES, MOST_PROBES_UNPROVEN = 70, 5
"""About an hour; about half a minute where nothing ever succeeded: then the address is rather wrong than down."""


@define(eq=False)
class Outage:
    """Counts failures that say nothing of the request: not sent, refused by the gateway, server failed, no answer.

    `backoff` scales the waits.
    """

    source: Random
    backoff: float = 1.0
    is_open: bool = field(default=False, init=False)
    _failed_at: deque[float] = field(factory=lambda: deque(maxlen=MOST_FAILURES), init=False)
    _succeeded_at: float = field(default=-math.inf, init=False)
    _successes: int = field(default=0, init=False)
    _probes: int = field(default=0, init=False)
    _is_probing: bool = field(default=False, init=False)
    _next_probe: float = field(default=0.0, init=False)

    def wait(self, now: float) -> float:
        """Return the seconds until one more may be sent: 0 for now, infinity until the probe under way has ended."""
        if not self.is_open:
            return 0.0
        return math.inf if self._is_probing else max(0.0, self._next_probe - now)

    def release(self) -> bool:
        """An attempt is sent; return whether it is a probe."""
        self._is_probing = self.is_open
        return self._is_probing

    def end_probe(self) -> None:
        """The probe has ended, whatever became of it."""
        self._is_probing = False

    def succeeded(self, now: float, *, is_probe: bool) -> bool:
        """The service answered; return whether that ends the outage."""
        self._failed_at.clear()
        self._succeeded_at = now
        self._successes += is_probe  # what was sent before it began says nothing of its end
        if not self.is_open or self._successes < FEWEST_SUCCESSES:
            return False
        self.is_open = False
        return True

    def failed(self, now: float, *, is_probe: bool) -> bool:
        """The service did not answer; return whether the outage begins with that."""
        self._successes = 0
        if self.is_open:  # what was sent before it began says nothing new
            self._probes += is_probe
            self._next_probe = now + self._drawn() if is_probe else self._next_probe
            return False
        self._failed_at.append(now)
        is_full = len(self._failed_at) == MOST_FAILURES and now - self._failed_at[0] <= WITHIN_SECONDS
        return is_full and self.open(now)

    def open(self, now: float) -> bool:
        """The outage begins, if it has not; return whether it does."""
        if self.is_open:
            return False
        self.is_open, self._probes, self._successes = True, 0, 0
        self._next_probe = now + self._drawn()
        return True

    def has_succeeded_since(self, moment: float) -> bool:
        """Whether the service answered since then."""
        return self._succeeded_at >= moment

    @property
    def is_hopeless(self) -> bool:
        """Whether it has been probed often enough."""
        most = MOST_PROBES if math.isfinite(self._succeeded_at) else MOST_PROBES_UNPROVEN
        return self.is_open and self._probes >= most

    def _drawn(self) -> float:
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._probes, 10))
        return self.backoff * longest * self.source.uniform(0.5, 1)
