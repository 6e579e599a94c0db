"""The list of what a job is to make: its entries as requests, each with a key that is the same in every run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from nebula_async.bulk.manifest.columns import FIELDS, advice, bare
from nebula_async.bulk.manifest.entries import Fields
from nebula_async.bulk.manifest.json_lines import TOO_DEEP
from nebula_async.checks import shown
from nebula_async.errors import InvalidRequestError
from nebula_async.requests import (
    DIALECTS,
    PICTURE_FIELDS,
    ImageRequest,
    Request,
    field_names,
    kind_of_request,
    read_request,
)

COPY = re.compile(r".*\*[0-9]+", re.DOTALL)
RANDOM_SEED = -1  # the API draws one: a copy with the next number would not be another drawing, but a fixed seed


@frozen
class Item:
    """One request of a manifest: its `key` is the same in every run, `number` its place among the requests (from 0).

    The key is the row's `id`, or "#" and its place among the entries (from 0). `line` is where it begins (from 1). An
    entry that is wrong has a number too: when it is put right, the numbers of the others stay.
    """

    key: str
    number: int
    line: int
    request: Request


@frozen
class BadLine:
    """An entry of a manifest that cannot be used; as text: `prompts.jsonl:17: width must be …`."""

    line: int
    problem: str
    file: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}"


def row_key(row: int, fields: Fields) -> str:
    """Return the key of an entry: its `id`, or else one of its place.

    An `id` that looks like a key of ours is marked, so that no two rows and copies have the same key but by their `id`.
    """
    name = fields.get("id")
    if type(name) is not str and type(name) is not int:
        return f"#{row}"
    text = str(name)
    mark = "*1" if text[-1:].isdigit() and COPY.fullmatch(text) else ""
    return f"#{text}{mark}" if text.startswith("#") else f"{text}{mark}"


def copy_key(base: str, copy: int) -> str:
    """Return the key of a row's copy, counted from 0; the first one has the key of the row."""
    return f"{base}*{copy + 1}" if copy else base


def copy_of(request: Request, copy: int) -> Request:
    """Return a copy of a row's request, counted from 0: with the next seed, where there is one, and its own `id`.

    Raises `InvalidRequestError` for a seed or an `id` that grows too long.
    """
    if not copy:
        return request
    name = None if request.id is None else f"{request.id}*{copy + 1}"
    if isinstance(request, ImageRequest) and request.seed not in {None, RANDOM_SEED}:
        return evolve(request, id=name, seed=(request.seed or 0) + copy)
    return evolve(request, id=name)


def read_row(fields: Fields, *, base: Path, defaults: Mapping[str, Any]) -> Request:
    """Return the request of a row; relative paths start at `base`.

    Raises `InvalidRequestError` that says what is wrong, also for a picture that is not there.
    """
    if unknown := sorted(fields.keys() - FIELDS):
        names = ", ".join(map(bare, unknown))
        raise InvalidRequestError(f"unknown field {names}; {advice(unknown[0])}")
    try:
        request = read_request(_filled_in(defaults, _own(fields, base)))
    except RecursionError:  # a value that was just not too deep to be read may be too deep to be shown
        raise InvalidRequestError(TOO_DEEP) from None
    given = ((name, getattr(request, name, None)) for name in PICTURE_FIELDS)
    if missing := [f"{name} {path} is no file" for name, path in given if _is_missing(path)]:
        raise InvalidRequestError("; ".join(missing))
    return request


def fields_from(folder: Path, request: Request) -> dict[str, Any]:
    """Return the fields of a request as a manifest in that folder holds them: paths begin there."""
    fields = request.to_dict()
    paths = {name: os.path.relpath(fields[name], folder) for name in PICTURE_FIELDS if _is_path(fields.get(name))}
    return {**fields, **paths}


def check_defaults(defaults: Fields) -> None:
    """Refuse what no API has, and what the one that has it does not take. Raises `InvalidRequestError`."""
    if not isinstance(defaults, Mapping):
        raise InvalidRequestError(f"defaults must be a mapping of fields to values; got {shown(defaults)}")
    if alone := sorted({"prompt", "id"} & defaults.keys()):
        raise InvalidRequestError(f"{' and '.join(alone)} cannot be the same for all; give each line its own")
    unknown = defaults.keys() - FIELDS
    dialect = kind_of_request(defaults.get("dialect"))
    for kind in DIALECTS.values():
        own = {name: value for name, value in defaults.items() if name in field_names(kind)}
        others = {name: defaults[name] for name in unknown} if kind is dialect else {}
        # a mask alone is no mistake: the image may come with each entry
        image = {"image": "x"} if "mask" in own else {}
        kind.from_dict({"prompt": "x", "model": "x", **image, **own, **others})


def check_used(defaults: Fields, kinds: Iterable[type[Request]]) -> None:
    """Raise `InvalidRequestError` for a default that none of these kinds of request has."""
    used = frozenset({"dialect"}).union(*map(field_names, kinds))
    if unused := sorted(defaults.keys() - used):
        raise InvalidRequestError(
            f"no line is for an API that has {', '.join(unused)}: leave that out, or give a dialect"
        )


def _filled_in(defaults: Fields, fields: Fields) -> Fields:
    """Return the fields of an entry with the defaults that its own API has."""
    has = field_names(kind_of_request(fields.get("dialect", defaults.get("dialect")))) | {"dialect"}
    return {**{name: value for name, value in defaults.items() if name in has}, **fields}


def _is_missing(given: object) -> bool:
    if not isinstance(given, str | Path) or str(given).startswith("data:"):
        return False
    try:
        return not Path(given).is_file()
    except OSError:  # no file can have such a name, or be in such a place
        return True


def _is_path(value: object) -> bool:
    """Whether a picture field names a file; else it holds the picture itself, as a data URL, or what is none."""
    return isinstance(value, str) and value != "" and not value.startswith("data:") and "://" not in value


def _own(fields: Fields, base: Path) -> Fields:
    """Return the fields with paths that start at `base`, and with an `id` that is a whole number as its text."""
    own: dict[str, Any] = {name: str(base / fields[name]) for name in PICTURE_FIELDS if _is_path(fields.get(name))}
    if type(fields.get("id")) is int:
        own["id"] = str(fields["id"])
    return {**fields, **own} if own else fields
