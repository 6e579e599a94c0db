"""Validators for the values that users write: each refusal names the field, what was given and what is allowed."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from attrs import Attribute, field, frozen

from nebula_async.errors import NebulaError

Validator: TypeAlias = Callable[[Any, "Attribute[Any]", Any], None]

MAX_TEXT_BYTES = 64 * 2**20
"""No text can be longer than the largest request body."""

MAX_SHOWN = 60
"""Longer values are cut in messages."""


@frozen
class Checks:
    """attrs validators that raise `error`; `None` passes each of them where `optional` is set.

    `show` gives the form in which a value that is refused stands in the message.
    """

    error: type[NebulaError]
    show: Callable[[object], str] = field(factory=lambda: shown)

    def whole(self, low: int, high: int, *, optional: bool = False) -> Validator:
        """Accept an `int` from `low` to `high`: no bool, no float, no text."""
        allowed = f"a whole number from {low} to {high}"
        return self._validator(lambda value: type(value) is int and low <= value <= high, allowed, optional)

    def number(self, low: float, high: float, *, optional: bool = False, above: bool = False) -> Validator:
        """Accept a finite `int` or `float` from `low` (or `above` it) to `high`; negative zero is refused."""
        bounds = f"above {low:.10g} and up to" if above else f"from {low:.10g} to"
        allowed = f"a number {bounds} {high:.10g}"

        def fits(value: object) -> bool:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            in_range = low < value <= high if above else low <= value <= high
            return in_range and math.copysign(1, value) > 0

        return self._validator(fits, allowed, optional)

    def text(self, *, optional: bool = False, blank: bool = False, max_bytes: int = MAX_TEXT_BYTES) -> Validator:
        """Accept text that UTF-8 can carry; without `blank`, at least one character must be visible."""
        size = f"{max_bytes >> 20} MiB" if max_bytes >> 20 else f"{max_bytes} bytes"
        allowed = f"{'text' if blank else 'text that is not blank,'} of at most {size} of UTF-8"

        def fits(value: object) -> bool:
            return isinstance(value, str) and encoded_size(value) <= max_bytes and (blank or not is_blank(value))

        return self._validator(fits, allowed, optional)

    def one_of(self, choices: Collection[str], *, optional: bool = False) -> Validator:
        """Accept exactly one of these words."""
        allowed = f"one of {', '.join(sorted(choices))}"
        return self._validator(lambda value: isinstance(value, str) and value in choices, allowed, optional)

    def form(self, pattern: re.Pattern[str], allowed: str, *, optional: bool = False) -> Validator:
        """Accept text that the pattern matches as a whole; `allowed` says in words what that is."""
        return self._validator(
            lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None, allowed, optional
        )

    def flag(self) -> Validator:
        """Accept `True` or `False`."""
        return self._validator(lambda value: type(value) is bool, "True or False", optional=False)

    def callable(self) -> Validator:
        """Accept what can be called."""
        return self._validator(callable, "callable", optional=False)

    def kind(self, *kinds: type, optional: bool = False) -> Validator:
        """Accept an instance of one of these classes."""
        names = " or ".join(kind.__name__ for kind in kinds)
        return self._validator(lambda value: isinstance(value, kinds), names, optional)

    def _validator(self, fits: Callable[[object], bool], allowed: str, optional: bool) -> Validator:
        def validate(_instance: object, attribute: Attribute[Any], value: object) -> None:
            if (value is None and optional) or fits(value):
                return
            raise self.error(f"{attribute.name} must be {allowed}; got {self.show(value)}")

        return validate


def is_blank(text: str) -> bool:
    """Whether nothing of the text is visible: only white space, control and zero-width characters."""
    first = text[:1]
    if first > " " and first.isprintable():  # as nearly every text begins: spares the look at each character
        return False
    return all(char.isspace() or unicodedata.category(char) in {"Cc", "Cf"} for char in text)


def encoded_size(text: str) -> float:
    """Return the size in UTF-8 bytes; infinite for text with a lone surrogate, which no request can carry."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return math.inf


def shown(value: object) -> str:
    """Return a short form of a value on one line, for a message; with its type where that is the point."""
    if isinstance(value, str | bytes | bytearray) and len(value) > MAX_SHOWN:
        return f"{value[:MAX_SHOWN]!r}… ({len(value)} {'characters' if isinstance(value, str) else 'bytes'})"
    form = _form(value)
    cut = form if len(form) <= MAX_SHOWN else f"{form[:MAX_SHOWN]}…"
    return cut if value is None or isinstance(value, str) else f"{cut} ({type(value).__name__})"


def _form(value: object) -> str:
    try:
        return " ".join(repr(value).split())
    except (ValueError, RecursionError):  # a number of more than 4,300 digits; lists nested without end
        return "a value that cannot be shown"
