"""A sample of a long list of keys, the same for the same keys, in memory of its own size."""

from __future__ import annotations

from hashlib import blake2b
from heapq import heappush, heappushpop

from attrs import define, field


@define(eq=False)
class Draw:
    """Keeps the `size` keys with the smallest digests of those that it is shown, in whatever order and how often."""

    size: int
    _kept: list[tuple[int, str]] = field(factory=list, init=False)
    _keys: set[str] = field(factory=set, init=False)

    @property
    def keys(self) -> frozenset[str]:
        """The keys that are drawn of those shown so far."""
        return frozenset(self._keys)

    def show(self, key: str) -> None:
        """Consider a key."""
        mark = -int.from_bytes(blake2b(key.encode(), digest_size=12).digest(), "big")
        if key in self._keys:
            return
        if len(self._kept) < self.size:
            heappush(self._kept, (mark, key))
            self._keys.add(key)
        elif mark > self._kept[0][0]:
            self._keys.remove(heappushpop(self._kept, (mark, key))[1])
            self._keys.add(key)
