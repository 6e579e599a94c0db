"""Small wrong changes of a module, one at a time: each is what a hurried edit could leave behind."""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterator

from attrs import frozen

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd,
}  # fmt: skip
OTHER_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}

SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WHERE|FROM)\b")
SQL_SWAPS = {
    "max": "min", "min": "max", "sum": "max", "count": "max", ">": ">=", "+": "-", "-": "+", "AND": "OR", "=": "!=",
    "IS NOT NULL": "IS NULL", "IS NULL": "IS NOT NULL", "NOT listed": "listed", "IS NOT": "IS", "NULL": "1",
    "OR REPLACE": "OR IGNORE", "UNION ALL": "UNION", "0": "1", "1": "0",
}  # fmt: skip
SQL_WORDS = re.compile(
    r"\b(?:max|min|sum|count)(?=\()|(?<= )[>+-](?= )"
    r"|(?<=WHERE \w{3} )=|(?<=WHERE \w{4} )=|(?<=WHERE \w{5} )=|(?<=AND \w )="
    r"|\bIS NOT NULL\b|\bIS NULL\b|\bNOT listed\b|\bIS NOT\b|\bNULL\b|\bOR REPLACE\b|\bUNION ALL\b|\bAND\b|\b[01]\b"
)


@frozen
class Mutant:
    """A module with one change: in which function, from what to what, in which line, and the whole of its source."""

    name: str
    line: int
    source: str


def mutants_of(source: str) -> list[Mutant]:
    """Return every mutant of a module."""
    tree = ast.parse(source)
    seen: Counter[str] = Counter()
    found = []
    for path, where in _places(tree):
        for change in _changes(_at(tree, path)):
            twin = copy.deepcopy(tree)
            before, after = _at(twin, path), copy.deepcopy(change)
            _put(twin, path, ast.copy_location(after, before))
            name = f"{where}: {getattr(change, 'told', None) or f'{_text(before)} → {_text(after)}'}"
            seen[name] += 1
            name += f" #{seen[name]}" if seen[name] > 1 else ""
            found.append(Mutant(name, before.lineno, ast.unparse(ast.fix_missing_locations(twin))))
    return found


Path = tuple[tuple[str, int | None], ...]


def _places(tree: ast.AST, path: Path = (), where: str = "module") -> Iterator[tuple[Path, str]]:
    """Yield where expressions and statements stand, and in which function; what only describes is left out."""
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        where = tree.name if where == "module" else f"{where}.{tree.name}"
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "bases") or isinstance(
            tree, ast.Import | ast.ImportFrom
        ):
            continue
        nodes = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, node in nodes:
            if isinstance(node, ast.expr | ast.stmt) and not _is_docstring(node):
                step = (*path, (name, index))
                yield step, where
                yield from _places(node, step, where)
            elif isinstance(node, ast.AST):
                yield from _places(node, (*path, (name, index)), where)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _at(node: ast.AST, path: Path) -> ast.AST:
    for name, index in path:
        node = getattr(node, name) if index is None else getattr(node, name)[index]
    return node


def _put(tree: ast.AST, path: Path, node: ast.AST) -> None:
    above, (name, index) = _at(tree, path[:-1]), path[-1]
    if index is None:
        setattr(above, name, node)
    else:
        getattr(above, name)[index] = node


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:150]


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare() | ast.BoolOp() | ast.BinOp() | ast.AugAssign() | ast.UnaryOp() | ast.Name():
            yield from _other_operators(node)
        case ast.IfExp() | ast.If():
            twin = copy.copy(node)
            twin.test = ast.UnaryOp(ast.Not(), node.test)
            yield twin
        case ast.Constant():
            yield from _other_constants(node.value)
        case ast.Set() | ast.Tuple() | ast.Dict():
            yield from _shorter_collections(node)
        case ast.Return() | ast.Expr() | ast.Raise() | ast.Assign():
            yield from _other_statements(node)


def _other_operators(node: ast.AST) -> Iterator[ast.AST]:
    twin = copy.copy(node)
    match node:
        case ast.Compare(ops=[first]) if type(first) in SWAPS:
            twin.ops = [SWAPS[type(first)]()]
        case ast.BoolOp() | ast.BinOp() | ast.AugAssign() if type(node.op) in SWAPS:
            twin.op = SWAPS[type(node.op)]()
        case ast.UnaryOp(op=ast.Not()):
            twin = node.operand
        case ast.Name() if node.id in OTHER_NAMES:
            twin.id = OTHER_NAMES[node.id]
        case _:
            return
    yield twin


def _other_statements(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Return(value=None | ast.Constant(value=None)):
            return
        case ast.Return():
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Assign(targets=[ast.Attribute()]):
            yield ast.Pass()


def _shorter_collections(node: ast.Set | ast.Tuple | ast.Dict) -> Iterator[ast.AST]:
    """Leave out one member after the other."""
    names = ("keys", "values") if isinstance(node, ast.Dict) else ("elts",)
    members = getattr(node, names[0])
    if len(members) < 2 or isinstance(getattr(node, "ctx", None), ast.Store):
        return
    for index, member in enumerate(members):
        twin = copy.copy(node)
        for name in names:
            setattr(twin, name, [each for place, each in enumerate(getattr(node, name)) if place != index])
        yield _told(twin, f"without {_text(member)}")


def _other_constants(value: object) -> Iterator[ast.AST]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
    elif isinstance(value, str) and SQL.match(value):
        yield from _other_statements_of_sql(value)
    elif isinstance(value, str | bytes) and value and b" " not in (value.encode() if isinstance(value, str) else value):
        yield ast.Constant(value + value[-1:])


def _other_statements_of_sql(text: str) -> Iterator[ast.AST]:
    for found in SQL_WORDS.finditer(text):
        before, after = text[: found.start()], text[found.end() :]
        where = " ".join(f"{before[-30:]}[{found[0]} → {SQL_SWAPS[found[0]]}]{after[:20]}".split())
        yield _told(ast.Constant(before + SQL_SWAPS[found[0]] + after), where)


def _told(node: ast.AST, text: str) -> ast.AST:
    node.told = text
    return node
