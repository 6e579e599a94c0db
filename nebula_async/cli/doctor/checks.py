"""All checks: at once, each within its time; what they find is in the order of this file, not of the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import anyio
from attrs import frozen

from nebula_async.cli.doctor.completed import look_at_completion
from nebula_async.cli.doctor.finding import Finding, fine, note, problem
from nebula_async.cli.doctor.key import look_at_key, usable_key
from nebula_async.cli.doctor.limits import look_at_limits
from nebula_async.cli.doctor.machine import look_at_disk, look_at_open_files
from nebula_async.cli.doctor.network import Network
from nebula_async.cli.doctor.state import look_at_state
from nebula_async.cli.doctor.untrusted import look_at_trust
from nebula_async.cli.doctor.versions import look_at_extras, look_at_libraries
from nebula_async.config import Config
from nebula_async.engine.abandon import abandonable

TOTAL_SECONDS = 9.0
"""After so long whoever is still looking is told off: who asks a doctor does not wait for the sickness to end."""


@frozen
class Place:
    """What is looked at: the configuration, the environment without what cannot be used, and what was found of it."""

    config: Config
    environ: Mapping[str, str]
    settings: tuple[Finding, ...]
    is_emulated: bool = False


@frozen
class Check:
    """Something to look at: what it is called, how to look, and where what is found goes."""

    about: str
    look: Callable[[list[Finding]], Awaitable[None]]


async def check_all(place: Place, *, seconds: float = TOTAL_SECONDS) -> list[Finding]:
    """Look at everything and return what was found. Nothing is raised, nothing takes longer than `seconds`, and no step
    on the way to a host longer than a third of that.
    """
    checks = _checks(place, step_seconds=seconds / 3)
    found: list[list[Finding]] = [[] for _ in checks]
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as group:
            for check, findings in zip(checks, found, strict=True):
                group.start_soon(_look, check, findings)
    return [finding for findings in found for finding in findings]


def _checks(place: Place, *, step_seconds: float) -> list[Check]:
    config, environ = place.config, place.environ
    key = usable_key(environ)
    of_key = fine("key", "the emulator's own") if place.is_emulated else look_at_key(environ)
    return [
        _beside("libraries", look_at_libraries),
        _beside("key", lambda: [of_key]),
        _beside("settings", lambda: list(place.settings)),
        _beside("trust", lambda: [look_at_trust(environ)]),
        Check("network", Network(config, key, _refused(place), step_seconds).look),
        _beside("limits", lambda: [look_at_limits(config, key)]),
        _beside("state", lambda: [look_at_state(config, environ)]),
        _beside("open files", lambda: [look_at_open_files(config)]),
        _beside("disk", lambda: [look_at_disk(Path.cwd())]),
        _beside("completion", lambda: [look_at_completion(environ)]),
        _beside("extras", look_at_extras),
    ]


def _refused(place: Place) -> frozenset[str]:
    """Return the variables that are set and cannot be used."""
    return frozenset(finding.about for finding in place.settings if finding.state == "problem")


def _beside(about: str, look: Callable[[], list[Finding]]) -> Check:
    """Return a check that asks the system, which may be long in answering, beside the event loop."""

    async def look_beside(findings: list[Finding]) -> None:
        findings += await abandonable(look)

    return Check(about, look_beside)


async def _look(check: Check, findings: list[Finding]) -> None:
    try:
        await check.look(findings)
    except anyio.get_cancelled_exc_class():
        text = "it did not end within the time that there is"
        findings.append(problem(check.about, text, "see what does not answer: the lines above, a drive, a name server"))
        raise
    except Exception as error:  # noqa: BLE001 - whatever a machine has in store, the other lines are worth having
        text = f"this could not be looked at: {type(error).__name__}: {error}"
        findings.append(note(check.about, text, "the other lines stand; please report this one"))
