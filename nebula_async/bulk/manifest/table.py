"""CSV and TSV: a header of field names, then a row for each request; an empty cell leaves a field out."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from nebula_async.bulk.manifest.columns import CELLS, DROPPED, rename_header
from nebula_async.bulk.manifest.entries import Entry, Fields, Lines, attempt, checked
from nebula_async.bulk.manifest.json_lines import MAX_DIGITS
from nebula_async.checks import is_blank, shown

WHOLE_COLUMNS = frozenset({"width", "height", "num_steps", "seed", "n"})
NUMBER_COLUMNS = frozenset({"guidance_scale"})
PROSE_COLUMNS = frozenset({"prompt", "negative_prompt"})
WHOLE = re.compile(rf"-?[0-9]{{1,{MAX_DIGITS}}}")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def read_table(delimiter: str, columns: Mapping[str, str], lines: Lines) -> Iterator[Entry]:
    """Yield the entries of a table; where its header is wrong, that alone."""
    rows = _rows(delimiter, lines)
    for line, header in rows:
        try:
            fields = _read_header(header, columns)
        except ValueError as error:
            yield line, str(error)
            return
        read = partial(_read_cells, fields)
        yield from ((line, cells if isinstance(cells, str) else attempt(read, cells)) for line, cells in rows)


def _rows(delimiter: str, lines: Lines) -> Iterator[tuple[int, Sequence[str] | str]]:
    """Yield line and cells of each row, or what is wrong; nothing follows that: where the next begins is not known."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if not all(map(is_blank, cells)):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        yield line, f"the row cannot be read ({error}), nor those below: is a closing quote missing?"


def _read_header(header: Sequence[str] | str, columns: Mapping[str, str]) -> Sequence[str]:
    if isinstance(header, str):
        raise ValueError(header)  # noqa: TRY004 - it says what is wrong with the row
    return rename_header([name.strip() for name in header], columns, CELLS)


def _read_cells(fields: Sequence[str], cells: Sequence[str]) -> Fields:
    if len(cells) != len(fields):
        raise ValueError(f"{len(cells)} cells under {len(fields)} columns; quote a cell that holds a separator")
    named = zip(fields, cells, strict=True)
    return {name: _read_cell(name, cell) for name, cell in named if name != DROPPED and not is_blank(cell)}


def _read_cell(name: str, cell: str) -> str | float:
    text = checked(cell)
    if name not in WHOLE_COLUMNS | NUMBER_COLUMNS:
        return text if name in PROSE_COLUMNS else text.strip()
    whole, digits = name in WHOLE_COLUMNS, text.strip()
    if not (WHOLE if whole else NUMBER).fullmatch(digits):  # int() and float() accept 1_000, nan and other scripts
        raise ValueError(f"{name} must be a {'whole ' * whole}number; got {shown(text)}")
    return int(digits) if whole else float(digits)
