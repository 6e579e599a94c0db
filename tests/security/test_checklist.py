"""Each rule of the security checklist has its tests, and they exist."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from checklists import expected, nowhere, read_rows

ROOM = Path(__file__).parent
RULES = 39


def test_every_rule_has_its_tests():
    """S1 to S39 stand in the README once each, with what holds them or why nothing can."""
    rows = read_rows(ROOM / "README.md")
    assert expected(S=RULES) == {row.name for row in rows}
    assert {1} == set(Counter(row.name for row in rows).values())
    assert [] == [row.name for row in rows if not row.is_held]


def test_every_test_of_the_list_exists():
    """What the README names is there: a test that was renamed or removed is missed."""
    rows = read_rows(ROOM / "README.md")
    assert [] == [(row.name, test) for row in rows for test in row.tests if nowhere(test, ROOM)]


def test_what_is_missing_is_seen(tmp_path):
    """The reading of the list itself: ranges, rules without tests, and names that are not there."""
    (tmp_path / "README.md").write_text(
        "| # | rule | test |\n|---|---|---|\n| S1-S3 | a | `test_a.py::test_b` |\n| S4, S5 | b | words |\n"
        "| S6 | c | none: there is no such thing |\n"
    )
    (tmp_path / "test_a.py").write_text("def test_b(): ...\n")
    rows = {row.name: row for row in read_rows(tmp_path / "README.md")}
    assert expected(S=6) == set(rows)
    assert ["S4", "S5"] == [name for name, row in rows.items() if not row.is_held]
    assert not nowhere("test_a.py::test_b", tmp_path)
    assert nowhere("test_a.py::test_c", tmp_path)
    assert nowhere("test_b.py", tmp_path)
