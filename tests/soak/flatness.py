"""Whether what a process takes stays the same over a long time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from attrs import frozen

WARM_UP = 5
"""One sample in so many, the first ones, is of a process that is still growing into its work."""

MOST_MIB = 5.0
"""So much more memory may the last third of what follows take than its first third."""

MOST_DESCRIPTORS, MOST_THREADS, MOST_TASKS = 2, 1, 0
FEWEST_SAMPLES = 15
MIB = 2**20


@frozen(kw_only=True)
class Sample:
    """What a process takes at a moment, how many calls it has made, and what they say that they may have cost."""

    resident_bytes: int
    descriptors: int
    threads: int
    tasks: int
    calls: int = 0
    at_least: int = 0
    at_most: int = 0

    @property
    def mib(self) -> float:
        """Its memory."""
        return self.resident_bytes / MIB

    def __str__(self) -> str:
        counts = f"{self.descriptors:>3} descriptors | {self.threads:>2} threads | {self.tasks} tasks"
        return f"{self.calls:>7} calls | {self.mib:6.1f} MiB | {counts}"


def growth(samples: Sequence[Sample]) -> Iterator[tuple[str, float, float]]:
    """Yield what is measured, by how much the last third of the samples has more than the first, and the bound."""
    settled = samples[len(samples) // WARM_UP :]
    third = max(len(settled) // 3, 1)
    bounds = {"mib": MOST_MIB, "descriptors": MOST_DESCRIPTORS, "threads": MOST_THREADS, "tasks": MOST_TASKS}
    for name, bound in bounds.items():
        first, last = (median(getattr(each, name) for each in part) for part in (settled[:third], settled[-third:]))
        yield name, last - first, bound


def risen(samples: Sequence[Sample]) -> list[str]:
    """Return what is not flat; nothing can be said of a few samples."""
    if len(samples) < FEWEST_SAMPLES:
        return []
    return [f"{name} rose by {rise:.1f}, allowed is {bound:g}" for name, rise, bound in growth(samples) if rise > bound]
