"""Whether an application can make pictures now, told to those who watch over it; asking buys nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import anyio
from attrs import asdict, define, field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nebula_async.checks import shown
from nebula_async.client import AsyncNebula
from nebula_async.errors import ConfigurationError, NebulaError, cause_of
from nebula_async.integrations.web.lifespan import CLIENT, VISITS
from nebula_async.integrations.web.visits import Visits

logger = logging.getLogger(__name__)

NO_STORE = {"Cache-Control": "no-store"}
CREDITS_SECONDS = 5.0
"""How long the API may take to tell the balance: who asks about health is not kept waiting."""


@define(eq=False)
class Credits:
    """The balance, asked for at most once in so many seconds, by one at a time."""

    every_seconds: float
    _amount: str | None = field(default=None, init=False)
    _asked_at: float = field(default=-math.inf, init=False)
    _asking: bool = field(default=False, init=False)

    async def read(self, nebula: AsyncNebula) -> str | None:
        """Return the balance in USD as it was told last, `None` where it is not known."""
        if not self._asking and anyio.current_time() - self._asked_at >= self.every_seconds:
            self._asking = True
            try:
                await self._ask(nebula)
            finally:
                self._asking, self._asked_at = False, anyio.current_time()
        return self._amount

    async def _ask(self, nebula: AsyncNebula) -> None:
        try:
            self._amount = f"{await nebula.with_options(timeout=CREDITS_SECONDS).credits():f}"
        except NebulaError as error:
            self._amount = None
            logger.warning("the balance is not known: %s", cause_of(error))


def health_routes(path: str = "/health", *, credits_seconds: float | None = None) -> list[Route]:
    """Return two routes, for `Starlette(routes=…)`, `FastAPI(routes=…)` or `app.router.routes.extend(…)`.

    `{path}/live` answers 200 as long as the process answers at all. `{path}/ready` answers 200 while the application
    takes new calls, and 503 once it ends; its JSON has the limits as they are believed (`Limits`), and how many calls
    are under way for visitors, with them and without. A day that is over, or a hold, is no 503: no other process would
    do better, and what this one serves beside pictures goes on; `state` says "closed" or "held" then.

    With `credits_seconds` the balance is among it, asked of the API at most that often. Neither route buys anything, or
    tells a key, a prompt or a URL.
    """
    if credits_seconds is not None and not credits_seconds > 0:
        raise ConfigurationError(f"credits_seconds must be above 0; got {shown(credits_seconds)}")
    credit = None if credits_seconds is None else Credits(credits_seconds)

    async def live(_request: Request) -> Response:
        return JSONResponse({"state": "live"}, headers=NO_STORE)

    async def ready(request: Request) -> Response:
        nebula: AsyncNebula | None = getattr(request.state, CLIENT, None)
        visits: Visits | None = getattr(request.state, VISITS, None)
        if nebula is None or visits is None:
            return JSONResponse({"state": "not started"}, 503, NO_STORE)
        facts = _facts(nebula, visits)
        if credit is not None:
            facts["credits"] = await credit.read(nebula)
        return JSONResponse(facts, 503 if visits.is_draining else 200, NO_STORE)

    base = path.rstrip("/")
    return [Route(f"{base}/live", live), Route(f"{base}/ready", ready)]


def _facts(nebula: AsyncNebula, visits: Visits) -> dict[str, Any]:
    limits = nebula.limits
    states = {"draining": visits.is_draining, "closed": limits.closed_seconds > 0, "held": limits.held_seconds > 0}
    told: Sequence[str] = [name for name, is_so in states.items() if is_so]
    return {
        "state": next(iter(told), "ready"),
        "visits": {"running": len(visits.running), "departed": visits.departed},
        "limits": {name: value if math.isfinite(value or 0) else None for name, value in asdict(limits).items()},
    }
