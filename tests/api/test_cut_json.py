"""JSON that broke off is closed behind its last whole value."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import is_begun

from nebula_async.api.cut_json import close_json

TEXTS = st.text(st.sampled_from('ab"\\/{}[],: \n\té😀'), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(
    value=st.dictionaries(TEXTS, VALUES, max_size=4),
    share=st.floats(0, 1),
    indent=st.none() | st.just(2),
    utf=st.booleans(),
)
def test_wherever_it_is_cut(value, share, indent, utf):
    """What is left of an object is an object that holds nothing else than the whole one, and in the same
    places (D4).
    """
    whole = json.dumps(value, indent=indent, ensure_ascii=utf).encode()
    cut = whole[: 1 + int(share * len(whole))]

    assert is_begun(json.loads(close_json(cut)), value)
    assert value == json.loads(close_json(whole))


@pytest.mark.parametrize(
    ("cut", "closed"),
    [
        (b'{"a": "whole"', b'{"a": "whole"}'),
        (b'{"a": "not who', b"{}"),
        (b'{"a": "x", "key"', b'{"a": "x"}'),
        (b'{"a": 12', b"{}"),
        (b'{"a": 12,', b'{"a": 12}'),
        (b'{"a": [true, fal', b'{"a": [true]}'),
        (b'{"a": ["x"', b'{"a": ["x"]}'),
        (b'{"a": [{"b": "\\\\"', b'{"a": [{"b": "\\\\"}]}'),
        (b'{"a": "\\"', b"{}"),
        (b'{"a": "x"}\n', b'{"a": "x"}'),
        (b"", b""),
    ],
)
def test_what_is_known_to_be_whole(cut, closed):
    """A text is whole at its quote, a number where something follows it, and a key with its value."""
    assert closed == close_json(cut)


@pytest.mark.parametrize("body", [b"<html>", b"]}", b"[}", b'{"a"}'])
def test_what_is_no_json_stays_none(body):
    """Nothing is made up for what never was JSON."""
    with pytest.raises(ValueError, match=r"^(Expecting|Extra)"):
        json.loads(close_json(body))


def test_many_brackets_take_no_time():
    """A megabyte of brackets is read in one go, as any other."""
    assert 2 * 2**20 == len(close_json(b"[" * 2**20))
