"""JSON lines: on each line an object of fields, or a text that is the prompt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from nebula_async.bulk.manifest.columns import rename
from nebula_async.bulk.manifest.entries import Entry, Fields, Lines, by_line, checked
from nebula_async.checks import shown
from nebula_async.errors import JobError

MAX_DIGITS = 100  # Python reads a long number in quadratic time, and no field takes one
TOO_DEEP = "the values are nested too deeply"
FAILURE = "failure"  # what a line of failed.jsonl tells of its item; such a file is a manifest again


def read_json_lines(columns: Mapping[str, str], name: str, lines: Lines) -> Iterator[Entry]:
    """Yield the entries of JSON lines. Raises `JobError` at the end for a mapped column that no line has."""
    unseen, objects = set(columns), 0

    def read(text: str) -> Fields:
        nonlocal objects
        fields = _read_object(text)
        objects += 1
        unseen.difference_update(fields)
        return _without_failure(rename(fields, columns))

    yield from by_line(read, lines)
    if unseen and objects:
        names = ", ".join(map(shown, sorted(unseen)))
        raise JobError(f"{name}: no line has {names}, which columns maps; look at the names of the file's fields")


def without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of names and values. Raises `ValueError` for a name that is there twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {shown(name)} is there more than once; keep one")
    return fields


def _without_failure(fields: Fields) -> Fields:
    if not isinstance(fields.get(FAILURE), dict):
        return fields
    return {name: value for name, value in fields.items() if name != FAILURE}


def _read_object(text: str) -> Fields:
    try:
        value = _JSON.decode(checked(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}; write one whole JSON object on each line") from error
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if isinstance(value, str):
        return {"prompt": value}
    if isinstance(value, dict):
        return value
    raise ValueError(f"a line must be an object of fields, or a text that is the prompt; got {type(value).__name__}")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; no field takes more than {MAX_DIGITS}")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; give a number")


_JSON = json.JSONDecoder(object_pairs_hook=without_repeats, parse_int=_whole, parse_constant=_refuse_constant)
