"""The entries of a manifest's file: for each its line and its fields, or what is wrong with it."""

from __future__ import annotations

import codecs
import gzip
import io
import math
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, TextIO, TypeAlias, cast

from nebula_async.checks import encoded_size, is_blank
from nebula_async.errors import JobError

MAX_LINE = 2**25  # characters: room for a picture as a data URL, and an end to a file without line breaks

GZIP = b"\x1f\x8b"
DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error)
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Fields: TypeAlias = Mapping[str, Any]
Entry: TypeAlias = "tuple[int, Fields | str]"
"""The line where an entry begins, and its fields or what is wrong with it."""

Lines: TypeAlias = Iterator[str]


def check_readable(path: Path, hint: str) -> None:
    """Refuse what is no file or cannot be opened; `hint` says what to give. Raises `JobError`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise JobError(f"{path} is no file but a folder or a device; {hint}")
        path.open("rb").close()
    except OSError as error:
        raise JobError(f"{path} cannot be read ({error.strerror}); {hint}") from error


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, through gzip where its name or its first bytes say so."""
    with path.open("rb") as file:
        head = file.peek(len(GZIP))[: len(GZIP)]
        if head == GZIP or path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                yield cast("IO[bytes]", unpacked)
        else:
            yield file


def read_text(path: Path, name: str, read: Callable[[Lines], Iterator[Entry]]) -> Iterator[Entry]:
    """Yield what `read` makes of the lines of a file, which messages call `name`; memory does not grow with it.

    Raises `JobError` for what cannot be read, for compressed bytes that are damaged and for a line without end.
    """
    try:
        with open_bytes(path) as file:
            if _head(file, name) in UTF_16:
                yield 1, "the file is UTF-16; save it as UTF-8"
                return
            # wrong bytes become lone surrogates: one bad line does not end the reading
            text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
            yield from read(_lines(text, name))
    except OSError as error:
        raise JobError(f"{name} cannot be read: {error.strerror}; mend that, or give another file") from error


def checked(text: str) -> str:
    """Return text that was read. Raises `ValueError` for a NUL, and for bytes that are not UTF-8."""
    if "\0" in text:
        raise ValueError("there is a NUL byte; save the file as UTF-8 text")
    if encoded_size(text) == math.inf:
        wrong = next(char for char in text if "\ud800" <= char <= "\udfff")
        raise ValueError(f"byte 0x{ord(wrong) & 0xFF:02x} is not UTF-8; save the file as UTF-8")
    return text


def by_line(read: Callable[[str], Fields], lines: Lines) -> Iterator[Entry]:
    """Yield an entry for each line that is not blank."""
    return ((line, attempt(read, text)) for line, text in enumerate(lines, 1) if not is_blank(text))


def attempt(read: Callable[[Any], Fields], given: Any) -> Fields | str:
    """Return the fields that `read` finds, or what it says is wrong."""
    try:
        return read(given)
    except ValueError as error:
        return str(error)


def read_prompt(text: str) -> Fields:
    """Return a line of a text file as a prompt. Raises `ValueError`."""
    return {"prompt": checked(text).strip()}


def _head(file: IO[bytes], name: str) -> bytes:
    try:
        return file.peek(2)[:2]  # type: ignore[attr-defined, no-any-return]  # both kinds of file have it
    except DAMAGE as error:
        raise _damaged(name, 1, error) from error


def _lines(file: TextIO, name: str) -> Lines:
    number = 0
    try:
        for number, text in enumerate(iter(partial(file.readline, MAX_LINE + 1), ""), 1):
            if len(text) > MAX_LINE:
                raise JobError(f"{name}:{number}: the line is longer than {MAX_LINE} characters; is this a text file?")
            yield text
    except DAMAGE as error:
        raise _damaged(name, number + 1, error) from error


def _damaged(name: str, line: int, error: Exception) -> JobError:
    return JobError(f"{name}:{line}: the gzip data is damaged or ends too early ({error}); make the file again")
