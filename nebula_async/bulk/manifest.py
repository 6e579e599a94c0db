"""The list of what a job is to make: text, CSV or JSON lines, read lazily into requests. Errors name file and line."""

from __future__ import annotations

import codecs
import csv
import json
import math
import re
import stat
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeAlias

from attrs import frozen

from nebula_async.checks import encoded_size, is_blank, shown
from nebula_async.errors import InvalidRequestError, JobError
from nebula_async.requests import DIALECTS, PICTURE_FIELDS, Request, field_names, kind_of_request, read_request

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
_Entry: TypeAlias = "tuple[int, Fields | str]"
"""The line where an entry begins, and its fields or what is wrong with it."""


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
    _check_file(path)
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


def _check_file(path: Path) -> None:
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


def _read(path: Path, defaults: Fields) -> Iterator[Item | BadLine]:
    number = -1
    for number, (line, fields) in enumerate(_entries(path)):
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


def _entries(path: Path) -> Iterator[_Entry]:
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


def _by_line(read: Callable[[str], Fields], file: TextIO) -> Iterator[_Entry]:
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


def _by_row(delimiter: str, file: TextIO) -> Iterator[_Entry]:
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


_READERS: Mapping[str, Callable[[TextIO], Iterator[_Entry]]] = {
    ".txt": partial(_by_line, _read_prompt),
    ".csv": partial(_by_row, ","),
    ".tsv": partial(_by_row, "\t"),
    ".jsonl": partial(_by_line, _read_object),
}
