"""What all commands have in common: where the API is, and how errors end a command."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
from attrs import evolve, frozen
from cyclopts import Group, Parameter

from nebula_async.cli.notices import Notice, is_worth_a_line, notice_of
from nebula_async.cli.output import say
from nebula_async.cli.parameters import TierName
from nebula_async.cli.sharing import shared_gate
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, SharedBy, Tier
from nebula_async.engine.verdict import is_fatal
from nebula_async.errors import (
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    InvalidRequestError,
    JobError,
    NebulaError,
    RateLimitError,
)
from nebula_async.events import Event, log_event
from nebula_async.urls import is_loopback, read_url

if TYPE_CHECKING:
    from nebula_async.emulator import Emulator

USAGE, STOPPED, INTERRUPTED = 2, 3, 130

LATENCY, CREDIT = 0.1, "1000000"
"""A tenth of the usual times, and more credit than any tour spends."""

Switch = Parameter(negative="", show_default=False)

Place = Parameter(group=Group("Connection", sort_key=3))


@frozen(kw_only=True)
class Connection:
    """Where the API is, and as whom it is called."""

    base_url: Annotated[str | None, Place] = None
    "The serverless API, up to and with /api/v1; else NEBULA_BASE_URL, or Nebula Block's own."
    inference_url: Annotated[str | None, Place] = None
    "The inference API, up to and with /v1; else NEBULA_INFERENCE_URL, or Nebula Block's own."
    tier: Annotated[TierName | None, Place] = None
    "The account's tier, whose limits are kept to; else NEBULA_TIER, and without it the limit is found out."
    timeout: Annotated[float | None, Place] = None
    "The longest a call may take, waits included, in seconds; else NEBULA_TIMEOUT, or 300."
    idempotency: Annotated[Literal["off", "unknown", "replay"] | None, Place] = None
    "Whether an Idempotency-Key is sent; else it is off. With replay the server promises one charge for each key."
    never_twice: Annotated[bool, Switch, Place] = False
    "Repeat nothing that may have been paid for."
    emulator: Annotated[bool, Switch, Place] = False
    "Run against a Nebula Block of this command's own: no key, no money."


def say_notice(notice: Notice) -> None:
    """Say what happened, if it is worth a line."""
    if is_worth_a_line(notice):
        say(notice.text)


@asynccontextmanager
async def connected(
    connection: Connection, *, concurrency: int | None = None, notify: Callable[[Notice], None] = say_notice
) -> AsyncIterator[AsyncNebula]:
    """Give a client of the API, or of an emulator that lives as long and whose account is told at the end.

    `notify` is told what happens meanwhile, on the event loop.
    """

    def observe(event: Event) -> None:
        log_event(event)
        if (notice := notice_of(event)) is not None:
            notify(notice)

    with placed(connection, configured(connection, concurrency), notify) as (config, key):
        async with (
            shared_gate(config, observe, is_emulated=connection.emulator) as gate,
            AsyncNebula(key, config=config, gate=gate, observer=observe) as nebula,
        ):
            yield nebula


@contextmanager
def placed(
    connection: Connection, config: Config, notify: Callable[[Notice], None] = say_notice
) -> Iterator[tuple[Config, str | None]]:
    """Give where a command goes, and with which key if not the user's: those of an emulator that lives as long."""
    if not connection.emulator:
        yield config, None
        return
    with _emulated(config.tier, notify) as emulator:
        yield _emulator_config(config, emulator), emulator.key


def configured(
    connection: Connection, concurrency: int | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Return the configuration that the options and the environment ask for. Raises `ConfigurationError`."""
    urls = {"--base-url": connection.base_url, "--inference-url": connection.inference_url}
    if connection.emulator and (given := [option for option, url in urls.items() if url is not None]):
        raise ConfigurationError(f"--emulator and {given[0]} name two servers; give one of them")
    config = Config.from_env(environ)
    options = {
        "base_url": connection.base_url,
        "inference_url": connection.inference_url,
        "tier": connection.tier,
        "timeouts": None if connection.timeout is None else evolve(config.timeouts, total=connection.timeout),
        "concurrency": concurrency,
        "idempotency": connection.idempotency,
        "retry": evolve(config.retry, resend_unknown=0) if connection.never_twice else None,
    }
    chosen: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    config = evolve(config, **chosen)
    return evolve(config, shared_by=_sharing(config, is_emulated=connection.emulator))


def _sharing(config: Config, *, is_emulated: bool) -> SharedBy:
    """Return who keeps to the limit together: all commands of this host, unless what they call is an emulator on it."""
    if is_emulated:
        return "process"
    if "NEBULA_SHARED_BY" in os.environ:
        return config.shared_by
    host = read_url(config.base_url).hostname
    return "process" if is_loopback(host or "") else "host"


def _emulator_config(config: Config, emulator: Emulator) -> Config:
    return evolve(
        config,
        base_url=emulator.base_url,
        inference_url=emulator.inference_url,
        allowed_image_hosts=(emulator.storage_host,),
    )


@contextmanager
def _emulated(tier: Tier | None, notify: Callable[[Notice], None]) -> Iterator[Emulator]:
    from nebula_async.emulator import Emulator

    with Emulator(tier=tier.name if tier else None, latency=LATENCY, credit=CREDIT) as emulator:
        try:
            yield emulator
        finally:
            journal = emulator.journal
            text = (
                f"the emulator's journal: generation requests {len(journal.generations)},"
                f" pictures charged {journal.charged}, USD {journal.spent}"
            )
            notify(Notice("emulator", text))


def run(command: Callable[..., Awaitable[int]], *arguments: Any) -> int:
    """Run a command on an event loop to its exit code; an error that users can meet is one sentence on stderr."""
    return ended(anyio.run, command, *arguments)


def ended(command: Callable[..., int], *arguments: Any) -> int:
    """Run a command to its exit code, as `run` does, without an event loop."""
    try:
        return command(*arguments)
    except NebulaError as error:
        say(f"nebula-async: {error}")
        for url in _urls(error):
            say(f"a picture that was not fetched: {url}")
        return exit_code(error)
    except OSError as error:
        place = "" if error.filename is None else f" ({error.filename})"
        say(f"nebula-async: {error.strerror or error}{place}")
        return USAGE
    except KeyboardInterrupt:
        say("nebula-async: interrupted; a request that was under way may have been paid for")
        return INTERRUPTED


def _urls(error: NebulaError) -> list[str]:
    """Return where pictures lie that were paid for and could not be fetched."""
    return [image.url for image in error.images if image.url] if isinstance(error, DownloadError) else []


def exit_code(error: NebulaError) -> int:
    """Return how a command ends: 2 what was asked is wrong, 3 nothing would succeed now, 1 this one failed."""
    is_quota = isinstance(error, RateLimitError) and error.is_daily
    is_disk = isinstance(error, JobError) and error.charges.at_most > 0
    if is_quota or is_disk or isinstance(error, BudgetExceededError) or is_fatal(error):
        return STOPPED
    return USAGE if isinstance(error, ConfigurationError | InvalidRequestError | JobError) else 1
