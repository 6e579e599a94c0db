"""What a job did, cost and lost, and why, over all its runs: as its ledger tells it."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from nebula_async.bulk.causes import next_step, told
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.ledger_rows import UNFINISHED
from nebula_async.bulk.report import Report
from nebula_async.bulk.shares import ModelShare, read_shares
from nebula_async.bulk.states import State
from nebula_async.bulk.timeline import Latency, Slice, read_latency, read_stretches, read_timeline, running_seconds
from nebula_async.charges import Charges

MOST_CAUSES = 100
LONGEST_ERROR, LONGEST_CAUSE = 300, 100
"""Characters: what an API says may be of any length."""

CAUSES = f"""
    SELECT state, cause, error, min(seq), count(*), count(DISTINCT error), sum(at_least), sum(at_most + at_stake)
        FROM item WHERE {UNFINISHED}
        GROUP BY state, cause, error IS NULL ORDER BY count(*) DESC, state, cause"""  # noqa: S608 - our own names
"""With the error of the first item of each group, which SQLite takes from the row that has the least number."""


@frozen(kw_only=True)
class Cause:
    """Why `items` that stand in one state are not done: the `cause` that they have in common, the `error` of the first
    of them and how many different `texts` there are, what they may have been charged, and what can be done.
    """

    state: State
    cause: str
    error: str
    texts: int
    items: int
    charges: Charges
    next_step: str


@frozen(kw_only=True)
class Summary:
    """How a job stands, over all its runs: its counts in `report`, and what they are made of.

    - `models`, `causes`: the most frequent first; `more_causes` items have causes that are not among these 100
    - `latency`: how long requests took, `None` where none was answered
    - `timeline`: at most 120 slices of the time in which the job ran, pauses between its runs left out
    - `requests` were sent, `refusals` of them refused as one too many; `paid_twice` pictures, at most, were paid for
      beyond those asked for, `resent_unasked` were asked for once more because nobody knew whether they were paid for
    - the cost in USD at the prices of the day of each request; `unpriced` pictures, at most, are not in it
    - `started`, `ended`: Unix times of the first request and of the last answer, `None` where nothing was sent
    - `seconds` in which requests were under way, without the pauses between runs
    """

    report: Report
    models: tuple[ModelShare, ...]
    causes: tuple[Cause, ...]
    more_causes: int
    latency: Latency | None
    timeline: tuple[Slice, ...]
    requests: int
    refusals: int
    paid_twice: int
    resent_unasked: int
    started: float | None
    ended: float | None
    seconds: float

    @property
    def cost_at_least(self) -> Decimal:
        """USD that were spent."""
        return sum((share.cost_at_least for share in self.models), Decimal(0))

    @property
    def cost_at_most(self) -> Decimal:
        """USD that may have been spent."""
        return sum((share.cost_at_most for share in self.models), Decimal(0))

    @property
    def unpriced(self) -> int:
        """Pictures, at most, that were paid for at a price that is not known."""
        return sum(share.unpriced for share in self.models)


def summarize(ledger: Ledger, report: Report) -> Summary:
    """Return what a ledger says of a job that stands as the report says; it blocks, in the ledger's turn.

    It takes about a second for 100,000 items; memory does not grow with them. Raises `JobError`.
    """
    with ledger.together():  # a reader sees one moment, although the job goes on
        stretches = read_stretches(ledger)
        causes, more = _read_causes(ledger)
        return Summary(
            report=report,
            models=read_shares(ledger),
            causes=causes,
            more_causes=more,
            latency=read_latency(ledger),
            timeline=read_timeline(ledger, stretches),
            requests=ledger.sends(),
            refusals=ledger.refusals(),
            paid_twice=ledger.paid_twice(),
            resent_unasked=ledger.duplicates(),
            started=stretches[0].start if stretches else None,
            ended=max(stretch.end for stretch in stretches) if stretches else None,
            seconds=running_seconds(stretches),
        )


def _read_causes(ledger: Ledger) -> tuple[tuple[Cause, ...], int]:
    """Return the causes that are told, and how many items have others."""
    causes: list[Cause] = []
    more = 0
    for state, cause, error, _, items, texts, least, most in ledger.select(CAUSES):
        if len(causes) < MOST_CAUSES:
            causes.append(_cause(State(state), *told(State(state), cause, error), texts, items, Charges(least, most)))
        else:
            more += items
    return tuple(causes), more


def _cause(state: State, cause: str, error: str, texts: int, items: int, charges: Charges) -> Cause:
    return Cause(
        state=state,
        cause=cause[:LONGEST_CAUSE],
        error=error[:LONGEST_ERROR],
        texts=max(texts, 1),
        items=items,
        charges=charges,
        next_step=next_step(state, cause),
    )
