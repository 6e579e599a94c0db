"""The entries of a manifest's file, text, CSV or JSON lines: for each its line and its fields, or what is wrong."""

from __future__ import annotations

import codecs
import csv
import json
import math
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeAlias

from nebula_async.checks import encoded_size, is_blank, shown
from nebula_async.errors import JobError
from nebula_async.requests import DIALECTS, field_names

MAX_LINE = 2**25  # characters: room for a picture as a data URL, and an end to a file without line breaks
MAX_DIGITS = 100  # Python reads a long number in quadratic time, and no field takes one

COLUMNS = frozenset({"dialect"}).union(*map(field_names, DIALECTS.values())) - {"extra"}  # which fits into no cell
WHOLE_COLUMNS = frozenset({"width", "height", "num_steps", "seed", "n"})
NUMBER_COLUMNS = frozenset({"guidance_scale"})
PROSE_COLUMNS = frozenset({"prompt", "negative_prompt"})
WHOLE = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS}}}")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
TOO_DEEP = "the values are nested too deeply"

Fields: TypeAlias = Mapping[str, Any]
Entry: TypeAlias = "tuple[int, Fields | str]"
"""The line where an entry begins, and its fields or what is wrong with it."""


def check_file(path: Path) -> None:
    """Refuse what cannot be read or is of no known kind. Raises `JobError`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise JobError(f"{path} is no file but a folder or a device; {_expected()}")
        path.open("rb").close()
    except OSError as error:
        raise JobError(f"{path} cannot be read ({error.strerror}); {_expected()}") from error
    if path.suffix.lower() not in _READERS:
        raise JobError(f"{path} is of no known kind; {_expected()}")


def _expected() -> str:
    return f"give a file whose name ends in {', '.join(_READERS)}"


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a file one at a time; memory does not grow with it. Raises `JobError`."""
    try:
        with path.open("rb") as file:
            head = file.read(2)
        if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            yield 1, "the file is UTF-16; save it as UTF-8"
            return
        # wrong bytes become lone surrogates: one bad line does not end the reading
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            yield from _READERS[path.suffix.lower()](text)
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}") from error


def _lines(file: TextIO) -> Iterator[str]:
    for number, text in enumerate(iter(lambda: file.readline(MAX_LINE + 1), ""), 1):
        if len(text) > MAX_LINE:
            raise JobError(f"{file.name}:{number}: the line is longer than {MAX_LINE} characters; is this a text file?")
        yield text


def _attempt(read: Callable[[Any], Fields], given: str | Sequence[str]) -> Fields | str:
    try:
        return read(given)
    except ValueError as error:
        return str(error)


def _checked(text: str) -> str:
    if "\0" in text:
        raise ValueError("there is a NUL byte; save the file as UTF-8 text")
    if encoded_size(text) == math.inf:
        wrong = next(char for char in text if "\ud800" <= char <= "\udfff")
        raise ValueError(f"byte 0x{ord(wrong) & 0xFF:02x} is not UTF-8; save the file as UTF-8")
    return text


def _by_line(read: Callable[[str], Fields], file: TextIO) -> Iterator[Entry]:
    lines = enumerate(_lines(file), 1)
    return ((line, _attempt(read, text)) for line, text in lines if not is_blank(text))


def _read_prompt(text: str) -> Fields:
    return {"prompt": _checked(text).strip()}


def _read_object(text: str) -> Fields:
    try:
        value = _JSON.decode(_checked(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}; write one whole JSON object on each line") from error
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if isinstance(value, str):
        return {"prompt": value}
    if isinstance(value, dict):
        return value
    raise ValueError(f"a line must be an object of fields, or a text that is the prompt; got {type(value).__name__}")


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> Fields:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {shown(name)} is there more than once; keep one")
    return fields


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; no field takes more than {MAX_DIGITS}")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; give a number")


_JSON = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_int=_whole, parse_constant=_refuse_constant)


def _by_row(delimiter: str, file: TextIO) -> Iterator[Entry]:
    rows = _rows(delimiter, file)
    for line, header in rows:
        problem = header if isinstance(header, str) else _header_problem(header)
        if problem:
            yield line, problem
            return
        read = partial(_read_cells, header)
        yield from ((line, cells if isinstance(cells, str) else _attempt(read, cells)) for line, cells in rows)


def _rows(delimiter: str, file: TextIO) -> Iterator[tuple[int, Sequence[str] | str]]:
    """Yield line and cells of each row, or what is wrong; nothing follows that: where the next begins is not known."""
    reader = csv.reader(_lines(file), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if not all(map(is_blank, cells)):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        yield line, f"the row cannot be read ({error}), nor those below: is a closing quote missing?"


def _header_problem(header: Sequence[str]) -> str | None:
    names = [name.strip() for name in header]
    known = f"known are {', '.join(sorted(COLUMNS))}"
    if unknown := [shown(name) for name in names if name not in COLUMNS]:
        return f"unknown column {', '.join(unknown)}; {known}"
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        return f"column {', '.join(repeated)} is there more than once; keep one"
    return None if "prompt" in names else f"a column prompt must be given; {known}"


def _read_cells(header: Sequence[str], cells: Sequence[str]) -> Fields:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells under {len(header)} columns; quote a cell that holds a separator")
    named = zip((name.strip() for name in header), cells, strict=True)
    return {name: _read_cell(name, cell) for name, cell in named if not is_blank(cell)}


def _read_cell(name: str, cell: str) -> str | float:
    text = _checked(cell)
    if name not in WHOLE_COLUMNS | NUMBER_COLUMNS:
        return text if name in PROSE_COLUMNS else text.strip()
    whole, digits = name in WHOLE_COLUMNS, text.strip()
    if not (WHOLE if whole else NUMBER).fullmatch(digits):  # int() and float() accept 1_000, nan and other scripts
        raise ValueError(f"{name} must be a {'whole ' * whole}number; got {shown(text)}")
    return int(digits) if whole else float(digits)


_READERS: Mapping[str, Callable[[TextIO], Iterator[Entry]]] = {
    ".txt": partial(_by_line, _read_prompt),
    ".csv": partial(_by_row, ","),
    ".tsv": partial(_by_row, "\t"),
    ".jsonl": partial(_by_line, _read_object),
}
