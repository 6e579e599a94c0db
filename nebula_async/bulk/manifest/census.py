"""What the items of a job are, counted before anything is sent: how many, what for, and which of them are wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from attrs import define, evolve, field, frozen

from nebula_async.api.catalog import find_conflict
from nebula_async.bulk.manifest.draw import Draw
from nebula_async.bulk.manifest.items import BadLine, Item, check_used
from nebula_async.bulk.manifest.repeats import SeenKeys
from nebula_async.bulk.manifest.source import Source
from nebula_async.bulk.manifest.tally import Kind, Share, Tally
from nebula_async.checks import Checks, shown
from nebula_async.errors import ConfigurationError, JobError
from nebula_async.requests import DIALECTS, ImageRequest, Request

MOST_KEPT, MOST_SHOWN = 10_000, 20
"""Bad lines that are remembered, and that a message names; all are counted."""

MOST_ITEMS = 10**12

check = Checks(ConfigurationError)


@frozen(kw_only=True)
class Selection:
    """Which items of the input a job is about: the first `limit` ones, and of these `sample`, drawn by their keys.

    The same input gives the same sample. Raises `ConfigurationError` for what is no count.
    """

    limit: int | None = field(default=None, validator=check.whole(1, MOST_ITEMS, optional=True))
    sample: int | None = field(default=None, validator=check.whole(1, MOST_ITEMS, optional=True))


@frozen(kw_only=True)
class Census:
    """What one pass over the input found.

    - `total`, `pictures`: items that are selected, and their pictures; what is `repeated` or wrong is not counted
    - `settled`: how many of them this run does not send, by the word that was said of their keys
    - `models`, `problems`: what the others ask of each model, and how many ask for what theirs will not honour
    - `repeated`: the numbers of items that say the same as an earlier one under the same key, and are skipped
    - `chosen`: the keys of a sample, `None` for all
    - `bad`: what is wrong, in the order of lines, 10,000 at most; `bad_count` counts all
    """

    total: int
    pictures: int
    settled: Mapping[str, int]
    models: Mapping[Kind, Share]
    problems: Mapping[str, int]
    repeated: frozenset[int]
    chosen: frozenset[str] | None
    bad: tuple[BadLine, ...]
    bad_count: int

    def selects(self, item: Item) -> bool:
        """Whether the job is about an item that is within the limit."""
        return item.number not in self.repeated and (self.chosen is None or item.key in self.chosen)

    def check(self, name: str) -> None:
        """Raise `JobError` that lists the bad lines of an input, if there are any."""
        if not self.bad_count:
            return
        lines = "\n  ".join(str(line) for line in self.bad[:MOST_SHOWN])
        more = f"\n  … and {self.bad_count - MOST_SHOWN} more" if self.bad_count > MOST_SHOWN else ""
        raise JobError(f"{name} cannot be used, nothing was sent; lines to mend: {self.bad_count}\n  {lines}{more}")


def _unsettled(_key: str) -> None:
    """Say of every key that it is still to be sent."""


def take_census(
    source: Source, selection: Selection | None = None, *, settled_as: Callable[[str], str | None] = _unsettled
) -> Census:
    """Read the whole input and count it; it is read again only where keys may be there twice, or for a sample.

    `settled_as` says of each key how it ended, where this run has nothing to send for it, else `None`; its exceptions
    pass. Memory does not grow with the input, but for some bytes for each item that is there twice, and the keys of a
    sample. Raises `JobError` for what cannot be read and `InvalidRequestError` for a default that no item's API has.
    """
    count = _Count(source, selection or Selection(), settled_as)
    count.read()
    count.settle_doubts()
    return count.census()


def rest_of(
    census: Census,
    source: Source,
    selection: Selection,
    *,
    is_waiting: Callable[[str], bool],
    settled: Mapping[str, int] | None = None,
) -> Census:
    """Return a census that was taken before, its `models` and `problems` those of the items that are still to be sent.

    Only these are looked at, so most of a long job that goes on is passed over quickly. `settled` says how many of the
    others ended how. Raises `JobError` for a line that has become bad.
    """
    rest = _Part(_unsettled)
    for item in source.items(is_waiting):
        if selection.limit is not None and item.number >= selection.limit:
            break
        if census.selects(item):
            rest.add(item)
    return evolve(census, settled=settled or {}, models=rest.tally.shares(), problems=+rest.tally.problems)


@define(eq=False)
class _Count:
    """The counting, step by step."""

    source: Source
    selection: Selection
    settled_as: Callable[[str], str | None]
    seen: SeenKeys = field(factory=SeenKeys, init=False)
    kinds: set[type[Request]] = field(factory=set, init=False)
    repeated: set[int] = field(factory=set, init=False)
    bad: _BadLines = field(init=False)
    whole: _Part = field(init=False)
    draw: Draw | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.bad, self.whole = _BadLines(), _Part(self.settled_as)
        self.draw = None if self.selection.sample is None else Draw(self.selection.sample)

    def read(self) -> None:
        """Count all that is selected, as if nothing were there twice."""
        for entry in self.source.entries(limit=self.selection.limit):
            problem = entry if isinstance(entry, BadLine) else _conflict(entry, self.source.name)
            if problem is not None:
                self.bad.add(problem)
            elif isinstance(entry, Item):
                self.note(entry)
        check_used(self.source.defaults, DIALECTS.values() if self.bad.count else self.kinds)

    def note(self, item: Item) -> None:
        """Count an item. Only keys of the user's own can be there twice."""
        self.kinds.add(type(item.request))
        if item.request.id is not None:
            self.seen.add(item.key)
        if self.draw is not None:
            self.draw.show(item.key)
        self.whole.add(item)

    def settle_doubts(self) -> None:
        """Take back what is there twice, and note what is wrong with it."""
        sightings = self.seen.sightings()
        if sightings is None:
            return
        for item in self.items(sightings.is_doubted):
            earlier = sightings.see(item.key, item.line, self.source.body_sha(item))
            if earlier is None:
                continue
            self.whole.add(item, -1)
            if earlier.is_same:
                self.repeated.add(item.number)
            else:
                self.bad.add(BadLine(item.line, _about_id(item, earlier.line), self.source.name))

    def items(self, wanted: Callable[[str], bool]) -> Iterator[Item]:
        """Read some of the items once more."""
        limit = self.selection.limit
        entries = self.source.entries(limit=limit) if self.bad.count else self.source.items(wanted, limit=limit)
        items = (entry for entry in entries if isinstance(entry, Item) and wanted(entry.key))
        return (item for item in items if _conflict(item, self.source.name) is None)

    def drawn(self, keys: frozenset[str]) -> _Part:
        """Count the items of a sample."""
        part = _Part(self.settled_as)
        for item in self.items(keys.__contains__):
            if item.number not in self.repeated:
                part.add(item)
        return part

    def census(self) -> Census:
        """Return what was counted."""
        chosen = None if self.draw is None else self.draw.keys
        part = self.whole if chosen is None else self.drawn(chosen)
        return Census(
            total=part.total,
            pictures=part.pictures,
            settled=+part.settled,
            models=part.tally.shares(),
            problems=+part.tally.problems,
            repeated=frozenset(self.repeated),
            chosen=chosen,
            bad=self.bad.in_order(),
            bad_count=self.bad.count,
        )


@define(eq=False)
class _Part:
    """A part of the items, counted."""

    settled_as: Callable[[str], str | None]
    total: int = 0
    pictures: int = 0
    settled: Counter[str] = field(factory=Counter)
    tally: Tally = field(factory=Tally)

    def add(self, item: Item, times: int = 1) -> None:
        self.total += times
        self.pictures += times * item.request.pictures
        state = self.settled_as(item.key)
        if state is None:
            self.tally.add(item.request, times)
        else:
            self.settled[state] += times


@define(eq=False)
class _BadLines:
    """What is wrong, as much as is remembered; a line is named once, however many copies of it there are."""

    count: int = 0
    kept: list[BadLine] = field(factory=list)
    last: int = 0

    def add(self, bad: BadLine) -> None:
        if bad.line == self.last:
            return
        self.last = bad.line
        self.count += 1
        if len(self.kept) < MOST_KEPT:
            self.kept.append(bad)

    def in_order(self) -> tuple[BadLine, ...]:
        return tuple(sorted(self.kept, key=lambda bad: bad.line))


def _conflict(item: Item, name: str) -> BadLine | None:
    conflict = find_conflict(item.request) if isinstance(item.request, ImageRequest) else None
    return None if conflict is None else BadLine(item.line, conflict, name)


def _about_id(item: Item, line: int) -> str:
    return f"id {shown(item.request.id)} was used for another request in line {line}; give each one of its own"
