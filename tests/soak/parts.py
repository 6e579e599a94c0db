"""What a soak is made of lies beside the suites whose parts it uses: who imports this finds them."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]

sys.path[:0] = [str(place) for place in (TESTS / "durability", TESTS / "faults", TESTS) if str(place) not in sys.path]
