"""One client for a whole application, from its start to its end, beside what the application itself does there."""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias, TypedDict, Unpack

from starlette.requests import HTTPConnection, Request

from nebula_async.checks import shown
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, Tier, Timeouts
from nebula_async.engine.gate import Gate
from nebula_async.engine.transport import HttpTransport
from nebula_async.errors import ConfigurationError
from nebula_async.events import Observer
from nebula_async.integrations.web.answered import note_answers
from nebula_async.integrations.web.leaving import Policy, check_policy
from nebula_async.integrations.web.presence import Presence
from nebula_async.integrations.web.visit import noting
from nebula_async.integrations.web.visits import Visits, open_visits
from nebula_async.keys import KeySource
from nebula_async.requests import Request as PictureRequest
from nebula_async.results import Generation

State: TypeAlias = Mapping[str, Any]
Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[State | None]]
Run: TypeAlias = Callable[[Presence, PictureRequest, Callable[[], Awaitable[Generation]]], Awaitable[Generation]]
ClientSource: TypeAlias = AsyncNebula | Callable[[], AbstractAsyncContextManager[AsyncNebula]]

CLIENT, VISITS = "nebula", "nebula_visits"
"""What the state of an application, and of each request, holds them as."""


class ClientOptions(TypedDict, total=False):
    """The options of `AsyncNebula`, but for `gate`."""

    api_key: KeySource
    config: Config
    base_url: str
    timeout: float | Timeouts
    tier: Tier | str
    rate_limit: float
    concurrency: int
    transport: HttpTransport
    observer: Observer


def nebula_lifespan(
    own: Lifespan | None = None,
    *,
    client: ClientSource | None = None,
    gate: Gate | AbstractAsyncContextManager[Gate] | None = None,
    when_left: Policy = "cancel",
    grace_seconds: float = 20.0,
    **options: Unpack[ClientOptions],
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:
    """Return the lifespan of an application with one client: `FastAPI(lifespan=nebula_lifespan(timeout=60))`.

    `own` is the application's lifespan: it begins before the client is made, ends after that is closed, and what it
    yields is in the state of each request too. `options` are those of `AsyncNebula`; the key is `api_key` or
    `NEBULA_API_KEY`, and without one the application does not start. Instead of options, `client` is a client, which
    stays open at the end, or a callable that returns one, or a context manager of one. `gate` may be a context manager
    that yields one, such as `RedisGate(url)`.

    `when_left` says what becomes of a call of `generate` whose visitor leaves: "cancel" ends it, "ignore" lets it go on
    for nobody, `Finish(sink)` stores its pictures. When the application ends, or SIGTERM tells that it will, new calls
    are refused, and those under way have `grace_seconds` before they are cancelled.

    Raises `ConfigurationError`.
    """
    _check(own, client, gate, options)
    check_policy(when_left)
    _check_grace(grace_seconds)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            state = {} if own is None else await _enter_own(stack, own, app)
            options_now: dict[str, Any] = {**options, "gate": await _enter_gate(stack, gate)}
            nebula = await _enter_client(stack, client or partial(AsyncNebula, **options_now))
            visits = await stack.enter_async_context(open_visits(when_left, grace_seconds))
            note_answers(app)
            yield {**state, CLIENT: nebula, VISITS: visits}

    return lifespan


def nebula_of(connection: HTTPConnection) -> AsyncNebula:
    """Return the client of a request (`request.state.nebula`), whose `generate` obeys `when_left` for its visitor.

    Raises `ShuttingDown` (503) once the application ends, and `ConfigurationError` where there is no client.
    """
    nebula, visits = _found_on(connection)
    return _watched(nebula, connection, visits.call_in_turn)


async def nebula_in_turn(connection: HTTPConnection) -> AsyncNebula:
    """Return the same, once it is the request's turn to begin."""
    _, visits = _found_on(connection)
    await visits.take_turn()
    nebula, visits = _found_on(connection)  # the end may have begun meanwhile
    return _watched(nebula, connection, visits.call)


def _found_on(connection: HTTPConnection) -> tuple[AsyncNebula, Visits]:
    nebula: AsyncNebula | None = getattr(connection.state, CLIENT, None)
    visits: Visits | None = getattr(connection.state, VISITS, None)
    if nebula is None or visits is None:
        raise ConfigurationError(
            "this request has no client: make the application with lifespan=nebula_lifespan(), and let it start; a test"
            " does with `with TestClient(app) as client:`, and the lifespan of a mounted application is never run"
        )
    visits.check_open()
    return nebula, visits


def _watched(nebula: AsyncNebula, connection: HTTPConnection, run: Run) -> AsyncNebula:
    if not isinstance(connection, Request):  # what a WebSocket receives is for its route alone
        return nebula
    return nebula.inside(partial(run, Presence(connection)))


async def _enter_own(stack: AsyncExitStack, own: Lifespan, app: Any) -> dict[str, Any]:
    entered: State | None = await stack.enter_async_context(own(app))
    state = {} if entered is None else dict(entered)
    if taken := sorted({CLIENT, VISITS} & state.keys()):
        raise ConfigurationError(f"the application's own lifespan yields {', '.join(taken)}: give that another name")
    return state


async def _enter_gate(stack: AsyncExitStack, gate: Any) -> Gate | None:
    entered: Gate | None = await stack.enter_async_context(gate) if hasattr(gate, "__aenter__") else gate
    return entered


async def _enter_client(
    stack: AsyncExitStack, source: AsyncNebula | Callable[[], AbstractAsyncContextManager[AsyncNebula]]
) -> AsyncNebula:
    if isinstance(source, AsyncNebula):
        nebula = source
    else:
        nebula = await stack.enter_async_context(source())
    if not isinstance(nebula, AsyncNebula):
        raise ConfigurationError(f"client must be an AsyncNebula, or return one; got {shown(nebula)}")
    return nebula.with_options(observer=noting(nebula.generator.caller.notify))


def _check(own: object, client: object, gate: object, options: Mapping[str, Any]) -> None:
    if inspect.isasyncgenfunction(own) or inspect.isgeneratorfunction(own) or not (own is None or callable(own)):
        raise ConfigurationError(
            "the application's own lifespan must be a function that returns an async context manager, as"
            f" @asynccontextmanager makes one; got {shown(own)}"
        )
    if unknown := sorted(options.keys() - ClientOptions.__annotations__.keys()):
        known = ", ".join(sorted(ClientOptions.__annotations__))
        raise ConfigurationError(f"{', '.join(unknown)} is no option of AsyncNebula; those are {known}")
    if client is not None and (given := sorted(options) + ["gate"] * (gate is not None)):
        raise ConfigurationError(f"client= is made already: give {', '.join(given)} to it, not to nebula_lifespan")
    if not (client is None or callable(client) or isinstance(client, AsyncNebula)):
        raise ConfigurationError(f"client must be an AsyncNebula, or a callable that returns one; got {shown(client)}")


def _check_grace(seconds: Any) -> None:
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not (math.isfinite(seconds) and seconds >= 0):
        raise ConfigurationError(f"grace_seconds must be a number of seconds, 0 or more; got {shown(seconds)}")
