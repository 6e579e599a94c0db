"""How slow this machine is now: what is promised of a machine at rest is measured on one that others use too."""

from __future__ import annotations

import json
import time

YARDSTICK = "[" + "0," * 100_000 + "0]"
YARDSTICK_SECONDS = 0.0028
"""CPU that the yardstick takes to be read on the machine for which the promises stand, while nothing else uses it."""

TRIES = 5


def slowness() -> float:
    """Return how many times as long this machine takes now as the one for which the promises stand, at least 1."""
    return max(1.0, min(_seconds() for _ in range(TRIES)) / YARDSTICK_SECONDS)


def _seconds() -> float:
    began = time.process_time()
    assert 0 == sum(json.loads(YARDSTICK))
    return time.process_time() - began
