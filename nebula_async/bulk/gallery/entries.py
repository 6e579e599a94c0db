"""What the gallery shows: an entry for each picture of a job, and for each item that has none."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from attrs import define, field, frozen

from nebula_async.bulk.causes import next_step, told
from nebula_async.bulk.gallery.scripts import MOST_EXACT, exact
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.states import State

MOST_ENTRIES = 100_000
"""A browser holds about 1 KB of each."""

ITEMS_AT_ONCE = 500
"""No read lasts longer: a job that runs must be able to tidy its ledger."""

LONGEST_PROMPT, LONGEST_TEXT = 200_000, 10_000
"""Characters; of a prompt that is longer, and of those beyond `MOST_OF_PROMPTS` in a chunk, the beginning is shown."""

MOST_OF_PROMPTS = 2**24

SHOWN = "item.listed AND (item.state <> 'pending' OR item.error IS NOT NULL)"
"""Items that were sent, or could not be; the others wait, and there is nothing to see of them."""

COLUMNS = (
    "item.seq, output.idx, item.state, item.sends, item.at_least, item.at_most + item.at_stake, item.request,"
    " item.cause, item.error, output.path, output.bytes, output.sha256, output.row,"
    " attempt.seconds, attempt.ended_at, attempt.request_id"
)
JOINED = "item LEFT JOIN output ON output.seq = item.seq AND output.path IS NOT NULL"
LAST_ATTEMPT = "LEFT JOIN attempt ON attempt.seq = item.seq AND attempt.n = item.sends"
PAGE = f"SELECT seq FROM item WHERE {SHOWN} AND seq > ? ORDER BY seq LIMIT {ITEMS_AT_ONCE}"  # noqa: S608 - our own

ENTRIES = f"SELECT count(*) FROM {JOINED} WHERE {SHOWN}"  # noqa: S608 - our own words
UNDONE = f"{ENTRIES} AND item.state <> 'done'"
NEWEST_UNDONE = (
    f"SELECT item.seq FROM {JOINED} WHERE {SHOWN} AND item.state <> 'done'"  # noqa: S608 - our own words
    " ORDER BY item.seq DESC LIMIT 1 OFFSET ?"
)
NEWEST_DONE = (
    f"SELECT output.rowid FROM {JOINED} WHERE {SHOWN} AND item.state = 'done'"  # noqa: S608 - our own words
    " ORDER BY output.rowid DESC LIMIT 1 OFFSET ?"
)

TOLD_APART = ("prompt", "negative_prompt", "model", "seed", "id")
"""Fields of a request that have columns of their own."""


@define
class Texts:
    """The texts of a chunk: those that many rows share are written once, and prompts have room up to a limit."""

    texts: list[str] = field(factory=list)
    _known: dict[str, int] = field(factory=dict, init=False)
    _room: int = field(default=MOST_OF_PROMPTS, init=False)

    def index(self, text: str | None) -> int | None:
        """Return the number of a text, `None` for none."""
        if not text:
            return None
        if text not in self._known:
            self._known[text] = len(self.texts)
            self.texts.append(text)
        return self._known[text]

    def fitting(self, prompt: str | None) -> str | None:
        """Return a prompt, or as much of it as there is room for."""
        if prompt is None:
            return None
        self._room -= len(prompt)
        return prompt[: LONGEST_PROMPT if self._room >= 0 else LONGEST_TEXT]


@frozen(kw_only=True)
class Entry:
    """A picture, or an item that has none: what the ledger says of it."""

    number: int
    index: int
    state: str
    requests: int
    charges_at_least: int
    charges_at_most: int
    request: Mapping[str, Any] = field(repr=False)
    cause: str | None = None
    error: str | None = None
    path: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    row: Mapping[str, Any] = field(factory=dict, repr=False)
    seconds: float | None = None
    ended: float | None = None
    request_id: str | None = None

    def columns(self, thumbnail: str | None, texts: Texts) -> list[Any]:
        """Return the row of the page's data, without the nulls at its end."""
        request, row = self.request, self.row
        reason, error, step = self._why()
        prompts = [_text(request.get(name)) for name in ("prompt", "negative_prompt")]
        fitting = [texts.fitting(prompt) for prompt in prompts]
        columns = [
            self.number,
            self.index,
            texts.index(self.state),
            fitting[0] or "",
            texts.index(_text(row.get("model")) or _text(request.get("model"))),
            _whole(row.get("seed", request.get("seed"))),
            _whole(row.get("width")),
            _whole(row.get("height")),
            None if self.path is None else self.path.removeprefix("images/"),
            thumbnail,
            self.bytes,
            texts.index(_text(row.get("cost"))),
            None if self.seconds is None else round(self.seconds, 3),
            self._created(),
            self.requests,
            self.charges_at_least,
            self.charges_at_most,
            _text(row.get("request_id")) or self.request_id,
            self.sha256,
            _text(request.get("id")),
            fitting[1],
            texts.index(self._parameters()),
            texts.index(reason),
            texts.index(error and error[:LONGEST_TEXT]),
            texts.index(step),
            True if fitting != prompts else None,
        ]
        while columns[-1] is None:
            columns.pop()
        return columns

    def _why(self) -> tuple[str | None, str | None, str | None]:
        """Return why an item is not done, in a word and in words, and what can be done about it."""
        state = State(self.state)
        if state is State.DONE:
            return None, None, None
        cause, error = told(state, self.cause, self.error)
        return cause, error, next_step(state, cause)

    def _created(self) -> int | None:
        created = self.row.get("created")
        try:
            return int(datetime.fromisoformat(created).timestamp() if isinstance(created, str) else self.ended or 0)
        except (ValueError, OverflowError):  # of a ledger that somebody else wrote
            return None

    def _parameters(self) -> str:
        asked = {name: value for name, value in self.request.items() if name not in TOLD_APART and value is not None}
        return json.dumps(exact({**asked, **self._inputs()}), ensure_ascii=False, separators=(",", ":"))

    def _inputs(self) -> Mapping[str, Any]:
        """Return the digests of the pictures that were handed in."""
        made = self.row.get("provenance")
        inputs = _object(made).get("inputs") if isinstance(made, str) and '"inputs":{}' not in made else None
        return inputs if isinstance(inputs, dict) else {}


@frozen(kw_only=True)
class Choice:
    """Which entries are shown, of `entries` that there are: all, or those that did not succeed and the newest."""

    entries: int
    where: str = "TRUE"


def choose(ledger: Ledger, most: int = MOST_ENTRIES) -> Choice:
    """Choose at most so many entries: what did not succeed first, the newest first."""
    entries = _number(ledger, ENTRIES)
    if entries <= most:
        return Choice(entries=entries)
    others = _number(ledger, UNDONE)
    if others >= most:
        first = _number(ledger, NEWEST_UNDONE, most - 1)
        return Choice(entries=entries, where=f"item.state <> 'done' AND item.seq >= {first}")
    first = _number(ledger, NEWEST_DONE, most - others - 1)
    return Choice(entries=entries, where=f"(item.state <> 'done' OR output.rowid >= {first})")


def read_paths(ledger: Ledger, choice: Choice) -> Iterator[str]:
    """Yield the paths of the pictures that are shown, in the same order."""
    for first, last in _spans(ledger):
        query = _query("output.path", choice)
        yield from [path for (path,) in ledger.select(query, first, last) if path is not None]


def read_entries(ledger: Ledger, choice: Choice) -> Iterator[Entry]:
    """Yield what is shown, by number and index; memory does not grow with it, and no read lasts long."""
    for first, last in _spans(ledger):
        yield from [_entry(*values) for values in ledger.select(_query(COLUMNS, choice), first, last)]


def _spans(ledger: Ledger) -> Iterator[tuple[int, int]]:
    """Yield the first and last numbers of items that are looked at together."""
    last = -1
    while page := [seq for (seq,) in ledger.select(PAGE, last)]:
        last = page[-1]
        yield page[0], last


def _query(columns: str, choice: Choice) -> str:
    return (
        f"SELECT {columns} FROM {JOINED} {LAST_ATTEMPT} WHERE {SHOWN} AND {choice.where}"  # noqa: S608 - our own words
        " AND item.seq BETWEEN ? AND ? ORDER BY item.seq, output.idx"
    )


def _number(ledger: Ledger, query: str, *values: int) -> int:
    found = list(ledger.select(query, *values))
    return int(found[0][0]) if found else 0


def _entry(number: int, index: int | None, state: str, sends: int, least: int, most: int, *rest: Any) -> Entry:
    request, cause, error, path, size, sha256, row, seconds, ended, request_id = rest
    return Entry(
        number=number, index=index or 0, state=state, requests=sends, charges_at_least=least, charges_at_most=most,
        request=_object(request), cause=cause, error=error, path=path, bytes=size, sha256=sha256, row=_object(row),
        seconds=seconds, ended=ended, request_id=request_id,
    )  # fmt: skip


def _object(text: str | None) -> Mapping[str, Any]:
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _text(value: Any) -> str | None:
    """Return a value as text, whatever it is."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _whole(value: Any) -> int | str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if abs(value) <= MOST_EXACT:
        return int(value)
    return str(value) if isinstance(value, int) or math.isfinite(value) else None
