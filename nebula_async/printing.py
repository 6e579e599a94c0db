"""Text of others as a terminal or a page shows it: nothing in it is obeyed."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return text with its control characters, and whatever else cannot be seen, written as escapes; lines stay."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def on_one_line(text: str) -> str:
    """Return text that a terminal shows in one line, and does not obey."""
    return printable(text).replace("\n", r"\n")
