"""Columns of a manifest whose names are not ours: the field that each stands for, and what is wrong with a header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nebula_async.checks import MAX_SHOWN, shown
from nebula_async.errors import InvalidRequestError
from nebula_async.requests import DIALECTS, field_names

FIELDS = frozenset({"dialect"}).union(*map(field_names, DIALECTS.values()))
CELLS = FIELDS - {"extra"}  # which fits into no cell
DROPPED = ""


def read_columns(columns: Mapping[str, str | None]) -> dict[str, str]:
    """Return a mapping of the user's column names to fields, `DROPPED` for those that are left out.

    Raises `InvalidRequestError` for what is no field, and for two columns that would be the same one.
    """
    if not isinstance(columns, Mapping):
        raise InvalidRequestError(f"columns must be a mapping of names to fields; got {shown(columns)}")
    targets: dict[str, Any] = {name: field or DROPPED for name, field in columns.items()}
    for name, field in targets.items():
        if field != DROPPED and not (isinstance(field, str) and field in FIELDS):
            raise InvalidRequestError(f"columns: {shown(name)} cannot be {shown(field)}; {_known(FIELDS)}")
    for field, count in Counter(targets.values()).items():
        if count > 1 and field != DROPPED:
            names = " and ".join(shown(name) for name, target in targets.items() if target == field)
            raise InvalidRequestError(f"columns: {names} cannot both be {field}; keep one")
    return targets


def rename(fields: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    """Return an entry's fields under our names, without those that are dropped. Raises `ValueError` for a clash."""
    if columns.keys().isdisjoint(fields):
        return fields
    kept = [(columns.get(name, name), value) for name, value in fields.items() if columns.get(name) != DROPPED]
    check_clashes(fields, columns)
    return dict(kept)


def check_clashes(names: Iterable[str], columns: Mapping[str, str]) -> None:
    """Raise `ValueError` where a column that is mapped to a field stands beside one that has its name."""
    given = list(names)
    counts = Counter(columns.get(name, name) for name in given)
    for field, count in counts.items():
        if count > 1 and field != DROPPED:
            both = dict.fromkeys(name for name in given if columns.get(name, name) == field)
            raise ValueError(_about_clash(field, list(both)))


def rename_header(names: Sequence[str], columns: Mapping[str, str], known: frozenset[str]) -> list[str]:
    """Return the field of each column of a header, `DROPPED` for none. Raises `ValueError` that names what is wrong."""
    if missing := [shown(name) for name in columns if name not in names]:
        raise ValueError(f"there is no column {', '.join(missing)} to map; there are {', '.join(map(shown, names))}")
    if unknown := [name for name in names if name not in columns and name not in known]:
        raise ValueError(f"unknown column {', '.join(map(shown, unknown))}; {advice(unknown[0], known)}")
    check_clashes(names, columns)
    fields = [columns.get(name, name) for name in names]
    if "prompt" not in fields:
        raise ValueError(f"a column prompt must be given; {_known(known)}")
    return fields


def advice(name: str, known: Iterable[str] = FIELDS) -> str:
    """Return what can be done about a column that is no field."""
    return f"{_known(known)}; map it (--columns {bare(name)}=prompt) or drop it (--columns {bare(name)}=)"


def bare(name: str) -> str:
    """Return a name for a message, without quotes; what a terminal cannot show is escaped."""
    return f"{name[:MAX_SHOWN]!r}"[1:-1] or "''"


def _about_clash(field: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"column {bare(names[0])} is there more than once; keep one"
    return f"{' and '.join(map(shown, names))} would both be {field}; drop one (--columns {field}=)"


def _known(names: Iterable[str]) -> str:
    return f"known are {', '.join(sorted(names))}"
