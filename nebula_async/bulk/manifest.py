"""The list of what a job is to make: text, CSV or JSON lines, read lazily into requests. Errors name file and line."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import frozen

from nebula_async.bulk.entries import TOO_DEEP, Fields, check_file, read_entries
from nebula_async.checks import shown
from nebula_async.errors import InvalidRequestError, JobError
from nebula_async.requests import DIALECTS, PICTURE_FIELDS, Request, field_names, kind_of_request, read_request


@frozen
class Item:
    """One request of a manifest: its `number` among the entries (from 0) and the `line` where it begins (from 1).

    An entry that is wrong has a number too: when it is put right, the numbers of the others stay.
    """

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


def read_manifest(path: Path, *, defaults: Mapping[str, Any]) -> Iterator[Item | BadLine]:
    """Yield what a `.txt`, `.csv`, `.tsv` or `.jsonl` file asks for, one entry at a time; memory does not grow with it.

    - text: a prompt on each line
    - CSV, TSV: a header of field names, then a row for each request; an empty cell leaves a field out
    - JSON lines: on each line an object of fields, or a text that is the prompt

    The fields are those of `ImageRequest`, or of `InferenceRequest` where `dialect` says "inference". `defaults` are
    fields for all entries whose API has them; an entry's own win, also a JSON `null`, which leaves the field out.
    Relative `image` and `mask` paths start at the manifest's folder. Blank lines are skipped; encoding is UTF-8. Raises
    `JobError` for a file that cannot be read or holds nothing, `InvalidRequestError` for wrong defaults.
    """
    check_file(path)
    _check_defaults(defaults)
    return _read(path, defaults)


def check_manifest(path: Path, *, defaults: Mapping[str, Any]) -> tuple[int, tuple[BadLine, ...]]:
    """Read a whole manifest; return how many of its items can be used, and all that is wrong, in the order of lines.

    An `id` that was there before is wrong too. In memory are the bad lines, and some bytes for each `id`. Raises
    `InvalidRequestError` for a default that no item's API has.
    """
    bad, count, marks, kinds = [], 0, array("q"), set()
    for entry in read_manifest(path, defaults=defaults):
        if isinstance(entry, BadLine):
            bad.append(entry)
            continue
        count += 1
        kinds.add(type(entry.request))
        if entry.request.id is not None:
            marks.append(hash(entry.request.id))
    _refuse_unused(defaults, kinds if not bad else DIALECTS.values())
    repeats = _repeats(path, defaults, marks)
    return count - len(repeats), tuple(sorted([*bad, *repeats], key=lambda line: line.line))


def _check_defaults(defaults: Fields) -> None:
    """Refuse what no API has, and what the one that has it does not take. Raises `InvalidRequestError`."""
    unknown = defaults.keys() - {"dialect"}.union(*map(field_names, DIALECTS.values()))
    dialect = kind_of_request(defaults.get("dialect"))
    for kind in DIALECTS.values():
        own = {name: value for name, value in defaults.items() if name in field_names(kind)}
        others = {name: defaults[name] for name in unknown} if kind is dialect else {}
        # a mask alone is no mistake: the image may come with each entry
        image = {"image": "x"} if "mask" in own else {}
        kind.from_dict({"prompt": "x", "model": "x", **image, **own, **others})


def _refuse_unused(defaults: Fields, kinds: Iterable[type[Request]]) -> None:
    used = frozenset({"dialect"}).union(*map(field_names, kinds))
    if unused := sorted(defaults.keys() - used):
        raise InvalidRequestError(
            f"no line is for an API that has {', '.join(unused)}: leave that out, or give a dialect"
        )


def _repeats(path: Path, defaults: Fields, marks: Iterable[int]) -> Sequence[BadLine]:
    """Read the manifest again, where there is reason to, and keep only the items whose `id` may be there twice."""
    doubtful = {mark for mark, following in pairwise(sorted(marks)) if mark == following}
    entries = read_manifest(path, defaults=defaults) if doubtful else ()
    suspects = (entry for entry in entries if isinstance(entry, Item) and hash(entry.request.id) in doubtful)
    first: dict[str | None, Item] = {}
    return [
        BadLine(item.line, _repeat_problem(item, earlier), path.name)
        for item in suspects
        if (earlier := first.setdefault(item.request.id, item)) is not item
    ]


def _repeat_problem(item: Item, earlier: Item) -> str:
    if item.request == earlier.request:
        return (
            f"id {shown(item.request.id)} was used for the same request in line {earlier.line}; remove one of the two"
        )
    return f"id {shown(item.request.id)} was used for another request in line {earlier.line}; give each one of its own"


def _read(path: Path, defaults: Fields) -> Iterator[Item | BadLine]:
    number = -1
    for number, (line, fields) in enumerate(read_entries(path)):
        yield _item(number, line, fields, path, defaults)
    if number < 0:
        raise JobError(f"{path} holds no request; write one on each line")


def _item(number: int, line: int, fields: Fields | str, path: Path, defaults: Fields) -> Item | BadLine:
    if isinstance(fields, str):
        return BadLine(line, fields, path.name)
    try:
        request = read_request(_filled_in(defaults, _with_paths(fields, path.parent)))
    except InvalidRequestError as error:
        return BadLine(line, str(error), path.name)
    except RecursionError:  # a value that was just not too deep to be read may be too deep to be shown
        return BadLine(line, TOO_DEEP, path.name)
    pictures = {name: getattr(request, name, None) for name in PICTURE_FIELDS}
    missing = [f"{name} {given} is no file" for name, given in pictures.items() if _is_missing(given)]
    return BadLine(line, "; ".join(missing), path.name) if missing else Item(number, line, request)


def _filled_in(defaults: Fields, fields: Fields) -> Fields:
    """Return the fields of an entry with the defaults that its own API has."""
    has = field_names(kind_of_request(fields.get("dialect", defaults.get("dialect")))) | {"dialect"}
    return {**{name: value for name, value in defaults.items() if name in has}, **fields}


def _is_missing(given: object) -> bool:
    return isinstance(given, str | Path) and not str(given).startswith("data:") and not Path(given).is_file()


def _with_paths(fields: Fields, folder: Path) -> Fields:
    return {name: _path(value, folder) if name in PICTURE_FIELDS else value for name, value in fields.items()}


def _path(value: object, folder: Path) -> object:
    is_path = isinstance(value, str) and value and not value.startswith("data:") and "://" not in value
    return str(folder / str(value)) if is_path else value
