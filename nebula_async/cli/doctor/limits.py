"""The account's limits that are in force, and what was used of them today."""

from __future__ import annotations

from attrs import evolve

from nebula_async.cli.doctor.finding import Finding, fine, note, problem
from nebula_async.client import AsyncNebula
from nebula_async.config import TIERS, Config
from nebula_async.engine.gate import Limits
from nebula_async.engine.host_store import FILE, state_folders
from nebula_async.keys import ApiKey
from nebula_async.quantities import counted, duration


def look_at_limits(config: Config, key: ApiKey | None) -> Finding:
    """Return the limits as a run would begin with them."""
    limits = _believed(config, key)
    facts = {
        "tier": config.tier.name if config.tier else None,
        "per_minute": limits.known_per_minute,
        "per_day": limits.per_day,
        "used_today": limits.used_today,
        "concurrency": limits.concurrency,
    }
    text = _told(config, limits)
    if limits.closed_seconds > 0:
        advice = f"the day ends at 00:00 UTC, in {duration(limits.closed_seconds)}; a job waits for that by itself"
        return problem("limits", f"{text}: nothing more is accepted today", advice, **facts)
    if limits.held_seconds > 0:
        advice = f"everything waits for {duration(limits.held_seconds)}, because the API refused requests"
        return note("limits", text, advice, **facts)
    if limits.known_per_minute is None:
        advice = f"export NEBULA_TIER=… ({', '.join(TIERS)}), so that no request is refused as one too many"
        return note("limits", text, advice, **facts)
    return fine("limits", text, **facts)


def _believed(config: Config, key: ApiKey | None) -> Limits:
    """Return the limits; what commands of this host share is read, and not made where it is not there."""
    is_there = any((folder / FILE).is_file() for folder in state_folders())
    config = config if is_there and key is not None else evolve(config, shared_by="process")
    return AsyncNebula(key.reveal() if key else "none", config=config).limits


def _told(config: Config, limits: Limits) -> str:
    tier = f"tier {config.tier.name}: " if config.tier else ""
    known = limits.known_per_minute
    minute = "no limit is known" if known is None else f"{known:g} requests a minute"
    day = "" if limits.per_day is None else f", {limits.per_day:,} a day"
    used = f"; {counted(limits.used_today, 'request')} today, as far as this host knows" if limits.used_today else ""
    return f"{tier}{minute}{day}, {limits.concurrency} at a time{used}"
