"""What a job finds when it starts: changed input, pictures that are gone, and calls that had not ended when a run was
stopped.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from attrs import define, field, frozen

from nebula_async.bulk.budget import DuplicateBudget
from nebula_async.bulk.causes import GONE, MISSING, STOPPED
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.manifest.census import Census, Selection
from nebula_async.bulk.manifest.items import Item
from nebula_async.bulk.manifest.source import Source
from nebula_async.bulk.metadata import Making
from nebula_async.bulk.outcome import about_missing
from nebula_async.bulk.spool import Received
from nebula_async.bulk.states import Row, State
from nebula_async.bulk.storing import Storing
from nebula_async.bulk.worker import ANSWERED
from nebula_async.charges import Charges
from nebula_async.config import Config
from nebula_async.engine.verdict import Known
from nebula_async.errors import JobError
from nebula_async.images.provenance import Provenance

MOST_SHOWN = 20

ABOUT_STOPPED = "the run was stopped while the request was under way"


@frozen(kw_only=True)
class Recovery:
    """What became of the calls that had not ended when earlier runs were stopped.

    The pictures of `adopted` were received whole, and are stored now. `sent_again` are: they may be paid for twice.
    `given_up` may have been paid for, and are sent again when the user says so. `removed` items are in the input no
    more. The pictures of `gone` were stored, and are there no more.
    """

    adopted: int = 0
    sent_again: int = 0
    given_up: int = 0
    removed: int = 0
    gone: int = 0


def check_ours(folder: JobFolder, ledger: Ledger, *, server: str, account: str | None) -> None:
    """Raise `JobError` where the job was begun with another server or account, or its ledger is gone."""
    if ledger.is_empty():
        if folder.holds_pictures():
            raise JobError(
                f"{folder.images} holds the pictures of a job, and their ledger {folder.ledger} is gone or empty;"
                f" restore it, or make it anew with nebula-async rebuild {folder.path}: all would be paid for again"
            )
        return
    known = ledger.fact("server")
    if known not in (server, None):
        raise JobError(f"{folder.path} was begun with {known}, and this is {server}; use another output folder")
    if account is not None and ledger.fact("account") not in (account, None):
        raise JobError(
            f"{folder.path} was begun with another API key; use that one, or say that it is of the same account"
            " (--new-key, new_key=True), or use another output folder"
        )


def note_ours(ledger: Ledger, *, server: str, account: str | None) -> None:
    """Note whose job it is."""
    ledger.note("server", server)
    if account is not None:
        ledger.note("account", account)


def list_items(source: Source, census: Census, selection: Selection, folder: JobFolder, ledger: Ledger) -> None:
    """Let the ledger count those of its items that are selected from the input, and no others.

    Raises `JobError`, and changes nothing, for items that are not what the ledger knows under their key.
    """
    changed: list[Item] = []
    with ledger.together():
        ledger.unlist()
        for item in source.items(lambda key: ledger.find(key) is not None, limit=selection.limit):
            row = ledger.find(item.key)
            if row is None or row.body_sha == source.body_sha(item):
                if census.selects(item):  # the first of those that say the same is
                    ledger.set_listed(item.key, is_listed=True)
            elif len(changed) < MOST_SHOWN:
                changed.append(item)
        if changed:
            raise JobError(_about_change(changed, source, folder))


def check_items(source: Source, selection: Selection, folder: JobFolder, ledger: Ledger) -> None:
    """Raise `JobError` for items that are not what the ledger knows under their key."""
    known = source.items(lambda key: ledger.find(key) is not None, limit=selection.limit)
    pairs = ((item, ledger.find(item.key)) for item in known)
    changed = (item for item, row in pairs if row is not None and row.body_sha != source.body_sha(item))
    if first := list(islice(changed, MOST_SHOWN)):
        raise JobError(_about_change(first, source, folder))


def _about_change(changed: Sequence[Item], source: Source, folder: JobFolder) -> str:
    lines = ", ".join(str(item.line) for item in changed)
    return (
        f"{folder.path} was begun with other input: line {lines} of {source.name}, or the options that fill it in,"
        " changed; restore them, or use another --out (lines may be added at the end, and those with a new id anywhere)"
    )


@define(eq=False)
class Recoverer:
    """Settles every call that has not ended: stores what was received whole, lets others be sent again as often as the
    policy says, and gives up the rest. It may be killed anywhere, and be run again.

    `is_same_boot`: what the system held in memory of part files is still there.
    """

    ledger: Ledger
    storing: Storing
    duplicates: DuplicateBudget
    config: Config
    is_same_boot: bool
    _counts: Counter[State] = field(factory=Counter, init=False)

    def run(self) -> Recovery:
        """Settle all."""
        gone = self._note_gone()
        for row in list(self.ledger.rows(State.SENT)):
            self._counts[self._settle(row)] += 1
        self.storing.spool.sweep({row.seq for row in self.ledger.rows(State.BAD)})
        counts = self._counts
        return Recovery(
            adopted=counts[State.DONE] + counts[State.BAD] + counts[State.URLS],
            sent_again=counts[State.PENDING],
            given_up=counts[State.UNKNOWN],
            removed=self.ledger.unlisted(),
            gone=gone,
        )

    def _note_gone(self) -> int:
        shelf = self.storing.shelf
        lost = [(seq, path) for seq, path, size in self.ledger.places() if not shelf.holds(path, size)]
        done = {row.seq for row in self.ledger.rows(State.DONE)} if lost else set()
        with self.ledger.together():
            for seq, path in lost:
                if seq in done:  # what is under way, or still at a URL, is settled by itself
                    self.ledger.move(seq, State.BAD, error="the picture was stored, and is gone or empty", cause=GONE)
                self.ledger.forget(path)
        return len({seq for seq, _ in lost})

    def _settle(self, row: Row) -> State:
        received = self._received(row)
        return self._give_up(row) if received is None else self._adopt(row, received)

    def _received(self, row: Row) -> list[Received] | None:
        """Return the pictures of a complete reply, or those that came whole of one that broke off."""
        spool = self.storing.spool
        found = spool.read_reply(row.seq, row.sends)
        if found is not None:
            return found or None
        return (spool.whole_parts(row.seq, row.sends) if self.is_same_boot else []) or None

    def _adopt(self, row: Row, received: list[Received]) -> State:
        draft = _making(row).draft()
        pictures = dict(enumerate(received, self.ledger.next_index(row.seq)))
        outputs = self.storing.place(row.seq, row.sends, row.name, draft, pictures)
        self.storing.settle()
        missing = max(row.asked - len(received), 0)
        is_here = all(output.path for output in outputs)
        state = (State.BAD if missing else State.DONE) if is_here else State.URLS
        with self.ledger.together():
            charges = Charges(len(received), max(row.asked, len(received)))
            self.ledger.ended(row.seq, row.sends, ANSWERED, charges, at=time.time())
            self.ledger.store(outputs)
            error = about_missing(missing, row.asked)
            self.ledger.move(row.seq, state, error=error, cause=MISSING if error else None)
        self.storing.spool.discard(row.seq, row.sends)
        return state

    def _give_up(self, row: Row) -> State:
        """Let an item be sent again, or not, by what is known of its last attempt."""
        last = self.ledger.attempts(row.seq)[-1]
        if last.verdict == Known.PAID_UNUSABLE.value:  # killed before the item was said to be bad
            self.ledger.move(row.seq, State.BAD, error=last.error, cause=last.cause)
            return State.BAD
        has_begun = self.storing.spool.has_begun(row.seq, row.sends)
        verdict = last.verdict or (Known.PAID_LOST if has_begun else Known.UNKNOWN).value
        is_resent, duplicates = self._allow_resend(row, verdict)
        state = State.PENDING if is_resent else State.UNKNOWN
        with self.ledger.together():
            if last.verdict is None:
                charges = Known(verdict).charges * row.asked
                self.ledger.ended(
                    row.seq, row.sends, verdict, charges, at=time.time(), error=ABOUT_STOPPED, cause=STOPPED
                )
            if is_resent and self.config.idempotency != "replay":
                self.ledger.resending(row.seq, duplicates)
            self.ledger.move(row.seq, state, error=last.error or ABOUT_STOPPED, cause=last.cause or STOPPED)
        self.storing.spool.discard(row.seq, row.sends)
        return state

    def _allow_resend(self, row: Row, verdict: str) -> tuple[bool, int]:
        """Return whether an item may be sent again, and how many pictures come out of the duplicate-spend budget."""
        if self.config.idempotency == "replay":
            return True, 0
        duplicates = 0 if verdict == Known.SERVER_FAILED.value else row.asked  # then the server said that it failed
        if row.resends >= self.config.retry.resend_unknown or (duplicates and not self.duplicates.take(duplicates)):
            return False, 0
        return True, duplicates


def _making(row: Row) -> Making:
    """Return how an item's pictures were made, as far as that is known without the reply's facts."""
    made = Provenance(request=json.loads(row.request))
    return Making(made=made, key=row.key, number=row.seq, body_sha=row.body_sha)
