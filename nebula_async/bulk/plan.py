"""What a job will cost in money, time and room on the disk, before anything is sent. Pure: the clock is handed in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from attrs import field, frozen

from nebula_async.api.catalog import CATALOG, price_of
from nebula_async.bulk.budget import Budget, Spent
from nebula_async.bulk.folder import wanted_room
from nebula_async.bulk.manifest.census import Census
from nebula_async.bulk.manifest.items import BadLine
from nebula_async.config import Config
from nebula_async.engine.gate import workers_for
from nebula_async.engine.pace import HEADROOM
from nebula_async.engine.quota import DAY_SECONDS
from nebula_async.errors import JobError
from nebula_async.requests import ImageRequest

EXPECTED_SECONDS = 4.0
"""What a picture usually takes: healthy calls were seen to take 2 to 7 seconds."""

BYTES_PER_PIXEL = 1.5
"""A PNG of photographic contents: 1.5 MB for 1024 x 1024. Flat ones take a third of that, a JPEG a tenth."""

BYTES_PER_PICTURE = 2_048
"""What is written about each picture beside it: its row in the metadata and in the ledger."""


@frozen(kw_only=True)
class Account:
    """What the API said of the account: its balance, its prices, and the models that it offers (`None`: not asked).

    `problem` says why something is not known.
    """

    balance: Decimal | None = None
    prices: Mapping[str, Decimal] = field(factory=dict)
    offered: frozenset[str] | None = None
    problem: str | None = None

    def price_of(self, model: str) -> Decimal | None:
        """Return USD for a picture, by the account's own list where that has it; `None` where it is not known."""
        return self.prices.get(model, price_of(model))


@frozen(kw_only=True)
class ModelPlan:
    """What is to be asked of one model, and USD for a picture (`None`: not known); `problem` is about the model."""

    dialect: str
    model: str
    items: int
    pictures: int
    price: Decimal | None
    problem: str | None = None

    @property
    def cost(self) -> Decimal | None:
        """USD for all, `None` where the price is not known."""
        return None if self.price is None else self.pictures * self.price


@frozen(kw_only=True)
class Duration:
    """How long the requests take: seconds from now, and on how many days (UTC) some are sent; `sending_seconds` are
    those in which some are, without the waits for the next day.

    `per_minute` is what will leave in a minute. `is_limited` says that the account's limit is why, else it is an
    estimate from how many requests are under way at a time. `per_day` is the account's limit, if it has one.
    """

    seconds: float
    sending_seconds: float
    days: int
    per_minute: float
    is_limited: bool
    per_day: int | None


@frozen(kw_only=True)
class Plan:
    """What a job will do. `name` is its input.

    - `total`, `settled`, `repeated`: items, those of them with nothing left to send by how they ended, and those left
      out because an earlier one says the same under the same id
    - `models`: what is still to be sent
    - `bad`, `bad_count`: lines that must be mended first
    - `problems`: what will not be as it was asked for, and of how many items
    - `calls_at_worst`: how often each picture may be paid for, where outcomes stay unknown
    - `used_up_by`: limits of the budget that end the job before it is done; `budget_problem` says why it cannot be kept
    - `disk`: bytes that the pictures will take, an estimate; `free`: bytes that are free
    """

    name: str
    total: int
    settled: Mapping[str, int]
    repeated: int
    models: tuple[ModelPlan, ...]
    bad: tuple[BadLine, ...]
    bad_count: int
    problems: Mapping[str, int]
    calls_at_worst: int
    account: Account
    concurrency: int
    duration: Duration
    used_up_by: tuple[str, ...]
    budget_problem: str | None
    disk: int
    free: int | None

    @property
    def items(self) -> int:
        """Items, and so requests, that are still to be sent."""
        return sum(model.items for model in self.models)

    @property
    def pictures(self) -> int:
        """Pictures that are still to be made."""
        return sum(model.pictures for model in self.models)

    @property
    def cost(self) -> Decimal:
        """USD for those whose price is known: if some are `unpriced`, the cost is at least this."""
        return sum((model.cost for model in self.models if model.cost is not None), Decimal(0))

    @property
    def unpriced(self) -> int:
        """Pictures whose price is not known."""
        return sum(model.pictures for model in self.models if model.price is None)

    @property
    def cost_at_worst(self) -> Decimal:
        """USD, if every request is lost, paid for all the same, and sent again as often as it may be."""
        return self.cost * self.calls_at_worst

    @property
    def balance_left(self) -> Decimal | None:
        """USD that are left when all is done, negative where the balance is too small; `None`: not known."""
        return None if self.account.balance is None else self.account.balance - self.cost

    @property
    def fits_disk(self) -> bool:
        """Whether there is room, if that is known: for all, and at the end for those that are still under way."""
        under_way = wanted_room(min(self.concurrency, self.pictures))
        return self.free is None or self.pictures == 0 or self.disk + under_way <= self.free


def make_plan(
    census: Census,
    config: Config,
    *,
    name: str,
    now: float,
    account: Account | None = None,
    concurrency: int | None = None,
    used_today: int = 0,
    budget: Budget | None = None,
    spent: Spent | None = None,
    free: int | None = None,
) -> Plan:
    """Return what sending the items of a census will take, from `now` (Unix time) on.

    `used_today` requests of the daily limit are used already, and `spent` of the budget.
    """
    account, budget = account or Account(), budget or Budget()
    models = _models(census, account)
    workers = workers_for(config, concurrency)
    return Plan(
        name=name,
        total=census.total,
        settled=census.settled,
        repeated=len(census.repeated),
        models=models,
        bad=census.bad,
        bad_count=census.bad_count,
        problems=census.problems,
        calls_at_worst=calls_at_worst(config),
        account=account,
        concurrency=workers,
        duration=_duration(sum(model.items for model in models), config, workers, now, used_today),
        used_up_by=tuple(_used_up_by(models, budget, spent or Spent())),
        budget_problem=_budget_problem(models, budget),
        disk=_disk(census),
        free=free,
    )


def calls_at_worst(config: Config) -> int:
    """Return how often a picture may be paid for by one call at most."""
    retry = config.retry
    return 1 if config.idempotency == "replay" else min(1 + retry.resend_unknown, retry.attempts)


def _models(census: Census, account: Account) -> tuple[ModelPlan, ...]:
    return tuple(
        ModelPlan(
            dialect=dialect,
            model=model,
            items=share.items,
            pictures=share.pictures,
            price=account.price_of(model),
            problem=_about_model(dialect, model, account),
        )
        for (dialect, model), share in census.models.items()
    )


def _about_model(dialect: str, model: str, account: Account) -> str | None:
    """Return what is doubtful about a model of the serverless API; no list of the other one's models is known."""
    if dialect != ImageRequest.dialect:
        return None
    if account.offered is not None and model not in account.offered:
        return f"{model} is not in the API's list of models"
    return None if model in CATALOG else f"{model} is not in the catalogue: its parameters are sent unchecked"


def _duration(requests: int, config: Config, workers: int, now: float, used_today: int) -> Duration:
    possible = 60 * workers / EXPECTED_SECONDS
    allowed = math.inf if config.per_minute is None else HEADROOM * config.per_minute
    per_minute, per_day = min(possible, allowed), config.per_day
    seconds, days = lasting(requests, per_minute / 60, math.inf if per_day is None else per_day, now, used_today)
    return Duration(
        seconds=seconds + EXPECTED_SECONDS * (requests > 0),
        sending_seconds=60 * requests / per_minute + EXPECTED_SECONDS * (requests > 0),
        days=days,
        per_minute=per_minute,
        is_limited=allowed <= possible,
        per_day=per_day,
    )


def lasting(requests: int, per_second: float, per_day: float, now: float, used_today: int) -> tuple[float, int]:
    """Return the seconds and the days over which requests leave, where each day of UTC allows so many."""
    to_midnight = DAY_SECONDS - now % DAY_SECONDS
    today = math.floor(min(max(0, per_day - used_today), to_midnight * per_second))
    if not requests:
        return 0.0, 0
    if requests <= today:
        return requests / per_second, 1
    a_day = max(1, math.floor(min(per_day, DAY_SECONDS * per_second)))
    full, rest = divmod(requests - today - 1, a_day)
    return to_midnight + full * DAY_SECONDS + (rest + 1) / per_second, int(today > 0) + full + 1


def _budget_problem(models: Sequence[ModelPlan], budget: Budget) -> str | None:
    try:
        budget.check_prices(model.model for model in models if model.price is None)
    except JobError as error:
        return str(error)
    return None


def _used_up_by(models: Sequence[ModelPlan], budget: Budget, spent: Spent) -> list[str]:
    cost = spent.cost + sum((model.cost for model in models if model.cost is not None), Decimal(0))
    images = spent.images + sum(model.pictures for model in models)
    requests = spent.requests + sum(model.items for model in models)
    needs = {"max_cost": cost, "max_images": images, "max_requests": requests}
    limits = {name: getattr(budget, name) for name in needs}
    return [name for name, need in needs.items() if limits[name] is not None and need > limits[name]]


def _disk(census: Census) -> int:
    shares = census.models.values()
    return math.ceil(sum(share.pixels * BYTES_PER_PIXEL + share.pictures * BYTES_PER_PICTURE for share in shares))
