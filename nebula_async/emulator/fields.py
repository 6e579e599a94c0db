"""What a request body may hold: one row for each field, and how values are checked against the rows."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeGuard

import attrs

Problem = tuple[str, str, str]
"""What is wrong with a body: the field (empty for the body itself), a message, and pydantic's name for it."""


@attrs.frozen
class Field:
    """One field of a request body, in the words of JSON Schema; null always means that it is left out."""

    name: str
    type: Literal["string", "integer", "number"]
    description: str
    required: bool = attrs.field(default=False, kw_only=True)
    minimum: int | None = attrs.field(default=None, kw_only=True)
    maximum: int | None = attrs.field(default=None, kw_only=True)
    enum: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    pattern: str | None = attrs.field(default=None, kw_only=True)
    default: str | int | float | None = attrs.field(default=None, kw_only=True)

    def problem(self, value: object) -> Problem | None:
        """Return what is wrong with a value, if anything is, as FastAPI would say it."""
        if value is None:
            return (self.name, "Field required", "missing") if self.required else None
        found = self._type_problem(value) or self._range_problem(value) or self._text_problem(value)
        return None if found is None else (self.name, *found)

    def _type_problem(self, value: object) -> tuple[str, str] | None:
        match self.type:
            case "string":
                return None if isinstance(value, str) else ("Input should be a valid string", "string_type")
            case "integer":
                return None if is_integer(value) else ("Input should be a valid integer", "int_type")
        return None if is_number(value) else ("Input should be a valid number", "float_type")

    def _range_problem(self, value: Any) -> tuple[str, str] | None:
        # Put so that NaN, which is neither more nor less than anything, is out of every range.
        if self.minimum is not None and not value >= self.minimum:
            return f"Input should be greater than or equal to {self.minimum}", "greater_than_equal"
        if self.maximum is not None and not value <= self.maximum:
            return f"Input should be less than or equal to {self.maximum}", "less_than_equal"
        return None

    def _text_problem(self, value: Any) -> tuple[str, str] | None:
        if self.enum and value not in self.enum:
            return f"Input should be {' or '.join(map(repr, self.enum))}", "literal_error"
        if self.pattern is not None and not _matches(self.pattern, value):
            return f"String should match pattern '{self.pattern}'", "string_pattern_mismatch"
        return None


def is_integer(value: object) -> TypeGuard[int | float]:
    """Whether a JSON value is an integer as JSON Schema has it: 1.0 is one, true is none."""
    return is_number(value) and (isinstance(value, int) or value.is_integer())


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a JSON value is a number: true is none, although Python counts with it."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def find_problems(fields: Mapping[str, Any], table: Iterable[Field]) -> Iterator[Problem]:
    """Find what is wrong with the fields of a body, in the order of the table; fields it does not know are ignored."""
    problems = (row.problem(fields.get(row.name)) for row in table)
    return (problem for problem in problems if problem is not None)


def read_values(fields: Mapping[str, Any], table: Iterable[Field]) -> dict[str, Any]:
    """Return the values of checked fields: without those left out, and every integer as one."""
    given = ((row, fields.get(row.name)) for row in table)
    return {row.name: int(value) if row.type == "integer" else value for row, value in given if value is not None}


def read_defaults(table: Iterable[Field]) -> dict[str, Any]:
    """Return what stands where a field is left out."""
    return {row.name: row.default for row in table if row.default is not None}


def _matches(pattern: str, text: str) -> bool:
    # JSON Schema's $ is the very end of a text; Python's also stands before a last line feed.
    return re.search(re.sub(r"\$$", r"\\Z", pattern), text) is not None
