"""Which rows of the checklist a test names: in its sentence, `…is not stormed (F1).`, or as its cases, `F5-reset`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

TOLD = re.compile(r"\b[FDB][0-9]{1,2}\b")
CASE = re.compile(r"[FDB][0-9]{1,2}(?=-|$)")

Tests = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def rows_of(file: Path) -> Mapping[str, frozenset[str]]:
    """Return the rows that each test of a file names."""
    module = ast.parse(file.read_text())
    values = dict(_assigned(module))
    tests = (node for node in ast.walk(module) if isinstance(node, Tests) and node.name.startswith("test"))
    return {test.name: frozenset(_named(test, values)) for test in tests}


def rows_named(file: Path, test: str = "") -> frozenset[str]:
    """Return the rows that one test of a file names, or all of them."""
    found = rows_of(file)
    return found.get(test, frozenset()) if test else frozenset().union(*found.values())


def _assigned(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in module.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from ((target.id, node.value) for target in targets if isinstance(target, ast.Name) and node.value)


def _named(test: Tests, values: Mapping[str, ast.expr]) -> Iterator[str]:
    yield from TOLD.findall(ast.get_docstring(test) or "")
    for text in _texts(test.decorator_list, values):
        if case := CASE.match(text):
            yield case[0]


def _texts(nodes: list[ast.expr], values: Mapping[str, ast.expr]) -> Iterator[str]:
    """Yield the texts of decorators, and of what they are made of in the same file."""
    left, seen = list(nodes), set[str]()
    while left:
        for node in ast.walk(left.pop()):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.Name) and node.id in values and node.id not in seen:
                seen.add(node.id)
                left.append(values[node.id])
