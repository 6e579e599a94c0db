"""What calls are charged and how often they are sent while the service fails, in simulated time.

A gateway that cuts every reply after 60 seconds while the work goes on and is billed: how many charges a call costs,
and whether each call's `charges` hold the truth. And services that fail at rates from 0 to 100 %: how many requests
are sent for each call. The client is the real one, on trio's simulated clock; the service is a transport that counts
what it charges. Prints tables and exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter
from functools import partial
from random import Random
from typing import Any, TypeAlias

import anyio
import httpx
import trio
from attrs import define, field, frozen
from servers import picture
from trio.testing import MockClock

from nebula_async import AsyncNebula, NebulaError
from nebula_async.charges import Charges
from nebula_async.config import Config, RetryPolicy

SEED = 7
MODEL = "black-forest-labs/FLUX.1-schnell"
AT_ONCE = 64
PER_MINUTE = 60_000
"""Known and high, so that pacing stays out of what is measured."""

CUT_SECONDS, USUAL_SECONDS = 60.0, 3.0
CUT_CALLS, FAILING_CALLS = 1_000, 5_000
STEADY_AFTER = 100
"""Calls after which the budget that a client starts with is spent."""

MOST_AMPLIFIED, STARTING_RESENDS = 1.10, 10
RATES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 1.0)

ENVELOPE = b'{"status":"error","message":"something went wrong","data":null}'
PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

Policy: TypeAlias = dict[str, Any]
"""Settings of a client."""

POLICIES: dict[str, Policy] = {
    "default": {},
    "resend_unknown=0": {"retry": RetryPolicy(resend_unknown=0)},
    "replay": {"idempotency": "replay"},
}


SETTINGS: dict[str, tuple[float, dict[str, bool]]] = {
    "every request": (1.0, {"is_shared": True}),
    "every request, a client each": (1.0, {"is_shared": False}),
    "every second": (0.5, {"is_shared": True}),
}
"""At which rate requests are cut, and whether the calls share a client, and with it the retry budget."""


@frozen
class Failure:
    """One way to fail: after so many seconds a status with a body, or a connection that breaks (`status` is `None`).

    The work is billed with this probability; `is_connected` says whether the request gets as far as the service.
    """

    name: str
    seconds: float
    billed: float
    status: int | None = None
    body: bytes = b""
    is_connected: bool = True


CUTS = (
    Failure("dropped connection", CUT_SECONDS, 1.0),
    Failure("504", CUT_SECONDS, 1.0, 504, PAGE),
    Failure("slow 500", CUT_SECONDS, 1.0, 500, ENVELOPE),
    Failure("slow 502", CUT_SECONDS, 1.0, 502, ENVELOPE),
    Failure("slow 503", CUT_SECONDS, 1.0, 503, ENVELOPE),
)
FAILURES = (
    Failure("fast 502 page", 0.2, 0.0, 502, PAGE),
    Failure("no connection", 0.05, 0.0, is_connected=False),
    Failure("slow 500", 2.0, 0.3, 500, ENVELOPE),
)


@define(eq=False)
class Service(httpx.AsyncBaseTransport):
    """The service, as a transport: fails at a rate, and counts what it was sent and what it charged for each prompt.

    What it does is drawn from the prompt and the number of its attempt, so it does not depend on the order of things.
    A request under a key that it knows is not charged again.
    """

    failure: Failure
    rate: float
    sent: Counter[str] = field(factory=Counter, init=False)
    charged: Counter[str] = field(factory=Counter, init=False)
    _keys: set[str] = field(factory=set, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Take the request, work on it or fail, and charge."""
        prompt = json.loads(request.content)["prompt"]
        self.sent[prompt] += 1
        source = Random(f"{SEED} {prompt} {self.sent[prompt]}")  # noqa: S311
        is_failing = source.random() < self.rate
        await self._arrive(request, is_connected=self.failure.is_connected or not is_failing)
        if not is_failing or source.random() < self.failure.billed:
            self._charge(prompt, request.headers.get("idempotency-key"))
        if is_failing:
            return await self._fail(request)
        await anyio.sleep(USUAL_SECONDS * source.uniform(0.5, 1.5))
        await self._tell(request, "http11.receive_response_headers.complete")
        return httpx.Response(200, content=picture())

    async def _arrive(self, request: httpx.Request, *, is_connected: bool) -> None:
        await self._tell(request, "connection.connect_tcp.started")
        if is_connected:
            await self._tell(request, "connection.connect_tcp.complete")
            for part in ("headers", "body"):
                await self._tell(request, f"http11.send_request_{part}.started")
                await self._tell(request, f"http11.send_request_{part}.complete")

    def _charge(self, prompt: str, key: str | None) -> None:
        if key is None or key not in self._keys:
            self.charged[prompt] += 1
        self._keys |= set() if key is None else {key}

    async def _fail(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep(self.failure.seconds)
        if not self.failure.is_connected:
            raise httpx.ConnectError("connection refused")
        if self.failure.status is None:
            raise httpx.RemoteProtocolError("server disconnected without sending a response")
        await self._tell(request, "http11.receive_response_headers.complete")
        return httpx.Response(self.failure.status, content=self.failure.body)

    async def _tell(self, request: httpx.Request, event: str) -> None:
        await request.extensions["trace"](event, {})


@define(eq=False)
class Outcome:
    """What became of the calls of one run: what each says that it cost, what it did cost, and how often it was sent."""

    service: Service
    told: dict[str, Charges] = field(factory=dict, init=False)
    succeeded: int = field(default=0, init=False)

    @property
    def charges(self) -> list[int]:
        """The charges of each call, in truth."""
        return [self.service.charged[prompt] for prompt in self.told]

    @property
    def wrong(self) -> int:
        """How many calls say that they cost what they did not."""
        return sum(
            not told.at_least <= self.service.charged[prompt] <= told.at_most for prompt, told in self.told.items()
        )

    def sends(self, after: int = 0) -> int:
        """How often the calls from this one on were sent."""
        return sum(self.service.sent[name_of(number)] for number in range(after, len(self.told)))


def main() -> int:
    """Measure, print, and say whether all targets were reached."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--share", type=float, default=1.0, help="of the calls, for a quick look")
    share = options.parse_args().share
    missed = [*cuts(int(CUT_CALLS * share)), *amplifications(int(FAILING_CALLS * share))]
    print("\n" + ("\n".join(f"missed: {row}" for row in missed) or "all targets reached"))
    return 1 if missed else 0


def cuts(calls: int) -> list[str]:
    """Print what a call costs while the gateway cuts it off and the work is billed; return the rows that missed."""
    print(f"The gateway cuts replies after {CUT_SECONDS:g} s and the work is billed; {calls} calls a figure\n")
    print("charges a call (most of one call)\n")
    print(f"| cut as | policy | {' | '.join(SETTINGS)} | `charges` wrong |\n|---|---|---|---|---|---|")
    missed = []
    for cut, (policy, settings) in itertools.product(CUTS, POLICIES.items()):
        done = [run(Service(cut, rate), calls, settings, **shared) for rate, shared in SETTINGS.values()]
        figures = [f"{sum(each.charges) / calls:.3f} ({max(each.charges)})" for each in done]
        wrong = sum(each.wrong for each in done)
        print(f"| {cut.name} | {policy} | {' | '.join(figures)} | {wrong} |", flush=True)
        allowed = {1, 2} if policy == "default" else {1}
        if wrong or not all(allowed.issuperset(each.charges) for each in done):
            missed.append(f"{cut.name}, {policy}")
    return missed


def amplifications(calls: int) -> list[str]:
    """Print how many requests are sent for a call at each rate of failure; return the rows that missed."""
    print(f"\nThe service fails at a rate; {calls} calls a row, one client, {AT_ONCE} at once\n")
    print(f"| failure | rate | sent a call | after the first {STEADY_AFTER} | `charges` wrong | pictures |")
    print("|---|---|---|---|---|---|")
    missed = []
    for failure, rate in itertools.product(FAILURES, RATES):
        done = run(Service(failure, rate), calls, {}, is_shared=True)
        row = f"{failure.name} | {rate:.0%}"
        steady = done.sends(STEADY_AFTER) / max(calls - STEADY_AFTER, 1)
        print(f"| {row} | {done.sends() / calls:.3f} | {steady:.3f} | {done.wrong} | {done.succeeded} |", flush=True)
        is_over = done.sends() > MOST_AMPLIFIED * calls + STARTING_RESENDS
        if steady > MOST_AMPLIFIED or is_over or done.wrong:
            missed.append(row.replace(" |", ","))
    return missed


def run(service: Service, calls: int, settings: Policy, *, is_shared: bool) -> Outcome:
    """Make so many calls, some at a time, in simulated time."""
    make = partial(make_calls, service, calls, settings, is_shared=is_shared)
    return trio.run(make, clock=MockClock(autojump_threshold=0))


async def make_calls(service: Service, calls: int, settings: Policy, *, is_shared: bool) -> Outcome:
    """Make so many calls, some at a time, through one client or through one for each."""
    outcome, numbers = Outcome(service), iter(range(calls))
    async with client_of(service, settings) as shared, anyio.create_task_group() as group:

        async def work() -> None:
            for number in numbers:
                if is_shared:
                    await call(shared, outcome, name_of(number))
                    continue
                async with client_of(service, settings) as nebula:
                    await call(nebula, outcome, name_of(number))

        for _ in range(AT_ONCE):
            group.start_soon(work)
    return outcome


async def call(nebula: AsyncNebula, outcome: Outcome, prompt: str) -> None:
    """Make one call and keep what it says that it cost."""
    try:
        generation = await nebula.generate(prompt, model=MODEL)
    except NebulaError as error:
        outcome.told[prompt] = error.charges
    else:
        outcome.told[prompt] = generation.charges
        outcome.succeeded += 1


def client_of(service: Service, settings: Policy) -> AsyncNebula:
    """Return a client of the service."""
    config = Config(rate_limit=PER_MINUTE, concurrency=AT_ONCE, **settings)
    return AsyncNebula("sk-emulator", config=config, transport=service)


def name_of(number: int) -> str:
    """Return the prompt of a call."""
    return f"call {number}"


if __name__ == "__main__":
    sys.exit(main())
