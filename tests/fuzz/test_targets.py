"""Each parser holds what it has to for bytes of any kind, as the long searches (`make fuzz`) look for, in a moment."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import NAMES, load, most_bytes


@st.composite
def inputs(draw, target) -> bytes:
    """Bytes as a target's are: a seed, cut and mixed with words and with anything."""
    data = draw(st.sampled_from(target.SEEDS))
    piece = st.sampled_from(target.WORDS) | st.binary(max_size=6)
    for place, length, new in draw(st.lists(st.tuples(st.integers(0, 2**12), st.integers(0, 12), piece), max_size=6)):
        start = place % (len(data) + 1)
        data = data[:start] + new + data[start + length :]
    return data[: most_bytes(target)]


@pytest.mark.parametrize("name", NAMES)
def test_a_parser_reads_anything(name):
    """Whatever bytes come, a parser raises nothing but its own refusal, and agrees with others that read the same."""
    target = load(name)

    @settings(max_examples=100, deadline=None)
    @given(inputs(target))
    def check(data: bytes) -> None:
        target.check(data)

    check()


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_search_are_read(name):
    """What a search begins with is read well, and nothing at all is read too."""
    target = load(name)
    for seed in (*target.SEEDS, b""):
        target.check(seed)
    for word in target.WORDS:
        target.check(word)
