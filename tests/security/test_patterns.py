"""No text that anyone may write makes a regular expression of the package take more than a moment (S37)."""

from __future__ import annotations

import re
from functools import cache

import pytest
from patterns import Use, hardest, nested, uses

MOST_SECONDS = 0.05
"""For 16 KiB: what is linear takes a fifth of it at most, what is quadratic many times as much."""

SIZES = (16, 20, 24, 28, 32, 40, 2**8, 2**10, 2**12, 2**14)
"""What is exponential shows at 32, what is of the third power at 2**10: long before it would hang."""

SLOW = {"nested": r"(a+)+b", "two in turn": r"[ab]*a[ab]*a[ab]*c"}


@cache
def all_uses() -> tuple[Use, ...]:
    """Return the uses of all patterns of the package."""
    return tuple(uses())


def slowest(use: Use) -> float:
    """Return the processor time that the worst text takes, up to the first that takes too long."""
    worst = 0.0
    for make in hardest(use.pattern):
        for size in SIZES:
            worst = max(worst, use.seconds(make(size)))
            if worst > MOST_SECONDS:
                return worst
    return worst


def test_no_pattern_is_slow():
    """Each way in which a pattern is used stays linear over texts that almost match it, again and again."""
    seconds = {str(use): slowest(use) for use in all_uses()}
    slow = {use: taken for use, taken in seconds.items() if taken > MOST_SECONDS}
    assert {} == slow


def test_no_pattern_nests_repetitions():
    """No pattern repeats a repetition without a letter between by which their turns are told apart."""
    assert [] == [str(use) for use in all_uses() if nested(use.pattern)]


def test_every_room_with_patterns_is_looked_at():
    """The patterns are found wherever they are: as constants of modules, and within calls."""
    assert len(all_uses()) >= 60
    assert {"api", "engine", "images", "bulk", "sinks", "integrations"} <= {
        use.module.split("/")[0] for use in all_uses()
    }


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_slow_patterns_are_seen(text):
    """The texts of this test find what is exponential or of the second power and more."""
    assert slowest(Use("", re.compile(text), "search")) > MOST_SECONDS


@pytest.mark.parametrize("text", [r"(a+)+", r"(?:a*)*b", r"(a+|b+)*", r"((?:x*)+)y"])
def test_nested_repetitions_are_seen(text):
    """What repeats a repetition is found, and what is told apart by a letter is not."""
    assert nested(re.compile(text))
    assert not nested(re.compile(r"(?:a+,)*(\.[0-9]+)?"))
