"""When the next request may leave: a pure state machine, the clock handed in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from random import Random

from attrs import define, field, frozen

from nebula_async.engine.rate import FIRST_BURST, Rate, clamp
from nebula_async.engine.retry import jittered_upward

HEADROOM = 0.98
LATENESS = 0.05
"""So many seconds, and at most half an interval, a timer may be late without losing rate."""

LONGEST_BUSY = 30.0
LONGEST_CLOSED, CLOSED_GROWTH = 10.0, 3.0
"""While a limit stays closed it is asked again after pauses that grow by the factor, up to so many seconds."""

USUAL_REFUSAL, LONGEST_PATIENCE = 0.2, 2.0
REMEMBERED_REFUSALS = 16
"""A request that is not refused within one and a half times the longest that a refusal took is taken for accepted."""

SHORT_DELAY, SHORT_INTERVALS = 2.0, 3.0
"""A delay beyond both, in seconds and in intervals, is the end of a window: the next token of a bucket is sooner."""

UNSURE = 8.0
"""So many seconds at most a limit is taken to have been open unseen."""

FEWEST_HOLDS = 3
"""After fewer, a server that asks for long waits has not refused often enough to say that it always will."""


@frozen
class Course:
    """Turns that need no decision: one each `interval` after the last, and none before `held_until`."""

    last: float
    interval: float
    held_until: float


@define(eq=False)
class Pace:
    """Spreads requests evenly under a known or a found limit, and holds everyone after a refusal.

    One cut and one hold for each epoch: refusals of requests sent before belong to it, and lengthen the hold only
    where the server names a later moment. After a hold that nobody named one request goes ahead, and the others follow
    when it was not refused. With a back-off of 0 only what is named is waited for, a limit or a delay.
    """

    per_minute: float | None
    backoff: float = 1.0
    _rate: Rate = field(init=False)
    _burst: int = field(default=FIRST_BURST, init=False)
    _last: float = field(default=-math.inf, init=False)
    _held_until: float = field(default=-math.inf, init=False)
    _held_at: float = field(default=-math.inf, init=False)
    _cut_at: float = field(default=-math.inf, init=False)
    _seen_at: float = field(default=-math.inf, init=False)
    _probes: bool = field(default=False, init=False)
    _probed_at: float | None = field(default=None, init=False)
    _open_at: float = field(default=-math.inf, init=False)
    _closed: int = field(default=0, init=False)
    _refused_at: float = field(default=-math.inf, init=False)
    _opens_at: float | None = field(default=None, init=False)
    _latencies: deque[float] = field(factory=lambda: deque(maxlen=REMEMBERED_REFUSALS), init=False)
    _holds: int = field(default=0, init=False)
    _refusing_since: float | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._rate = Rate(math.inf if self.per_minute is None else HEADROOM * self.per_minute / 60)

    def wait(self, now: float) -> float:
        """Return the seconds until a request may leave; 0 for at once."""
        return max(0.0, self._due() - now)

    def release(self, now: float) -> None:
        """A request leaves now."""
        due = self._due()
        self._burst -= self._burst > 0
        self._last = due if now - due <= min(self._interval() / 2, LATENESS) else now
        if self._open_at == math.inf:
            self._probe(now)
        self._rate.tally.add(now)

    def take_back(self) -> None:
        """A request that was to leave did not."""
        self._rate.tally.take_back()

    @property
    def course(self) -> Course | None:
        """The turns that follow, `None` where each is still a decision: the first burst, and after a refusal."""
        if self._open_at == math.inf or (self._burst > 0 and not self._rate.is_known):
            return None
        return Course(self._last, self._interval(), self._held_until)

    def follow(self, last: float, left: int, marks: Iterable[tuple[float, int]]) -> None:
        """So many requests left on the course, the last of them then; `marks` say when and how many had left."""
        self._last = max(self._last, last)
        self._rate.tally.catch_up(left, marks)

    @property
    def is_learning(self) -> bool:
        """Whether requests that are accepted tell it anything."""
        return self._rate.is_learning or self._holds > 0

    def accepted(self, now: float, *, is_wanted: bool) -> None:
        """A request was accepted: the limit has room. An unknown rate grows where somebody is waiting for it."""
        self._holds = 0
        self._refusing_since = None
        is_open = self._open_at < math.inf
        self._rate.accepted(now, now - max(self._seen_at, self._held_until), is_wanted=is_wanted and is_open)
        self._seen_at = now

    def throttled(
        self, now: float, *, sent_at: float, delay: float | None, source: Random, is_limit: bool = True
    ) -> float:
        """A request sent at `sent_at` was refused; return the seconds that everyone is held, 0 for no new hold.

        `delay` is what the server named, and is never cut short. A server that is only busy says nothing of the limit.
        """
        is_cut = is_limit and sent_at >= self._cut_at
        is_new = is_cut or sent_at >= self._held_at
        if is_limit:
            self._count_refusal(now, sent_at, is_cut=is_cut)
        if not is_new and now + (delay or 0) <= max(self._held_until, now):
            return 0.0
        if is_cut:
            self._await_opening(now, delay)
        if delay and is_limit and delay > max(SHORT_DELAY, SHORT_INTERVALS / self._rate.per_second):
            self._opens_at = max(self._opens_at or now, now + delay)
        if is_new:
            self._held_at = now
            self._holds += 1
        return self.hold(now, self._pause(delay, source, is_limit=is_limit))

    @property
    def is_trying(self) -> bool:
        """Whether a first request goes ahead after a hold, and the others wait to see whether it is refused."""
        return self._open_at == math.inf and self._probed_at is not None

    def refusing_for(self, now: float) -> float:
        """Return for how many seconds the limit has refused and accepted nothing; 0 until several holds have passed."""
        if self._refusing_since is None or self._holds < FEWEST_HOLDS:
            return 0.0
        return now - self._refusing_since

    def held_for(self, now: float) -> float:
        """Return the seconds that the hold still lasts; 0 for no hold."""
        return max(0.0, self._held_until - now)

    def hold(self, now: float, seconds: float) -> float:
        """Hold everyone for so many seconds, or as long as they are held already; return how long that is."""
        until = max(self._held_until, now + seconds)
        self._rate.held(until - max(self._held_until, now))
        self._held_until = until
        return until - now

    def give(self, per_minute: float | None) -> None:
        """Another limit is given, or none any more; what a server named counts again when it names it again."""
        if per_minute != self.per_minute:
            self.per_minute = per_minute
            self.learn(math.inf)

    def narrow(self, share: float) -> None:
        """Go on with that share of the rate of this moment, and no more, whatever a server names."""
        self.give(self._part(share))

    def part(self, share: float) -> Pace:
        """Return a pace that goes on with that share of the rate of this moment, at another clock."""
        return Pace(self._part(share), self.backoff)

    def learn(self, per_minute: float) -> None:
        """A server names its limit of this moment: the ceiling, unless the one that was given is lower."""
        self._rate.ceiling = self._ceiling(per_minute)

    def is_news(self, per_minute: float) -> bool:
        """Whether a limit that a server names changes anything."""
        return self._rate.ceiling != self._ceiling(per_minute)

    def believed(self, now: float) -> float | None:  # noqa: ARG002 - what a gate shares with others depends on the time
        """Return how many requests a minute it would let leave; `None` for no idea yet."""
        return 60 * self._rate.per_second if self._rate.is_known else None

    def _part(self, share: float) -> float:
        return 60 * share * self._rate.per_second / HEADROOM

    def _ceiling(self, per_minute: float) -> float:
        given = math.inf if self.per_minute is None else self.per_minute
        return HEADROOM * min(given, per_minute) / 60

    def _interval(self) -> float:
        if self.backoff == 0 and self.per_minute is None:
            return 0.0
        return 1 / self._rate.per_second

    def _patience(self) -> float:
        """Return the seconds after which a request that was not refused is taken for accepted."""
        usual = 1.5 * max(self._latencies, default=USUAL_REFUSAL)
        return min(usual, LONGEST_PATIENCE) if self.backoff else 0.0

    def _due(self) -> float:
        is_free = self._burst > 0 and not self._rate.is_known
        due = -math.inf if is_free else self._last + self._interval()
        if self._probes and self._probed_at is not None and self._open_at == math.inf:
            due = max(due, self._probed_at + self._patience())
        return max(due, self._held_until)

    def _probe(self, now: float) -> None:
        if self._probed_at is None:
            self._probed_at = now
            return
        if now < self._probed_at + self._patience():
            return
        self._open_at = now
        if self._closed:
            opened_at = min((self._refused_at + self._probed_at) / 2, self._refused_at + UNSURE)
            self._rate.opened(self._refused_at, opened_at, self._probed_at)
        elif self._opens_at is not None:
            self._rate.opened(self._refused_at, self._opens_at, self._probed_at)

    def _count_refusal(self, now: float, sent_at: float, *, is_cut: bool) -> None:
        self._latencies.append(max(0.0, now - sent_at))
        self._rate.tally.take_back()
        self._burst = 0
        if self._refusing_since is None:
            self._refusing_since = now
        if not is_cut:
            return
        self._refused_at = sent_at
        if sent_at < self._open_at:
            self._closed += 1
            self._rate.closed()
            return
        self._closed = 0
        self._rate.used_up(now, sent_at)

    def _await_opening(self, now: float, delay: float | None) -> None:
        self._cut_at = self._seen_at = now
        self._open_at = math.inf
        self._probes = not delay or self._closed > 0
        self._probed_at = self._opens_at = None

    def _pause(self, delay: float | None, source: Random, *, is_limit: bool) -> float:
        if delay:
            named = jittered_upward(delay, source)
            return max(named, self.backoff * self._longer(named)) if is_limit else named
        if not is_limit:
            return self.backoff * min(LONGEST_BUSY, 2.0 ** min(self._holds - 1, 10)) * source.uniform(0.5, 1)
        if self._closed:
            return self.backoff * self._longer(CLOSED_GROWTH) * source.uniform(0.5, 1)
        return self.backoff * source.uniform(1, 1.4) / self._rate.per_second

    def _longer(self, seconds: float) -> float:
        """Return a pause that grows while the limit stays closed: a delay that was named had not been long enough."""
        return min(LONGEST_CLOSED, seconds * math.pow(CLOSED_GROWTH, clamp(self._closed - 1, 0, 10)))
