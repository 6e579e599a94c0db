"""What must hold after every run of a seed's job, and what at its end: the job's word against the service's own.

What holds of any job's folder is in `job_invariants.py`; here is what takes a whole story, or the emulator's pictures.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field, frozen
from job_invariants import Item, Witness, violations
from nemesis import Round, Workload
from pictures import Easel
from processes import HUNG
from small_job import Ended

from nebula_async.emulator import RequestRecord

DONE, SOME_FAILED, NOT_STARTED, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
FINISHED = (DONE, SOME_FAILED, STOPPED, INTERRUPTED)
"""Exit codes of a run that wrote its report."""

KILLS = {"SIGKILL": -9, "SIGTERM": -15, "SIGINT": -2, "SIGINT twice": -2}
SHORT_OF_SOMETHING = {
    "disk that fails", "few descriptors", "folder that is locked", "disk is full", "folder locked", "two at once",
}  # fmt: skip
"""Where a run may not begin at all."""

NO_TABLE = "no such table"

SHARE_IN = 100
"""One picture in so many may be bought again unasked."""


@frozen
class Seen:
    """A run that has ended: what was asked of it, what was done to it, and which processes it left."""

    given: Round
    ended: Ended
    done: frozenset[str]
    leftovers: tuple[int, ...] = ()


@frozen
class Books:
    """What a job came to: items, pictures stored and billed, those billed beyond one each, and the bounds it states."""

    items: int
    stored: int
    billed: int
    extra: int
    at_least: int
    at_most: int
    states: Counter[str]

    def __str__(self) -> str:
        states = ", ".join(f"{state} {number}" for state, number in sorted(self.states.items()))
        return (
            f"{self.items:>3} items | stored {self.stored:>3} | billed {self.billed:>3} in"
            f" {self.at_least}..{self.at_most} | extra {self.extra:>2} | {states}"
        )


class Scene(Protocol):
    """Where a job lies, and what the service wrote down of it."""

    disk: Path
    records: tuple[RequestRecord, ...]


@define(eq=False)
class Checker:
    """Looks at a job after each of its runs; `problems` is what did not hold."""

    world: Scene
    workload: Workload
    problems: list[str] = field(factory=list, init=False)
    _published: dict[str, str] = field(factory=dict, init=False)
    _at_most: int = field(default=0, init=False)
    _unknown_again: int = field(default=0, init=False)
    _runs: int = field(default=0, init=False)

    @property
    def out(self) -> Path:
        """The job's folder."""
        return self.world.disk / "out"

    def witness(self) -> Witness:
        """Return what is there, and what the service saw."""
        return Witness.called(self.out, self.workload.prompts, self.world.records)

    def look(self, seen: Seen) -> None:
        """Look at what a run left."""
        self._runs += 1
        where = f"run {self._runs} ({seen.given.frame})"
        found = [*_of_its_end(seen)]
        self._unknown_again += "--resend-unknown" in seen.given.options
        if (self.out / ".nebula" / "ledger.db").exists():
            found += self._of_ledger(self.witness(), seen)
        elif self.world.records:
            found.append("pictures were asked for, and there is no ledger")
        self.problems += [f"{where}: {problem}" for problem in found]

    def _of_ledger(self, witness: Witness, seen: Seen) -> Iterator[str]:
        if not self.world.records and witness.kept.integrity.startswith(NO_TABLE):
            return  # the disk failed as it was made, and nothing was asked for
        yield from self._kept(violations(witness, is_over=False))
        yield from (*self._of_files(witness), *self._of_money(witness, seen), *self._of_report(witness, seen))

    def look_at_rival(self, ended: Ended, *, is_first_there: bool) -> None:
        """Look at how a second process ended; where the first was there for certain, it must have been refused."""
        if is_first_there and ended.code != NOT_STARTED:
            self.problems.append(f"a second process was not refused: {ended.code} {ended.said[-300:]}")
        if ended.has_crashed or HUNG in ended.said or ended.code not in (NOT_STARTED, *FINISHED):
            self.problems.append(f"a second process crashed: {ended.code} {ended.said[-500:]}")

    def look_at_end(self, given: Round) -> None:
        """Look at a job that has ended, in a calm world."""
        witness, where = self.witness(), f"at the end ({' '.join(given.options) or 'by itself'})"
        found = [*self._kept(violations(witness)), *Easel(self.workload).problems(witness)]
        states = _states(witness)
        if given.options and states != {"done": self.workload.items}:
            found.append(f"not all are done: {dict(states)}")
        self.problems += [f"{where}: {problem}" for problem in found]

    def books(self) -> Books:
        """Return what the job came to."""
        witness = self.witness()
        items = witness.kept.items.values()
        return Books(
            items=self.workload.items,
            stored=sum(len(item.stored) for item in items),
            billed=sum(record.images_charged for record in witness.requests),
            extra=witness.extra,
            at_least=sum(item.at_least for item in items),
            at_most=sum(item.at_most for item in items),
            states=_states(witness),
        )

    def _kept(self, problems: list[str]) -> list[str]:
        """Return the problems but for the gallery's files, which are no part of what is bought."""
        return [problem for problem in problems if not problem.startswith("I7: gallery/")]

    def _of_files(self, witness: Witness) -> Iterator[str]:
        """No file that was published is ever another one, or gone."""
        owned = {output["path"] for item in witness.kept.items.values() for output in item.stored}
        now = {path: _digest(self.out / path) for path in owned}
        for path, digest in self._published.items():
            if _digest(self.out / path) != digest:
                yield f"{path} was published, and is other bytes or gone"
        self._published |= now

    def _of_money(self, witness: Witness, seen: Seen) -> Iterator[str]:
        """What is bought again unasked stays within what the policy allows, and all of it within a budget."""
        items = witness.kept.items
        duplicates, pictures = sum(item.row["duplicates"] for item in items.values()), self._pictures
        if duplicates > max(1, pictures // SHARE_IN):
            yield f"{duplicates} pictures of {pictures} were bought again unasked"
        for key, item in items.items():
            charged, most = witness.charged(key), self._most_charged(item)
            if charged > most:
                yield f"I5: {key} was charged {charged} times, allowed are {most}"
        at_most = sum(item.at_most for item in items.values())
        budget = _budget(seen.given)
        if budget is not None and at_most > max(budget, self._at_most):
            yield f"the budget of {budget} pictures was passed: {at_most} after {self._at_most}"
        self._at_most = at_most

    @property
    def _pictures(self) -> int:
        return self.workload.items * self.workload.pictures

    def _most_charged(self, item: Item) -> int:
        """Return how often an item may be charged: once and its repetitions, for each time that it was asked for."""
        asked_for = 1 + item.row["epoch"] + self._unknown_again
        if self.workload.is_replaying:
            return self.workload.pictures * (1 + item.row["epoch"])
        return self.workload.pictures * asked_for * (1 + self.workload.resends)

    def _of_report(self, witness: Witness, seen: Seen) -> Iterator[str]:
        """`report.json` says what the ledger says, and how the process ended."""
        if seen.ended.code not in FINISHED or seen.done & SHORT_OF_SOMETHING or seen.given.frame in SHORT_OF_SOMETHING:
            return
        path = self.out / "report.json"
        if not path.exists():
            yield f"it ended with {seen.ended.code} and left no report"
            return
        told, states = json.loads(path.read_bytes()), _states(witness)
        yield from _differences(told, _counts(witness, states))
        code = told["this_run"]["exit_code"]
        if seen.ended.code not in (code, INTERRUPTED):
            yield f"report.json says {code}, and the process ended with {seen.ended.code}"
        if seen.ended.code == STOPPED and not told["this_run"]["stopped_by"]:
            yield "it was stopped, and report.json does not say by what"
        if (seen.ended.code == DONE) != (states == {"done": self.workload.items}):
            yield f"it ended with {seen.ended.code}, and the items are {dict(states)}"


def _of_its_end(seen: Seen) -> Iterator[str]:
    """A run ends as it is documented to, for a reason that it says."""
    ended = seen.ended
    if HUNG in ended.said:
        yield HUNG
    if ended.has_crashed:
        yield f"it crashed with {ended.code}: {ended.said[-1500:]}"
    if ended.code in (NOT_STARTED, STOPPED) and not ended.said.strip():
        yield f"it ended with {ended.code} and did not say why"
    if ended.code not in _expected(seen):
        yield f"it ended with {ended.code}, which nothing that was done to it explains: {ended.said[-500:]}"
    if seen.leftovers:
        yield f"it left processes: {seen.leftovers}"


def _expected(seen: Seen) -> set[int]:
    """Return the exit codes that what was done to a run can lead to."""
    if seen.given.frame == "calm":
        return {DONE, SOME_FAILED}
    killed = {KILLS[kind] for kind in seen.done & KILLS.keys()}
    interrupted = {INTERRUPTED} if seen.done & (KILLS.keys() - {"SIGKILL"}) else set()
    refused = {NOT_STARTED} if (seen.done | {seen.given.frame}) & SHORT_OF_SOMETHING else set()
    return {DONE, SOME_FAILED, STOPPED} | killed | interrupted | refused


def _budget(given: Round) -> int | None:
    found = re.search(r"--max-images (\d+)", " ".join(given.options))
    return int(found[1]) if found else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "gone"


def _states(witness: Witness) -> Counter[str]:
    return Counter(item.row["state"] for item in witness.kept.items.values())


def _counts(witness: Witness, states: Counter[str]) -> dict[str, Any]:
    """Return what a report has to say by the ledger."""
    items, open_ = witness.kept.items.values(), sum(item.row["at_stake"] for item in witness.kept.items.values())
    return {
        "items": len(witness.prompts),
        "done": states["done"],
        "rejected": states["rejected"],
        "bad": states["bad"] + states["expired"],
        "unknown": states["unknown"] + states["sent"],
        "unfetched": states["urls"],
        "pictures": sum(len(item.stored) for item in items),
        "charges_at_least": sum(item.at_least for item in items),
        "charges_at_most": sum(item.row["at_most"] for item in items) + open_,
        "requests": sum(attempt["verdict"] != "not sent" for item in items for attempt in item.attempts),
    }


def _differences(told: dict[str, Any], counted: dict[str, Any]) -> Iterator[str]:
    for name, number in counted.items():
        if told[name] != number:
            yield f"report.json says {name} {told[name]}, by the ledger it is {number}"
