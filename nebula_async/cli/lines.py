"""Lines for people: on a terminal wrapped at words below their own beginning, elsewhere as they are."""

from __future__ import annotations

import os
import textwrap
from typing import TextIO

from rich.cells import cell_len, set_cell_size

HANGING = "  "
NARROWEST = 20
"""Columns: on a terminal that has fewer, wrapping at words makes nothing better."""

USUAL_COLUMNS = 80
MOST_ROWS = 2


def columns_of(stream: TextIO | None) -> int | None:
    """Return how wide the terminal is that a stream writes to, `None` where it is no terminal."""
    try:
        return None if stream is None else os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):  # it is a file or a pipe, or closed
        return None


def fitted(text: str, columns: int | None) -> str:
    """Return text as a terminal of so many columns shows it best; `None` columns: no terminal, and no line is broken.

    A word is never broken: whoever copies a path or a URL gets it whole.
    """
    return text if columns is None else "\n".join(_wrapped(line, columns) for line in text.split("\n"))


def with_short_fact(head: str, fact: str, tail: str, columns: int | None) -> str:
    """Return `head`, `fact` and `tail` as one line, in which the fact is shortened at a word so that a terminal of so
    many columns shows all of it in two rows.
    """
    whole = fitted(f"{head}{fact}{tail}", columns)
    if columns is None or _rows(whole, columns) <= MOST_ROWS:
        return whole
    rooms = range(MOST_ROWS * columns, 1, -1)
    shorter = (fitted(f"{head}{textwrap.shorten(fact, room, placeholder='…')}{tail}", columns) for room in rooms)
    return next((text for text in shorter if _rows(text, columns) <= MOST_ROWS), fitted(f"{head}…{tail}", columns))


def shortened(text: str, columns: int) -> str:
    """Return text that takes at most so many columns."""
    return text if cell_len(text) <= columns else f"{set_cell_size(text, columns - 1).rstrip()}…"


def _wrapped(line: str, columns: int) -> str:
    if cell_len(line) <= columns or columns < NARROWEST:
        return line
    margin = " " * (len(line) - len(line.lstrip(" ")))
    first, *words = line.split()
    rows = [f"{margin}{first}"]
    for word in words:
        longer = f"{rows[-1]} {word}"
        if cell_len(longer) <= columns:
            rows[-1] = longer
        else:
            rows.append(f"{margin}{HANGING}{word}")
    return "\n".join(rows)


def _rows(text: str, columns: int) -> int:
    """Return how many rows of a terminal text takes."""
    return sum(max(-(-cell_len(line) // columns), 1) for line in text.split("\n"))
