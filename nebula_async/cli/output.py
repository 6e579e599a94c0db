"""What commands print: their results on stdout, all else on stderr; a stream that nobody reads ends nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from nebula_async.cli.lines import columns_of, fitted
from nebula_async.printing import printable


def tell(text: str, *, is_prose: bool = False) -> None:
    """Print a line of the result: on stdout, control characters shown as they are escaped; prose is wrapped at words
    on a terminal, and nothing else is.

    Where nobody reads it (`| head -1`) or it finds no room, what was done stands, and so does the exit code.
    """
    _write(text, sys.stdout, columns_of(sys.stdout) if is_prose else None)


def say(text: str) -> None:
    """Tell the user something that is not the result: on stderr, control characters shown as they are escaped, and
    wrapped at words on a terminal.
    """
    _write(text, sys.stderr, columns_of(sys.stderr))


def _write(text: str, stream: TextIO | None, columns: int | None) -> None:
    if stream is None:  # it was closed when the command began, and print would take stdout instead
        return
    try:
        print(fitted(printable(text), columns), file=stream, flush=True)
    except OSError:
        silence(stream)


def silence(stream: TextIO) -> None:
    """Let nothing more be written to a stream that nobody reads, or that has no room: what waits in it neither."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is there, and a person looks at it."""
    return stream is not None and not stream.closed and stream.isatty()
