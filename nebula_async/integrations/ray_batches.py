"""Batches of a Ray dataset: the fields of requests out of them, and the columns that tell what became of each row.

Nothing of Ray is imported: a batch is a mapping of arrays, or an Arrow table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
from attrs import frozen

from nebula_async.bulk.manifest.columns import DROPPED, FIELDS
from nebula_async.checks import shown
from nebula_async.errors import ConfigurationError

Batch: TypeAlias = "Mapping[str, Any] | pa.Table"

WHOLE = frozenset({"width", "height", "num_steps", "seed", "n"})
"""Fields that are whole numbers; where a column has gaps, other libraries make decimal numbers of them."""

MOST_EXACT = 2**53
"""Decimal numbers hold every whole number up to this one."""

MISSING = frozenset({"NAType", "NaTType"})
"""How pandas, which is not needed here, calls the types of what is missing."""


@frozen(kw_only=True)
class RowResult:
    """What became of a row, as the columns that are added to it tell it."""

    status: str
    path: str | None = None
    bytes: bytes | None = None
    media_type: str | None = None
    seed: int | None = None
    charges_at_least: int = 0
    charges_at_most: int = 0
    cost: float | None = None
    attempts: int = 0
    error: str | None = None
    error_type: str | None = None
    retryable: bool | None = None
    request_id: str | None = None


TYPES: Mapping[str, pa.DataType] = {
    "status": pa.string(),
    "path": pa.string(),
    "bytes": pa.large_binary(),  # those of one batch may be more than 2 GiB
    "media_type": pa.string(),
    "seed": pa.int64(),
    "charges_at_least": pa.int64(),
    "charges_at_most": pa.int64(),
    "cost": pa.float64(),
    "attempts": pa.int64(),
    "error": pa.string(),
    "error_type": pa.string(),
    "retryable": pa.bool_(),
    "request_id": pa.string(),
}
"""The columns that are added, always all of them: blocks whose columns differ cannot be put together."""


@frozen
class Columns:
    """Which columns of a batch are fields of a request, and how those are called that are added.

    `fields` maps names of columns to fields, or to `DROPPED`; a column that has the name of a field needs no entry.
    """

    fields: Mapping[str, str]
    prefix: str

    def check(self, names: Sequence[str]) -> None:
        """Refuse a dataset with these columns where they do not fit. Raises `ConfigurationError`."""
        there = ", ".join(map(shown, names)) or "none"
        if missing := [name for name in self.fields if name not in names]:
            raise ConfigurationError(f"columns names {shown(missing[0])}, which is no column; there are {there}")
        if "prompt" not in map(self.field_of, names):
            raise ConfigurationError(
                f"no column is the prompt: name it with columns={{'…': 'prompt'}}; there are {there}"
            )
        if taken := sorted({*self.added} & {*names}):
            raise ConfigurationError(
                f"the rows have {shown(taken[0])} already, and it is not replaced; give another prefix"
                f" than {shown(self.prefix)}"
            )

    @property
    def added(self) -> list[str]:
        """The names of the columns that are added."""
        return [f"{self.prefix}{name}" for name in TYPES]

    def field_of(self, name: str) -> str:
        """Return the field that a column is, `DROPPED` for none; one that is named goes before one of the same name."""
        is_field = name in FIELDS and name not in self.fields.values()
        return self.fields.get(name, name if is_field else DROPPED)

    def read(self, batch: Batch) -> list[dict[str, Any]]:
        """Return the fields that each row gives, as plain values. Raises `ConfigurationError` for what is no batch."""
        names = _names(batch)
        self.check(names)
        fields = {name: field for name in names if (field := self.field_of(name))}
        columns = {field: _values(batch, name) for name, field in fields.items()}
        rows = zip(*columns.values(), strict=True)
        plain = ({field: _plain(field, value) for field, value in zip(columns, row, strict=True)} for row in rows)
        return [{field: value for field, value in row.items() if value is not None} for row in plain]

    def add(self, batch: Batch, results: Sequence[RowResult]) -> Batch:
        """Return the batch with what became of its rows, in the form in which it came, all else as it was."""
        added = {
            f"{self.prefix}{name}": pa.array([_encodable(getattr(result, name)) for result in results], type=kind)
            for name, kind in TYPES.items()
        }
        if isinstance(batch, pa.Table):
            for name, column in added.items():
                batch = batch.append_column(name, column)
            return batch
        return {**batch, **added}  # Ray takes Arrow's arrays too, with their types: an array of nothing has none


def _names(batch: Batch) -> list[str]:
    if isinstance(batch, pa.Table):
        return list(batch.column_names)
    if isinstance(batch, Mapping):
        return list(batch)
    raise ConfigurationError(
        f"a batch must be a mapping of arrays or an Arrow table; got {type(batch).__name__}: leave batch_format out,"
        " or give batch_format='pyarrow'"
    )


def _values(batch: Batch, name: str) -> Sequence[Any]:
    column = batch[name]
    values: Sequence[Any] = column.to_pylist() if isinstance(column, pa.Array | pa.ChunkedArray) else column
    return values


def _plain(field: str, value: Any) -> Any:
    """Return a value as Python's own; `None` where it is missing, in any library's way of saying so."""
    value = value.item() if getattr(value, "shape", None) == () else value  # numpy's scalars
    if value is None or type(value).__name__ in MISSING:
        return None
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if field in WHOLE and value.is_integer() and abs(value) <= MOST_EXACT else value
    return (_without_gaps(value) or None) if field == "extra" else value


def _without_gaps(value: Any) -> Any:
    """Return a value without members that are missing: in a table the rows have the members of all others."""
    if isinstance(value, Mapping):
        return {name: _without_gaps(member) for name, member in value.items() if member is not None}
    return [_without_gaps(each) for each in value] if isinstance(value, list) else value


def _encodable(value: Any) -> Any:
    """Return a text without what no UTF-8 has: halves of characters, which a server's JSON or a path may hold."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
