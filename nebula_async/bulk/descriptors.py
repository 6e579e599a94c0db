"""How many items a process has descriptors for."""

from __future__ import annotations

import sys

RESERVED, FOR_ITEM = 24, 3
"""For the ledger, the loop and the interpreter; and for a socket, the one it replaces, and the part of a picture."""


def most_under_way() -> int:
    """Return how many items can be under way: who has no descriptor left for a picture has paid for nothing."""
    if sys.platform == "win32":
        return 10_000
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 10_000 if allowed == resource.RLIM_INFINITY else max(1, (allowed - RESERVED) // FOR_ITEM)
