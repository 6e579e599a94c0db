"""Where an item of a job can stand, and what the ledger keeps of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from attrs import field, frozen

from nebula_async.charges import Charges


class State(StrEnum):
    """Where an item stands; one that has no row in the ledger is pending too.

    - `PENDING`: to be sent. `SENT`: about to leave, or under way, or received and not yet stored.
    - `URLS`: paid for, and still to be fetched. `DONE`: stored.
    - `REJECTED`: refused, and not charged. `BAD`: paid for, and unusable or incomplete. `EXPIRED`: paid for, and its
      URL is gone. `UNKNOWN`: may have been paid for, and nothing is here.
    """

    PENDING = "pending"
    SENT = "sent"
    URLS = "urls"
    DONE = "done"
    REJECTED = "rejected"
    BAD = "bad"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


GOES_TO: Mapping[State, frozenset[State]] = {
    State.PENDING: frozenset({State.SENT, State.REJECTED}),
    State.SENT: frozenset(State),
    State.URLS: frozenset({State.URLS, State.DONE, State.BAD, State.EXPIRED}),
    State.DONE: frozenset({State.BAD}),  # its picture was taken away
    State.REJECTED: frozenset({State.PENDING}),
    State.BAD: frozenset({State.PENDING}),
    State.EXPIRED: frozenset({State.PENDING}),
    State.UNKNOWN: frozenset({State.PENDING}),
}

FAILED = (State.REJECTED, State.BAD, State.EXPIRED)
"""What `retry_failed` puts back; `UNKNOWN` is put back by `resend_unknown`."""


@frozen(kw_only=True)
class NewItem:
    """An item that is to be sent for the first time. `name` makes its name of its `seq`, which is its `number` or,
    where that is taken, `beyond` all numbers.
    """

    key: str
    number: int
    beyond: int
    body_sha: str
    asked: int
    name: Callable[[int], str]
    request: str = field(repr=False)


@frozen
class Row:
    """An item as the ledger knows it.

    `seq` is its number in file names. `asked` pictures are asked for; `charges` is what attempts that ended may have
    cost, `at_stake` what one under way may. `epoch` counts how often it was bought anew, `sends` all attempts,
    `resends` those that may have paid twice, `duplicates` the pictures that they asked for out of the duplicate-spend
    budget.
    `name` is where its first picture belongs, without extension; `request` is what was asked for, as JSON without the
    pictures that were handed in. `error` says why it is not done, and `cause` in a word or two what errors are grouped
    by.
    """

    seq: int
    key: str
    body_sha: str
    state: State
    epoch: int
    sends: int
    resends: int
    duplicates: int
    asked: int
    charges: Charges
    at_stake: int
    name: str
    request: str = field(repr=False)
    error: str | None = None
    cause: str | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether the item was sent and is not done, and nothing will change that without another run."""
        return self.error is not None if self.state is State.PENDING else self.state is not State.DONE


@frozen(kw_only=True)
class Output:
    """A picture of an item: stored at `path`, or still to be fetched from `url` before `expires_at` (Unix time).

    `row` is its line of `images/metadata.jsonl`.
    """

    seq: int
    index: int
    path: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    media_type: str | None = None
    row: str | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)
    expires_at: float | None = None


@frozen(kw_only=True)
class Attempt:
    """A request that was sent for an item: when (Unix time), under which key, what became of it, what it may cost.

    `seconds` is how long it took from its leaving until it had ended, where the run that sent it saw that.
    """

    seq: int
    n: int
    call_key: str
    sent_at: float
    ended_at: float | None
    verdict: str | None
    charges: Charges
    error: str | None
    cause: str | None = None
    seconds: float | None = None
    request_id: str | None = None
