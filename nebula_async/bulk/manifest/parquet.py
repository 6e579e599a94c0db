"""Parquet manifests: a row for each request; a null leaves a field out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nebula_async.bulk.manifest.columns import DROPPED, FIELDS, rename_header
from nebula_async.bulk.manifest.entries import Entry, Fields
from nebula_async.bulk.manifest.json_lines import without_repeats
from nebula_async.checks import shown
from nebula_async.errors import JobError

ROWS_AT_ONCE = 1024
BUFFER = 2**13
"""Bytes of each column that are read at a time; else a column of a whole row group would be, which may be any size."""


def load_arrow() -> Any:
    """Return pyarrow. Raises `JobError` that says how to install it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise JobError("Parquet needs an extra: pip install 'nebula_async[parquet]'") from error
    return pyarrow


def read_parquet(path: Path, name: str, columns: Mapping[str, str]) -> Iterator[Entry]:
    """Yield the rows of a Parquet file, counted from 1; where its schema is wrong, that alone.

    Memory does not grow with the file. Raises `JobError` for what cannot be read.
    """
    arrow, row = load_arrow(), 0
    try:
        with arrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
            try:
                names = _read_schema(arrow, file.schema_arrow, columns)
            except ValueError as error:
                yield 1, str(error)
                return
            for fields in _rows(arrow, file, names):
                row += 1
                yield row, fields
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = f"{error}".partition("\n")[0]
        raise JobError(f"{name}:{row + 1}: the file is no Parquet, or damaged ({reason}); make it again") from error


def _read_schema(arrow: Any, schema: Any, columns: Mapping[str, str]) -> Mapping[str, str]:
    """Return the field of each column that is not dropped. Raises `ValueError`."""
    fields = rename_header(schema.names, columns, FIELDS)
    names = {name: field for name, field in zip(schema.names, fields, strict=True) if field != DROPPED}
    for name, field in names.items():
        kind = schema.field(name).type
        is_object = arrow.types.is_struct(kind) or arrow.types.is_map(kind)
        if arrow.types.is_nested(kind) and not (is_object and field == "extra"):
            raise ValueError(f"column {shown(name)} holds {shown(str(kind))}; only extra can be a struct or a map")
    return names


def _rows(arrow: Any, file: Any, names: Mapping[str, str]) -> Iterator[Fields | str]:
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(names), use_threads=False):
        kinds = {field: batch.schema.field(name).type for name, field in names.items()}
        values = [_cells(batch.column(name), name) for name in names]
        for cells in zip(*values, strict=True):
            given = {field: cell for field, cell in zip(names.values(), cells, strict=True) if cell is not None}
            wrong = [str(cell) for cell in cells if isinstance(cell, ValueError)]
            yield wrong[0] if wrong else _with_extra(arrow, given, kinds)
        arrow.default_memory_pool().release_unused()  # it keeps what it had, twice as much as it needs


def _cells(column: Any, name: str) -> list[Any]:
    """Return the values of a column; where one cannot be read, what is wrong with it."""
    try:
        cells: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        return [_cell(value, name) for value in column]
    return cells


def _cell(value: Any, name: str) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return ValueError(f"{shown(name)} is not UTF-8 (byte 0x{error.object[error.start]:02x}); write the file anew")
    except (ValueError, OverflowError) as error:
        return ValueError(f"{shown(name)} cannot be read: {error}")


def _with_extra(arrow: Any, given: dict[str, Any], kinds: Mapping[str, Any]) -> Fields | str:
    if "extra" not in given:
        return given
    try:
        return {**given, "extra": _plain(arrow, given["extra"], kinds["extra"])}
    except ValueError as error:
        return str(error)


def _plain(arrow: Any, value: Any, kind: Any) -> Any:
    """Return a value as JSON has it: maps are objects, and what is null in a struct or a map is left out."""
    if value is None:
        return None
    if arrow.types.is_map(kind):
        pairs = [(name, _plain(arrow, part, kind.item_type)) for name, part in value]
    elif arrow.types.is_struct(kind):
        pairs = [(part.name, _plain(arrow, value[part.name], part.type)) for part in kind]
    elif arrow.types.is_nested(kind):
        return [_plain(arrow, part, kind.value_type) for part in value]
    else:
        return value
    return without_repeats([(name, part) for name, part in pairs if part is not None])
