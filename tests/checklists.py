"""Checklists as pages of a suite: tables whose rows name a rule or a fault, and the tests that hold it."""

from __future__ import annotations

import ast
import itertools
import re
from functools import cache
from pathlib import Path

from attrs import frozen

TESTS = Path(__file__).parent

NAME = re.compile(r"([A-Z])([0-9]+)(?:-\1([0-9]+))?")
"""A row, `F12`, or several that follow each other, `B14-B19`."""

QUOTED = re.compile(r"`([^`]+)`")
TEST = re.compile(r"[\w/]+\.py(::\w+)?")
NO_TEST = "none: "


@frozen
class Row:
    """One line of a checklist: `tests` are files, or `file::test`, and `text` is all that its last cell says."""

    name: str
    text: str
    tests: tuple[str, ...]

    @property
    def is_held(self) -> bool:
        """Whether the row names a test, or says why it can have none: `none: …`."""
        return bool(self.tests) or (self.text.startswith(NO_TEST) and len(self.text) > 2 * len(NO_TEST))


def read_rows(page: Path) -> list[Row]:
    """Return the rows of all tables of a page, in its order; a line that stands for several rows gives each of them."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [Row(name, rest[-1], _tests(rest[-1])) for first, *rest in cells for name in names(first)]


def names(text: str) -> list[str]:
    """Return the rows that a cell stands for: `F27, F28`, `B14-B19`."""
    parts = [NAME.fullmatch(part) for part in text.split(", ")]
    return [f"{kind}{n}" for m in parts if m for kind, n in zip(itertools.repeat(m[1]), _numbers(m), strict=False)]


def expected(**last: int) -> set[str]:
    """Return the names of all rows: `expected(S=39)` is S1 to S39."""
    return {f"{kind}{number}" for kind, count in last.items() for number in range(1, count + 1)}


def nowhere(test: str, room: Path) -> bool:
    """Whether a test that a page of a room names does not exist; its path is one of that room, or one of `tests/`."""
    path, _, name = test.partition("::")
    file = next((place / path for place in (room, TESTS) if (place / path).is_file()), None)
    return file is None or (bool(name) and name not in tests_in(file))


@cache
def tests_in(file: Path) -> frozenset[str]:
    """Return the names of the test functions and classes of a file, as pytest finds them."""
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, defined)}
    return frozenset(name for name in found if name.lower().startswith("test"))


def _numbers(match: re.Match[str]) -> range:
    return range(int(match[2]), int(match[3] or match[2]) + 1)


def _tests(text: str) -> tuple[str, ...]:
    return tuple(each for each in QUOTED.findall(text) if TEST.fullmatch(each))
