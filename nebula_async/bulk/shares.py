"""What each model did and cost in a job, by its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from attrs import evolve, frozen

from nebula_async.bulk.ledger import Ledger
from nebula_async.charges import Charges

MOST_MODELS = 100
"""So many are told one by one, those with the most items; the rest are `OTHERS`."""

OTHERS = "others"

COUNTS = ("items", "done", "failed", "pictures", "cost_at_least", "cost_at_most", "unpriced")

KIND = (
    "coalesce(CAST(json_extract(request, '$.dialect') AS TEXT), 'serverless') AS dialect,"
    " coalesce(CAST(json_extract(request, '$.model') AS TEXT), 'not known') AS model"
)
ITEMS = f"""
    SELECT {KIND}, sum(listed), sum(listed AND state = 'done'),
        sum(listed AND state IN ('rejected', 'bad', 'expired', 'unknown')), sum(at_least), sum(at_most + at_stake)
        FROM item GROUP BY dialect, model"""  # noqa: S608 - our own names
PICTURES = f"""
    SELECT {KIND}, count(*) FROM output JOIN item USING (seq) WHERE path IS NOT NULL
        GROUP BY dialect, model"""  # noqa: S608
PRICES = f"""
    WITH paid AS (
        SELECT seq, price, at_least, at_most FROM attempt WHERE at_most > 0 AND NOT is_replayed
        UNION ALL SELECT seq, price, max(at_least), max(at_most) FROM attempt WHERE is_replayed
            GROUP BY seq, call_key, price
        UNION ALL SELECT seq, price, 0, at_stake FROM item JOIN attempt USING (seq) WHERE at_stake > 0 AND n = sends)
    SELECT {KIND}, price, sum(paid.at_least), sum(paid.at_most) FROM paid JOIN item USING (seq)
        GROUP BY dialect, model, price"""  # noqa: S608
"""How many pictures were, and may have been, paid for at each price; attempts under one replayed key count once."""


@frozen(kw_only=True)
class ModelShare:
    """What one model of one API did in a job, of what was ever sent; what waits unsent is not counted by model.

    `items` are asked for, `done` and `failed` of them ended; the rest are under way, to be fetched, or to be sent
    again. `pictures` are stored, `charges` may have been paid for, over all runs, also for items that are asked for no
    more. The cost is in USD at the prices of the day of each request; `unpriced` pictures, at most, had none and are
    not in it.
    """

    dialect: str
    model: str
    items: int
    done: int
    failed: int
    charges: Charges
    pictures: int = 0
    cost_at_least: Decimal = Decimal(0)
    cost_at_most: Decimal = Decimal(0)
    unpriced: int = 0

    def paying(self, price: Decimal | None, least: int, most: int) -> ModelShare:
        """Return the share with pictures paid for at USD for each, `None`: not known."""
        if price is None:
            return evolve(self, unpriced=self.unpriced + most)
        least_cost, most_cost = self.cost_at_least + least * price, self.cost_at_most + most * price
        return evolve(self, cost_at_least=least_cost, cost_at_most=most_cost)


def read_shares(ledger: Ledger) -> tuple[ModelShare, ...]:
    """Return the share of each model, those with the most items first; it blocks, about 2 s for a million items."""
    shares: dict[tuple[str, str], ModelShare] = {}
    for dialect, model, items, done, failed, least, most in ledger.select(ITEMS):
        shares[dialect, model] = ModelShare(
            dialect=dialect, model=model, items=items, done=done, failed=failed, charges=Charges(least, most)
        )
    for dialect, model, pictures in ledger.select(PICTURES):
        shares[dialect, model] = evolve(shares[dialect, model], pictures=pictures)
    for dialect, model, price, least, most in ledger.select(PRICES):
        shares[dialect, model] = shares[dialect, model].paying(amount(price), least, most)
    ordered = sorted(shares.values(), key=lambda share: (-share.items, share.dialect, share.model))
    told, rest = ordered[:MOST_MODELS], ordered[MOST_MODELS:]
    return (*told, _together(rest)) if rest else tuple(told)


def _together(shares: Sequence[ModelShare]) -> ModelShare:
    sums = {name: sum(getattr(share, name) for share in shares) for name in COUNTS}
    charges = sum((share.charges for share in shares), Charges())
    return ModelShare(dialect="", model=OTHERS, charges=charges, **sums)


def amount(price: str | None) -> Decimal | None:
    """Return a price as the ledger notes it, `None` for one that is not known, or that somebody made unreadable."""
    try:
        found = None if price is None else Decimal(price)
    except InvalidOperation:
        return None
    return found if found is not None and found.is_finite() and found >= 0 else None
