"""What the clients are compared at, and what must be reached there: ratios of what one run measured."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from attrs import frozen
from noise_png import noise_png
from peer_cell import Outcome

OURS, INTO_FOLDER, FLOOR = "nebula_async", "nebula_async into a folder", "bare aiohttp"
OPENAI, OPENAI_AIOHTTP = "openai", "openai, aiohttp"
SCRIPT, SCRIPT_UNLIMITED = "script, httpx", "script, httpx, no limits"
OTHER_SDKS = (OPENAI_AIOHTTP, "together", "together, aiohttp", "huggingface_hub", "litellm")
RECEIVING = (OURS, OPENAI, *OTHER_SDKS, SCRIPT, "script, aiohttp", FLOOR)

TINY, SMALL, COMMON, LARGE, HUGE = len(noise_png(0)), 64 * 1024, 1_500_000, 6_000_000, 30_000_000


@frozen
class Workload:
    """Pictures of `size` bytes, so many in flight, each `latency_ms` after its request; at least `waves` of them."""

    size: int
    in_flight: int
    latency_ms: int = 0
    is_tls: bool = False
    waves: int = 2

    def __str__(self) -> str:
        wire = "TLS" if self.is_tls else "plain HTTP"
        return f"{size_text(self.size)} × {self.in_flight} in flight, {self.latency_ms} ms, {wire}"  # noqa: RUF001 - a real ×


def size_text(size: int) -> str:
    """Return a picture's size as people say it."""
    if size >= 1_000_000:
        return f"{size / 1_000_000:g} MB"
    return f"{size / 1024:.0f} KiB" if size >= 1024 else f"{size} B"


C64, C256 = Workload(COMMON, 64), Workload(COMMON, 256)
C16_TLS, C64_TLS = Workload(COMMON, 16, is_tls=True), Workload(COMMON, 64, is_tls=True)
C64_LATE = Workload(COMMON, 64, latency_ms=50)
L16, H8, TINY_1000 = Workload(LARGE, 16), Workload(HUGE, 8), Workload(TINY, 1_000, waves=4)

REQUIRED: Mapping[Workload, Sequence[str]] = {
    C64: (*RECEIVING, INTO_FOLDER),
    C256: RECEIVING,
    C16_TLS: (OURS, OPENAI, OPENAI_AIOHTTP, FLOOR),
    C64_TLS: (OURS, FLOOR),
    C64_LATE: (OURS, OPENAI),
    L16: (OURS, INTO_FOLDER, OPENAI, FLOOR),
    H8: (OURS, INTO_FOLDER),
    TINY_1000: (OURS, OPENAI, SCRIPT, SCRIPT_UNLIMITED, FLOOR),
}
"""Which clients are run at what, for what must be reached."""

FULL: Mapping[Workload, Sequence[str]] = {
    Workload(*cell): (*RECEIVING, INTO_FOLDER)
    for cell in itertools.product((SMALL, COMMON, LARGE), (16, 64, 256), (0, 50), (False, True))
} | {H8: REQUIRED[H8], TINY_1000: REQUIRED[TINY_1000]}
"""The whole grid, with what else must be reached."""

Outcomes: TypeAlias = Mapping[tuple[Workload, str], Sequence[Outcome | None]]
"""For each cell one outcome of each round; `None` where the client failed."""

Read: TypeAlias = Callable[[Workload, Outcome], float]


def rate(_workload: Workload, outcome: Outcome) -> float:
    """Pictures a second."""
    return outcome.run.done / outcome.run.seconds


def cpu_ms(_workload: Workload, outcome: Outcome) -> float:
    """CPU milliseconds a picture."""
    return 1000 * outcome.run.cpu_seconds / outcome.run.done


def peak_mb(_workload: Workload, outcome: Outcome) -> float:
    """Megabytes above start at the peak."""
    return outcome.run.peak_bytes / 1_000_000


def peak_ratio(workload: Workload, outcome: Outcome) -> float:
    """The peak above start in pictures in flight."""
    return outcome.run.peak_bytes / (workload.size * workload.in_flight)


def late_p99(_workload: Workload, outcome: Outcome) -> float:
    """How many milliseconds late the latest hundredth of ticks is."""
    return outcome.run.late.p99


def late_max(_workload: Workload, outcome: Outcome) -> float:
    """How many milliseconds late the latest tick is."""
    return outcome.run.late.max


@frozen
class Target:
    """A figure that must be reached at a workload: of `client` alone, or over the best of `peers` in the same round."""

    what: str
    limit: float
    workload: Workload
    read: Read
    peers: Sequence[str] = ()
    client: str = OURS
    is_at_most: bool = False

    @property
    def cells(self) -> list[tuple[Workload, str]]:
        """What must be run to know its figure."""
        return [(self.workload, name) for name in (self.client, *self.peers)]

    def figures(self, outcomes: Outcomes) -> list[float]:
        """Return the figure of each round in which every client of it came to its end."""
        rounds = zip(*(outcomes[cell] for cell in self.cells), strict=True)
        return [self._figure([each for each in round_ if each is not None]) for round_ in rounds if all(round_)]

    def _figure(self, round_: Sequence[Outcome]) -> float:
        ours, *others = [self.read(self.workload, outcome) for outcome in round_]
        return ours / max(others) if others else ours

    def is_reached(self, figures: Sequence[float]) -> bool:
        """Whether the median is good enough."""
        if not figures:
            return False
        median = statistics.median(figures)
        return median <= self.limit if self.is_at_most else median >= self.limit


def at_most(
    what: str, limit: float, workload: Workload, read: Read, peers: Sequence[str] = (), client: str = OURS
) -> Target:
    """Return a target that is reached from below."""
    return Target(what, limit, workload, read, peers, client, is_at_most=True)


TARGETS: Sequence[Target] = (
    *(
        Target(what, limit, workload, rate, peers)
        for workload in (C64, C256)
        for what, limit, peers in (
            ("pictures a second ÷ openai as shipped", 3.5, (OPENAI,)),
            ("pictures a second ÷ the best other SDK", 2.8, OTHER_SDKS),
            ("pictures a second ÷ the script with httpx", 5.0, (SCRIPT,)),
        )
    ),
    Target("pictures a second ÷ openai as shipped", 4.0, C16_TLS, rate, (OPENAI,)),
    Target("pictures a second ÷ openai with aiohttp", 3.0, C16_TLS, rate, (OPENAI_AIOHTTP,)),
    at_most("CPU a picture ÷ a bare download", 1.9, C64, cpu_ms, (FLOOR,)),
    at_most("CPU a picture ÷ a bare download", 1.7, C64_TLS, cpu_ms, (FLOOR,)),
    Target("requests a second ÷ httpx with its default pool", 10.0, TINY_1000, rate, (SCRIPT,)),
    Target("requests a second ÷ openai as shipped", 4.0, TINY_1000, rate, (OPENAI,)),
    *(at_most("peak memory ÷ pictures in flight", 1.3, workload, peak_ratio) for workload in (C64, C256, L16, H8)),
    *(at_most("peak memory into a folder, MB", 4.0, workload, peak_mb, client=INTO_FOLDER) for workload in (L16, H8)),
    at_most("ticker p99, ms late", 15.0, C64_LATE, late_p99),
    at_most("ticker max, ms late", 30.0, C64_LATE, late_max),
)
