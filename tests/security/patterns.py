"""The regular expressions of the package, and what is hardest for each of them."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from re import _parser as syntax  # what `re` itself reads patterns with
from typing import Any

from attrs import frozen

import nebula_async

PACKAGE = Path(nebula_async.__file__).parent
METHODS = ("search", "match", "fullmatch", "finditer", "findall", "split", "sub")
REPEATS = {syntax.MAX_REPEAT, syntax.MIN_REPEAT}
MANY = 100
"""A repetition of fewer is no danger by itself."""


@frozen
class Use:
    """A pattern, and a way in which a module uses it."""

    module: str
    pattern: re.Pattern[Any]
    method: str

    def __str__(self) -> str:
        return f"{self.module} {self.method} {self.pattern.pattern!r}"

    def seconds(self, text: Any) -> float:
        """Return the processor time that it takes over a text."""
        started = time.thread_time()
        match self.method:
            case "sub":
                self.pattern.sub("" if isinstance(text, str) else b"", text)
            case "finditer":
                for _ in self.pattern.finditer(text):
                    pass
            case method:
                getattr(self.pattern, method)(text)
        return time.thread_time() - started


def uses() -> list[Use]:
    """Return the uses of all patterns in the package."""
    found = [use for path in sorted(PACKAGE.rglob("*.py")) for use in _uses_in(path.relative_to(PACKAGE).as_posix())]
    return list(dict.fromkeys(found))


def _uses_in(module: str) -> Iterator[Use]:
    tree = ast.parse((PACKAGE / module).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    if not any(
        isinstance(node, ast.Import) and any(each.name == "re" for each in node.names) for node in ast.walk(tree)
    ):
        return
    loaded = importlib.import_module("nebula_async." + module.removesuffix(".py").replace("/", "."))
    kept = {name: value for name, value in vars(loaded).items() if isinstance(value, re.Pattern)}
    for node in calls:
        method, owner = node.func.attr, ast.unparse(node.func.value)
        if owner == "re" and method in METHODS and (text := _constant(node.args[0], loaded)) is not None:
            yield Use(module, re.compile(text), method)
        if owner in kept and method in METHODS:
            yield Use(module, kept[owner], method)
    named = {ast.unparse(node.func.value) for node in calls if node.func.attr in METHODS}
    for name in kept.keys() - named:  # handed on: the way that looks everywhere is the hardest
        yield from (Use(module, kept[name], method) for method in ("search", "fullmatch"))


def _constant(node: ast.expr, loaded: Any) -> str | bytes | None:
    try:
        return eval(ast.unparse(node), vars(loaded))  # noqa: S307 - a constant of the package
    except NameError:  # a local name
        return None


def nested(pattern: re.Pattern[Any]) -> bool:
    """Whether a repetition without bound stands inside of another one, with nothing between to tell their turns."""
    return any(_is_nested(item) for item in _items(syntax.parse(pattern.pattern, pattern.flags)))


def _items(parsed: Any) -> Iterator[tuple[Any, Any]]:
    for kind, value in parsed:
        yield kind, value
        for part in _parts(value):
            yield from _items(part)


def _parts(value: Any) -> Iterator[Any]:
    for each in value if isinstance(value, tuple | list) else (value,):
        if isinstance(each, syntax.SubPattern):
            yield each
        elif isinstance(each, tuple | list):
            yield from _parts(each)


def _is_nested(item: tuple[Any, Any]) -> bool:
    kind, value = item
    if kind not in REPEATS or value[1] < MANY:
        return False
    inner = [*_items(value[2])]
    fixed = [each for each in value[2] if each[0] not in REPEATS]
    is_told_apart = any(each[0] in (syntax.LITERAL, syntax.IN, syntax.NOT_LITERAL) for each in fixed)
    return any(each[0] in REPEATS and each[1][1] >= MANY for each in inner) and not is_told_apart


def hardest(pattern: re.Pattern[Any]) -> list[Callable[[int], Any]]:
    """Return makers of texts, by size, that come close to a match again and again and never end in one."""
    letters = list(dict.fromkeys(_letters(pattern)))[:6]
    words = letters + ["".join(pair) for pair in itertools.permutations(letters[:4], 2)] + ["".join(letters)]
    is_bytes = isinstance(pattern.pattern, bytes)

    def maker(word: str, end: str) -> Callable[[int], Any]:
        def make(size: int) -> Any:
            text = (word * (size // len(word) + 1))[: size - 1] + end
            return text.encode("latin-1", "replace") if is_bytes else text

        return make

    return [maker(word, end) for word in words for end in ("\0", "~")]


def _letters(pattern: re.Pattern[Any]) -> Iterator[str]:
    for kind, value in _items(syntax.parse(pattern.pattern, pattern.flags)):
        if kind is syntax.LITERAL:
            yield chr(value)
        if kind is syntax.IN:
            yield from _of_set(value)
        if kind is syntax.ANY or kind is syntax.NOT_LITERAL:
            yield "x"


def _of_set(value: Any) -> Iterator[str]:
    known = {syntax.CATEGORY_DIGIT: "1", syntax.CATEGORY_SPACE: " ", syntax.CATEGORY_WORD: "w"}
    if value[0][0] is syntax.NEGATE:
        yield "x"
    for kind, what in value:
        if kind is syntax.LITERAL:
            yield chr(what)
        if kind is syntax.RANGE:
            yield chr(what[0])
        if kind is syntax.CATEGORY:
            yield known.get(what, "x")
