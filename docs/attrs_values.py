"""What griffe does not know of attrs: how a class that is made of fields is called. mkdocstrings loads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from griffe import Attribute, Class, Expr, ExprCall, Extension, Function, Module, Parameter, ParameterKind, Parameters

DECORATORS = {"attrs.frozen", "attrs.define"}


class AttrsValues(Extension):
    """Gives each attrs class the `__init__` that it has at run time, so that its page shows how it is called."""

    def on_package(self, *, pkg: Module, **_kwargs: Any) -> None:
        """Look at every class of a package once all of it is read: fields are inherited from other modules."""
        for made in _classes(pkg):
            if "__init__" not in made.members and _decorator(made) is not None:
                made.set_member("__init__", _init(made))


def _classes(place: Module | Class) -> Iterator[Class]:
    for member in place.members.values():
        if not member.is_alias and (member.is_module or member.is_class):
            if member.is_class:
                yield member
            yield from _classes(member)


def _decorator(made: Class) -> Expr | str | None:
    for decorator in made.decorators:
        if getattr(decorator.value, "canonical_path", None) in DECORATORS:
            return decorator.value
    return None


def _init(made: Class) -> Function:
    found: dict[str, Parameter] = {}
    for each in (*reversed(made.mro()), made):
        if (decorator := _decorator(each)) is not None:
            are_named = _arguments(decorator).get("kw_only") == "True"
            found |= {field.name: _parameter(field, are_named) for field in _fields(each)}
    named = sorted(found.values(), key=lambda parameter: parameter.kind is ParameterKind.keyword_only)
    own = Parameter("self", kind=ParameterKind.positional_or_keyword)
    init = Function("__init__", lineno=made.lineno, endlineno=made.endlineno, parent=made)
    init.parameters = Parameters(own, *named)
    init.returns = "None"
    return init


def _fields(made: Class) -> list[Attribute]:
    return [
        member
        for member in made.members.values()
        if member.is_attribute
        and member.annotation is not None
        and "property" not in member.labels
        and _arguments(member.value).get("init") != "False"
        and "ClassVar" not in str(member.annotation)
        and ("instance-attribute" in member.labels or "class-attribute" not in member.labels)
    ]


def _arguments(call: Any) -> dict[str, Any]:
    if not isinstance(call, ExprCall):
        return {}
    return {argument.name: argument.value for argument in call.arguments if hasattr(argument, "name")}


def _parameter(field: Attribute, are_named: bool) -> Parameter:
    given = _arguments(field.value) if str(field.value).startswith(("field(", "attrs.field(")) else None
    is_named = are_named if given is None else str(given.get("kw_only", are_named)) == "True"
    kind = ParameterKind.keyword_only if is_named else ParameterKind.positional_or_keyword
    return Parameter(field.name.lstrip("_"), annotation=field.annotation, kind=kind, default=_default(field, given))


def _default(field: Attribute, given: dict[str, Any] | None) -> Any:
    if given is None:
        return field.value
    if "factory" in given:
        return f"{given['factory']}()"
    return given.get("default")
