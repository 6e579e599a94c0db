"""Where items of a job stand, in the words that people are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from nebula_async.bulk.states import State

IN_A_WORD: Mapping[State, str] = {
    State.DONE: "done",
    State.REJECTED: "refused",
    State.BAD: "unusable",
    State.EXPIRED: "unusable",
    State.UNKNOWN: "perhaps paid for",
    State.SENT: "perhaps paid for",
    State.URLS: "to be fetched",
    State.PENDING: "to be sent",
}
"""As items are counted, in the order in which that is told."""

WITH_COST: Mapping[State, str] = {
    State.PENDING: "to be sent again",
    State.SENT: "perhaps paid for",
    State.URLS: "paid for, still at the URL",
    State.REJECTED: "refused, not charged",
    State.BAD: "paid for, unusable, incomplete or gone",
    State.EXPIRED: "paid for, gone from the URL",
    State.UNKNOWN: "perhaps paid for",
}
"""As a cause of failure is told: what it means for the money."""


def counts_in_words(counts: Mapping[State, int]) -> Iterator[str]:
    """Yield how many items there are of each word, without those of which there is none."""
    sums: Counter[str] = Counter()
    for state, word in IN_A_WORD.items():
        sums[word] += counts.get(state, 0)
    return (f"{number:,} {word}" for word, number in sums.items() if number)
