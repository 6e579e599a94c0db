"""What is noted in the ledger of an item: that it is about to be sent, and that an attempt failed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.manifest.items import Item
from nebula_async.bulk.states import NewItem, State
from nebula_async.charges import Charges
from nebula_async.engine.verdict import Verdict
from nebula_async.errors import cause_of
from nebula_async.results import describe_request
from nebula_async.sinks.names import relative_key

Note = Callable[[Ledger], None]


def new_item(item: Item, body_sha: str, beyond: int) -> NewItem:
    """Return an item as a ledger takes it: without the pictures that are handed in, its request with its seed."""
    request = item.request
    return NewItem(
        key=item.key,
        number=item.number,
        beyond=beyond,
        body_sha=body_sha,
        asked=request.pictures,
        name=lambda seq: f"images/{relative_key(seq, request.prompt, request.id)}",
        request=json.dumps(describe_request(request)["request"]),
    )


def failed_attempt(
    seq: int, n: int, asked: int, verdict: Verdict, state: State | None, seconds: float | None = None
) -> Note:
    """Return the note that an attempt for so many pictures failed just now, after so many seconds, and where that
    leaves its item, if that is known already.
    """
    at, error, cause = time.time(), verdict.error.message, cause_of(verdict.error)
    request_id = verdict.error.request_id

    def note(ledger: Ledger) -> None:
        charges, known = verdict.known.charges * asked, verdict.known.value
        ledger.ended(seq, n, known, charges, at=at, request_id=request_id, error=error, cause=cause, seconds=seconds)
        if state is not None:
            ledger.move(seq, state, error=error, cause=cause)

    return note


def rest_of(whole: Charges, told: Charges) -> Charges:
    """Return what the last attempt of a call may be charged, by what all and those before it may."""
    return Charges(max(whole.at_least - told.at_least, 0), max(whole.at_most - told.at_most, 0))
