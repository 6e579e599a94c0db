"""`make mutants` finds the changes that it says it makes: one that makes none would praise every test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "mutants"))
from mutations import mutants_of

SAMPLE = '''
"""What stands here is no code."""
KINDS = {"a", "b"}

def judge(n: int, limit: int = 3) -> bool:
    """Nor does this."""
    if n >= limit and not is_known(n, KINDS == n):
        raise ValueError(f"{n} is too many")
    return bool(read("SELECT max(n) FROM t WHERE seq = ? AND x IS NULL"))
'''

EXPECTED = """
module: without 'a'
module: without 'b'
module: 'a' → 'aa'
module: 'b' → 'bb'
judge: 3 → 4
judge: n >= limit → n > limit
judge: KINDS == n → KINDS != n
judge: not is_known(n, KINDS == n) → is_known(n, KINDS == n)
judge: SELECT [max → min](n) FROM t WHERE seq
judge: ELECT max(n) FROM t WHERE seq [= → !=] ? AND x IS NULL
judge: n) FROM t WHERE seq = ? AND x [IS NULL → IS NOT NULL]
judge: T max(n) FROM t WHERE seq = ? [AND → OR] x IS NULL
"""


def made() -> dict[str, str]:
    """Return the changes of the sample, by their names."""
    return {mutant.name: mutant.source for mutant in mutants_of(SAMPLE)}


@pytest.mark.parametrize("name", EXPECTED.strip().splitlines())
def test_each_kind_of_change_is_made(name):
    """Comparisons, signs, bounds, members, conditions and the words of SQL are changed, one at a time."""
    assert name in made()


def test_statements_are_left_out_and_conditions_turned_round():
    """A refusal that is not raised, a result that is not given, and a condition that is the other way."""
    names = set(made())
    assert 3 == sum(name.endswith(("→ pass", "→ return None")) or " → if not " in name for name in names)


def test_every_change_is_code_that_says_something_else():
    """Each can be loaded, and no two are the same: nothing is counted that was not tried."""
    sources = made().values()
    assert len({compile(source, "sample", "exec").co_code + source.encode() for source in sources}) == len(sources)
    assert not any("no code" not in source or "Nor does" not in source for source in sources)
