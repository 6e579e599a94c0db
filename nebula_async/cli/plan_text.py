"""A plan as people read it, and as one JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from nebula_async.bulk.plan import BYTES_PER_PIXEL, EXPECTED_SECONDS, ModelPlan, Plan
from nebula_async.bulk.states import State
from nebula_async.cli.model_table import model_name
from nebula_async.cli.state_words import counts_in_words
from nebula_async.quantities import counted, dollars, duration, size

CENT = Decimal("0.01")

OPTIONS = {"max_cost": "--max-cost", "max_images": "--max-images", "max_requests": "--max-requests"}


def plan_lines(plan: Plan, *, now: float) -> list[str]:
    """Return a plan in short lines, for a moment in Unix time; the lines to mend come last, each by its number."""
    return [*_contents(plan), *_costs(plan), *_efforts(plan, now), *_notes(plan), *_bad(plan)]


def _contents(plan: Plan) -> Iterator[str]:
    yield f"{plan.name}: {counted(plan.total, 'item')}"
    if plan.repeated:
        yield f"there twice, and made once: {plan.repeated:,}"
    if plan.settled:
        settled = {State(state): count for state, count in plan.settled.items()}
        yield f"not sent again: {', '.join(counts_in_words(settled))}"
    yield f"to be sent: {counted(plan.items, 'request')} for {counted(plan.pictures, 'picture')}"
    for model in plan.models:
        yield f"  {_model(plan, model)}"


def _model(plan: Plan, model: ModelPlan) -> str:
    name = model_name(model.model, model.dialect)
    if model.price is None:
        return f"{name}: {counted(model.pictures, 'picture')} at a price that is not known"
    source = "the account's price" if model.model in plan.account.prices else "the built-in price"
    return f"{name}: {counted(model.pictures, 'picture')} at {dollars(model.price)} ({source})"


def _costs(plan: Plan) -> Iterator[str]:
    unpriced = f", and {counted(plan.unpriced, 'picture')} without a known price" if plan.unpriced and plan.cost else ""
    yield f"cost: {_cost(plan)}{unpriced}"
    if plan.calls_at_worst > 1 and plan.cost:
        yield (
            f"at worst: {dollars(plan.cost_at_worst)}{unpriced},"
            f" if every reply is lost and each picture is paid for {plan.calls_at_worst} times"
        )
    yield f"balance: {_balance(plan)}"
    if plan.budget_problem is not None:
        yield f"budget: {plan.budget_problem}"
    for limit in plan.used_up_by:
        yield f"budget: {OPTIONS[limit]} ends the job before all is made"


def _cost(plan: Plan) -> str:
    if plan.unpriced:
        return f"at least {dollars(plan.cost)}" if plan.cost else "not known"
    return dollars(plan.cost)


def _balance(plan: Plan) -> str:
    left = plan.balance_left
    if plan.account.balance is None or left is None:
        return f"not known ({plan.account.problem})" if plan.account.problem else "not known"
    balance = dollars(plan.account.balance)
    if left < 0:
        return f"{balance}: too little, {dollars(-left)} are missing"
    return f"{balance}, of which {'at most' if plan.unpriced else 'about'} {dollars(_rounded(left))} will be left"


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_FLOOR) if amount >= 1 else amount


def _efforts(plan: Plan, now: float) -> Iterator[str]:
    lasting = plan.duration
    if plan.items:
        yield f"time: about {duration(lasting.sending_seconds)} {_pace(plan)}"
    if plan.items and lasting.days > 1:
        end = datetime.fromtimestamp(now, UTC) + timedelta(seconds=min(lasting.seconds, 10**9))
        limit = "" if lasting.per_day is None else f" at {lasting.per_day:,} requests a day, which begins at 00:00 UTC"
        yield f"days: {lasting.days:,}{limit}, until {end:%Y-%m-%d}"
    if plan.items:
        yield f"disk: about {size(plan.disk)} (an estimate: {BYTES_PER_PIXEL:g} bytes a pixel){_free(plan)}"


def _pace(plan: Plan) -> str:
    if plan.duration.is_limited:
        return f"at {plan.duration.per_minute:g} requests a minute (the account's limit, less some headroom)"
    return f"with {plan.concurrency} at a time, if each takes {EXPECTED_SECONDS:g} s and the account's limits allow it"


def _free(plan: Plan) -> str:
    if plan.free is None:
        return ""
    return f"; {size(plan.free)} are free" + ("" if plan.fits_disk else ": too little")


def _notes(plan: Plan) -> Iterator[str]:
    problems = {model.problem: model.items for model in plan.models if model.problem is not None} | {**plan.problems}
    return (f"note: {problem} ({counted(count, 'item')})" for problem, count in problems.items())


def _bad(plan: Plan) -> Iterator[str]:
    if not plan.bad_count:
        return
    yield f"nothing can be sent; lines to mend: {plan.bad_count:,}"
    for line in plan.bad:
        yield f"  {line}"
    if plan.bad_count > len(plan.bad):
        yield f"  … and {plan.bad_count - len(plan.bad):,} more"


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain JSON values: amounts of money as text, in USD; what is not known is null."""
    lasting = plan.duration
    return {
        "name": plan.name,
        "items": plan.total,
        "repeated": plan.repeated,
        "settled": dict(plan.settled),
        "to_send": {"requests": plan.items, "pictures": plan.pictures},
        "models": [_model_json(plan, model) for model in plan.models],
        "cost": {
            "at_least": usd(plan.cost),
            "total": None if plan.unpriced else usd(plan.cost),
            "at_worst": None if plan.unpriced else usd(plan.cost_at_worst),
            "pictures_without_price": plan.unpriced,
        },
        "balance": usd(plan.account.balance),
        "balance_left": usd(plan.balance_left),
        "account_problem": plan.account.problem,
        "used_up_by": list(plan.used_up_by),
        "budget_problem": plan.budget_problem,
        "seconds": round(lasting.seconds, 1),
        "sending_seconds": round(lasting.sending_seconds, 1),
        "days": lasting.days,
        "requests_per_minute": round(lasting.per_minute, 2),
        "is_limited_by_account": lasting.is_limited,
        "requests_per_day": lasting.per_day,
        "concurrency": plan.concurrency,
        "disk_bytes": plan.disk,
        "free_bytes": plan.free,
        "notes": [{"problem": problem, "items": count} for problem, count in plan.problems.items()],
        "bad_lines": plan.bad_count,
        "bad": [{"line": bad.line, "problem": bad.problem} for bad in plan.bad],
    }


def _model_json(plan: Plan, model: ModelPlan) -> dict[str, Any]:
    source = "account" if model.model in plan.account.prices else "catalogue"
    return {
        "dialect": model.dialect,
        "model": model.model,
        "requests": model.items,
        "pictures": model.pictures,
        "price": usd(model.price),
        "price_source": None if model.price is None else source,
        "cost": usd(model.cost),
        "problem": model.problem,
    }


def usd(amount: Decimal | None) -> str | None:
    """Return an amount as plain digits, `None` for one that is not known."""
    return None if amount is None else f"{amount:f}"
