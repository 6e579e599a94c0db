"""Which items of a long list have a key that an earlier one has: found in memory that does not grow with the list."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from attrs import define, field, frozen

FILTER_BITS = 2**25
PROBES = 3
"""4 MiB: of a million different keys about a hundred are doubted for nothing."""


@define(eq=False)
class SeenKeys:
    """A Bloom filter of keys, and the marks of those that may have been there before."""

    _bits: bytearray = field(factory=lambda: bytearray(FILTER_BITS // 8), init=False)
    _doubtful: array[int] = field(factory=lambda: array("q"), init=False)

    def add(self, key: str) -> None:
        """Note a key; it is doubted if it may have been noted before."""
        mark = hash(key)
        low, high = mark & 0xFFFFFFFF, mark >> 32 & 0xFFFFFFFF | 1
        is_known = True
        for probe in range(low, low + PROBES * high, high):
            place, bit = probe % FILTER_BITS >> 3, 1 << (probe & 7)
            if not self._bits[place] & bit:
                self._bits[place] |= bit
                is_known = False
        if is_known:
            self._doubtful.append(mark)

    def sightings(self) -> Sightings | None:
        """Return what a second reading finds out with, `None` where nothing is doubted."""
        return Sightings(array("q", sorted(set(self._doubtful)))) if self._doubtful else None


@frozen
class Earlier:
    """The first item with a key: its line, and whether it asks for the same."""

    line: int
    is_same: bool


@define(eq=False)
class Sightings:
    """The doubted keys: for each, where it was seen first, and what the item said there. Some 30 bytes a key."""

    _marks: array[int]
    _lines: array[int] = field(init=False)
    _bodies: array[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._lines = array("q", bytes(8 * len(self._marks)))
        self._bodies = array("Q", bytes(8 * len(self._marks)))

    def is_doubted(self, key: str) -> bool:
        """Whether the key may be there more than once."""
        return self._place(hash(key)) is not None

    def see(self, key: str, line: int, body_sha: str) -> Earlier | None:
        """Note an item with a doubted key; return the first one of that key, `None` where this is it."""
        place, body = self._place(hash(key)), int(body_sha[:16], 16)
        if place is None:
            return None
        if not self._lines[place]:
            self._lines[place], self._bodies[place] = line, body
            return None
        return Earlier(self._lines[place], self._bodies[place] == body)

    def _place(self, mark: int) -> int | None:
        place = bisect_left(self._marks, mark)
        return place if place < len(self._marks) and self._marks[place] == mark else None
