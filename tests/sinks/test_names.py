"""Names of stored pictures are readable, unique and safe on every file system."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nebula_async.sinks.names import relative_key

KEY = re.compile(r"[0-9]{5,}/[0-9]{9,}(-[a-z0-9]+)*", re.ASCII)


@pytest.mark.parametrize(
    ("number", "prompt", "key"),
    [
        (42, "a flying cat", "00000/000000042-a-flying-cat"),
        (0, "A Flying CAT!", "00000/000000000-a-flying-cat"),
        (1_000, "cat", "00001/000001000-cat"),
        (99_999_999, "cat", "99999/099999999-cat"),
        (12_345_678_901, "cat", "12345678/12345678901-cat"),
        (1, "../../etc/passwd", "00000/000000001-etc-passwd"),
        (1, "C:\\windows\\CON", "00000/000000001-c-windows-con"),
        (1, "{prompt.__class__} %s {0!r}", "00000/000000001-prompt-class-s-0-r"),
        (1, "a\x00b\nc\u202ed", "00000/000000001-a-b-c-d"),
        (1, "Crème brûlée — Straße", "00000/000000001-creme-brulee-strasse"),
        (1, "Cre\u0300me", "00000/000000001-creme"),
        (1, "\uff21\U0001d400ﬁ\u212a", "00000/000000001-aafik"),
        (1, "\ud800cat", "00000/000000001-cat"),
        (1, "空飛ぶ猫", "00000/000000001"),
        (1, "🐱" * 300, "00000/000000001"),
        (1, "", "00000/000000001"),
        (1, "...", "00000/000000001"),
    ],
)
def test_a_key_is_made_of_number_and_prompt(number, prompt, key):
    """A name tells the item's number and what can be told of its prompt in plain letters (B9, B43, B44)."""
    assert key == relative_key(number, prompt)


@pytest.mark.parametrize(
    ("prompt", "slug"),
    [
        ("word " * 40, "word-" * 11 + "word"),
        ("x" * 59 + " yz", "x" * 59),
        ("x" * 60 + " yz", "x" * 60),
        ("x" * 61, "x" * 60),
        ("x" * 58 + " y", "x" * 58 + "-y"),
        ("x" * 2**20, "x" * 60),
    ],
)
def test_a_long_prompt_is_cut_at_a_word(prompt, slug):
    """At most 60 letters of a prompt are used, and a word is not cut where it can be helped."""
    assert f"00000/000000007-{slug}" == relative_key(7, prompt)


@pytest.mark.parametrize(
    ("identity", "key"), [("SKU 17/b", "00000/000000003-sku-17-b"), ("猫", "00000/000000003"), ("", "00000/000000003")]
)
def test_an_identity_takes_the_place_of_the_prompt(identity, key):
    """An item with an id of its own is found by it."""
    assert key == relative_key(3, "a flying cat", identity)


def test_a_negative_number_is_refused():
    """There is no item before the first."""
    with pytest.raises(ValueError, match="number must be 0 or more; got -1"):
        relative_key(-1, "cat")


@given(st.integers(0, 10**12), st.text(), st.none() | st.text())
def test_any_text_gives_a_safe_key(number, prompt, identity):
    """Whatever users write, the key is plain ASCII in one folder: no dot, no reserved name, no way out (B43, B44)."""
    key = relative_key(number, prompt, identity)

    assert KEY.fullmatch(key)
    assert len(key.partition("/")[2] + "-1.webp") <= 120


@given(st.sets(st.integers(0, 10**9), min_size=2, max_size=2), st.text(), st.text())
def test_two_items_never_share_a_key(numbers, prompt, other):
    """Case twins, accent twins and equal prompts do not meet: the number makes each name unique (B44)."""
    first, second = numbers

    assert relative_key(first, prompt).casefold() != relative_key(second, other).casefold()
