"""Every row of the fault checklist has a test that names it, and the page says where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from checklists import TESTS, Row, expected, read_rows
from row_names import rows_named

ROOM = Path(__file__).parent
ROWS = expected(F=64, D=14, B=54)


def problems(page: Path, tests: Path, rows: set[str]) -> list[str]:
    """Return what is wrong with a page of these rows, and with what the tests of a folder say that they hold."""
    told = read_rows(page)
    named = {file: rows_named(file) for file in sorted(tests.rglob("test_*.py"))}
    return [*_of_the_page(told, rows), *_of_its_tests(told, page.parent, tests), *_of_names(named, rows)]


def _of_the_page(told: list[Row], rows: set[str]) -> Iterator[str]:
    names = [row.name for row in told]
    yield from (f"{name} is missing" for name in sorted(rows - set(names)))
    yield from (f"{name} is no row" for name in sorted(set(names) - rows))
    yield from (f"{name} is there twice" for name in sorted({name for name in names if names.count(name) > 1}))
    yield from (f"{row.name} has no test, and does not say why" for row in told if not row.is_held)


def _of_its_tests(told: list[Row], room: Path, tests: Path) -> Iterator[str]:
    for row in told:
        for test in row.tests:
            path, _, name = test.partition("::")
            file = next((place / path for place in (room, tests) if (place / path).is_file()), None)
            if file is None:
                yield f"{row.name}: there is no {test}"
            elif row.name not in rows_named(file, name):
                yield f"{row.name} is not named in {test}"


def _of_names(named: Mapping[Path, frozenset[str]], rows: set[str]) -> Iterator[str]:
    for file, found in named.items():
        yield from (f"{file.name} names {name}, which is no row" for name in sorted(found - rows))


def test_every_row_has_its_tests():
    """Each row names tests that are there and that name it, or says why it can have none; and no test names another."""
    assert [] == problems(ROOM / "README.md", TESTS, ROWS)


def test_what_takes_longer_is_a_target():
    """What the page says is run by `make` is a target there."""
    told = set(re.findall(r"`make ([\w-]+)", (ROOM / "README.md").read_text()))
    makefile = (TESTS.parent / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    benches = re.search(r"^BENCHES := (.*)$", makefile, re.MULTILINE)[1].split()
    assert told
    assert set() == told - targets - {f"bench-{name}" for name in benches}


# The check is not blind

PAGE = """
| row | fault | tests |
|---|---|---|
| F1 | refused | `test_a.py`, `engine/test_b.py` |
| F2, F3 | slow | `test_a.py::test_slow` |
| B1 | nobody's | none: a loopback machine has no such thing |
"""
IN_A = '''
CASES = {"F2-once": 1, "F3-twice": 2}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

def test_refused():
    """It is refused (F1)."""

@cases
async def test_slow(case):
    """It is slow."""
'''
IN_B = '''
class TestHere:
    def test_refused(self):
        """F1: refused here, too."""
'''


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A page of four rows, and the tests that hold them."""
    for path, text in {"room/README.md": PAGE, "room/test_a.py": IN_A, "engine/test_b.py": IN_B}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def found(suite: Path) -> list[str]:
    """Return what is wrong there."""
    return problems(suite / "room/README.md", suite, {"F1", "F2", "F3", "B1"})


def test_a_suite_in_order(suite):
    """Rows may stand in a test's sentence or begin the names of its cases; one that has no test says why."""
    assert [] == found(suite)


BROKEN = {
    "a row is gone": ("room/README.md", "| B1 |", "| |", ["B1 is missing"]),
    "a row is nobody's": ("room/README.md", "| B1 |", "| B1, B2 |", ["B2 is no row"]),
    "a row is there twice": ("room/README.md", "| B1 |", "| B1, F1 |", ["F1 is there twice"]),
    "no test and no reason": (
        "room/README.md", "none: a loopback machine has no such thing", "", ["B1 has no test, and does not say why"],
    ),
    "a file is gone": ("room/README.md", "engine/test_b", "engine/test_c", ["F1: there is no engine/test_c.py"]),
    "a test is gone": ("room/test_a.py", "test_slow", "test_quick", [
        "F2 is not named in test_a.py::test_slow", "F3 is not named in test_a.py::test_slow",
    ]),
    "a sentence names none": ("room/test_a.py", " (F1)", "", ["F1 is not named in test_a.py"]),
    "a sentence names none elsewhere": ("engine/test_b.py", "F1: ", "", ["F1 is not named in engine/test_b.py"]),
    "a case names none": ("room/test_a.py", "F3-twice", "twice", ["F3 is not named in test_a.py::test_slow"]),
    "a name is no row": ("engine/test_b.py", "too.", "too (F65, B1).", ["test_b.py names F65, which is no row"]),
    "a file names a row that it only holds as text": (
        "room/test_a.py", '"""It is refused (F1)."""', '"""It is refused."""; said = "F1"',
        ["F1 is not named in test_a.py"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "expected"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_found(suite, file, old, new, expected):
    """Whatever is missing, or too much, on the page or in the tests, is told."""
    text = (suite / file).read_text()
    assert old in text
    (suite / file).write_text(text.replace(old, new))
    assert expected == found(suite)
